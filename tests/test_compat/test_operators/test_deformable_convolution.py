"""Deformable convolutions against the values in mmcv's own tests and against the definition, one product at a time."""
import pytest
import torch
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv2d, modulated_deform_conv2d

from coma_mm.errors import UserError

from ...helpers import operators as reference
from ...helpers.operators import DEVICES, HALVES

SETTINGS = [dict(stride=1, padding=1, dilation=1, groups=1, offset_groups=1),
            dict(stride=2, padding=0, dilation=2, groups=2, offset_groups=2)]


def inputs(settings, device='cpu', dtype=torch.float64):
    """Image, offsets, masks, weight and bias, with samples in and out of the image, none of them at a pixel."""
    image, size = ((6, 5), (2, 2)) if settings['stride'] == 2 else ((3, 2), (4, 3))
    groups = settings['offset_groups']
    shapes = (2, 2, *image), (2, 2 * groups * 4, *size), (2, groups * 4, *size), (4, 2 // settings['groups'], 2, 2), (4, )
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    tensors[1] = (tensors[1] * 2).floor() + 0.25 + torch.rand(tensors[1].shape, dtype=torch.float64) / 2
    return [one.to(device, dtype).requires_grad_() for one in tensors]


def modulated(settings):
    values = [settings[name] for name in ('stride', 'padding', 'dilation', 'groups', 'offset_groups')]
    return lambda input, offset, mask, weight, bias: modulated_deform_conv2d(input, offset, mask, weight, bias, *values)


def plain(settings):
    values = [settings[name] for name in ('stride', 'padding', 'dilation', 'groups', 'offset_groups')]
    return lambda input, offset, weight: deform_conv2d(input, offset, weight, *values)


def gradients(function, tensors):
    output = function(*tensors)
    # Exact in all types.
    grad = torch.randint(-8, 9, output.shape, generator=torch.Generator().manual_seed(0)).to(output) / 8
    return output, *torch.autograd.grad(output, tensors, grad)


@pytest.mark.parametrize('device', DEVICES)
def test_plain_convolution_has_mmcvs_published_values(device):
    layer = DeformConv2dPack(1, 1, kernel_size=2, stride=1, padding=0)
    layer.conv_offset.weight.data = torch.tensor([
        [.1, .4, .6, .1], [.3, .2, .1, .3], [.5, .5, .2, .8], [.8, .3, .9, .1], [.3, .1, .2, .5], [.3, .7, .5, .3],
        [.6, .2, .5, .3], [.4, .1, .8, .4]]).view(8, 1, 2, 2)
    layer.conv_offset.bias.data = torch.tensor([.7, .1, .8, .5, .6, .5, .4, .7])
    layer.weight.data = torch.tensor([.4, .2, .1, .9]).view(1, 1, 2, 2)
    layer.to(device)
    image = torch.tensor([[[[1., 2., 3.], [0., 1., 2.], [3., 5., 2.]]]], device=device, requires_grad=True)
    output = layer(image)
    output.backward(torch.ones_like(output))
    close = dict(rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(output.cpu(), torch.tensor([[[[1.65, 0.], [0., 0.]]]]), **close)
    torch.testing.assert_close(image.grad.cpu(), torch.tensor(
        [[[[-.666, .204, 0.], [.030, -.416, .012], [0., .252, .129]]]]), **close)
    torch.testing.assert_close(layer.conv_offset.bias.grad.cpu(), torch.tensor(
        [1.44, -.72, 0., 0., -.10, -.08, -.54, -.54]), **close)
    torch.testing.assert_close(layer.weight.grad.cpu(), torch.tensor([[[[3.62, 0.], [.40, .18]]]]), **close)


@pytest.mark.parametrize('device', DEVICES)
def test_modulated_convolution_has_mmcvs_published_values(device):
    # Its offsets begin as zeros, so that samples of the padding lie exactly a pixel outside.
    layer = ModulatedDeformConv2dPack(1, 1, kernel_size=2, stride=1, padding=1, bias=False).to(device)
    layer.weight.data.fill_(1.)
    image = torch.tensor([[[[1., 2., 3.]] * 3]], device=device, requires_grad=True)
    output = layer(image)
    output.sum().backward()
    row = [1., 3., 5., 3.]
    assert output.tolist() == [[[[.5, 1.5, 2.5, 1.5], row, row, [.5, 1.5, 2.5, 1.5]]]]
    assert image.grad.tolist() == [[[[2.] * 3] * 3]] and layer.weight.grad.tolist() == [[[[9.] * 2] * 2]]
    assert layer.conv_offset.bias.grad.tolist() == [-3, -1.5, -3, -1.5, -3, -1.5, -3, -1.5, 4.5, 4.5, 4.5, 4.5]
    of_weight = layer.conv_offset.weight.grad
    assert of_weight[:3, 0].tolist() == [[[-7, -4], [0, 0]], [[-9, 7.5], [-6, 5]], [[-4, -7], [0, 0]]]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('settings', SETTINGS)
def test_convolutions_are_their_definition(settings, device):
    tensors = inputs(settings)
    on_device = [one.detach().to(device).requires_grad_() for one in tensors]
    expected = gradients(lambda *x: reference.deform_conv(*x, *settings.values()), tensors)
    found = gradients(modulated(settings), on_device)
    torch.testing.assert_close([one.cpu() for one in found], [*expected])

    image, offset, _, weight, _ = tensors
    expected = gradients(lambda x, o, w: reference.deform_conv(x, o, None, w, None, *settings.values()),
                         (image, offset, weight))
    found = gradients(plain(settings), [on_device[i] for i in (0, 1, 3)])
    torch.testing.assert_close([one.cpu() for one in found], [*expected])


def test_gradients_are_those_of_differences():
    tensors = inputs(SETTINGS[1])
    assert torch.autograd.gradcheck(modulated(SETTINGS[1]), tensors, fast_mode=True)
    assert torch.autograd.gradcheck(plain(SETTINGS[1]), [tensors[i] for i in (0, 1, 3)], fast_mode=True)


def test_each_gradient_comes_alone_too():
    # mmcv asks for the weight's apart from the others', of which it is a by-product.
    tensors = [inputs(SETTINGS[0])[i] for i in (0, 1, 3)]
    output = plain(SETTINGS[0])(*tensors)
    first, second = torch.randn_like(output), torch.randn_like(output)
    expected = [torch.autograd.grad(output, tensors, grad, retain_graph=True) for grad in (first, second)]
    torch.autograd.grad(output, tensors[0], first, retain_graph=True)  # its by-product is not the next one's
    alone, = torch.autograd.grad(output, tensors[2], second, retain_graph=True)
    torch.testing.assert_close(alone, expected[1][2])
    assert not torch.allclose(alone, expected[0][2])


def test_offsets_of_a_larger_map_are_read_as_they_lie_in_memory_as_in_mmcv():
    # DyHead convolves a coarser level with the offsets of the finer one.
    settings = SETTINGS[0]
    image, offset, mask, weight, bias = inputs(settings)
    larger = [torch.randn(2, channels, 5, 4, dtype=torch.float64, requires_grad=True) for channels in (8, 4)]
    with torch.no_grad():
        for large, small in zip(larger, (offset, mask), strict=True):
            large.view(2, -1)[:, :small[0].numel()] = small.view(2, -1)
    expected = gradients(modulated(settings), (image, offset, mask, weight, bias))
    found = gradients(modulated(settings), (image, *larger, weight, bias))
    for i in (0, 1, 4, 5):
        torch.testing.assert_close(found[i], expected[i])
    for i in (2, 3):
        used = expected[i][0].numel()
        torch.testing.assert_close(found[i].view(2, -1)[:, :used], expected[i].view(2, -1))
        assert found[i].view(2, -1)[:, used:].abs().max() == 0
    with pytest.raises(UserError, match=r'offset of shape \(2, 8, 3, 3\): expected at least \(2, 8, 4, 3\)'):
        modulated(settings)(image, torch.zeros(2, 8, 3, 3).double(), mask, weight, bias)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_is_rounded_once(dtype, device):
    tensors = inputs(SETTINGS[0], device, dtype)
    exact = [one.detach().double().requires_grad_() for one in tensors]
    with torch.autocast(device, torch.bfloat16):
        found = gradients(modulated(SETTINGS[0]), tensors), gradients(plain(SETTINGS[0]), [tensors[i] for i in (0, 1, 3)])
    for ours, convolve, chosen in zip(found, (modulated, plain), ((0, 1, 2, 3, 4), (0, 1, 3)), strict=True):
        for one, expected in zip(ours, gradients(convolve(SETTINGS[0]), [exact[i] for i in chosen]), strict=True):
            assert one.dtype == dtype
            torch.testing.assert_close(one, expected.to(dtype))
