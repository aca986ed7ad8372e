"""RoIAlign with a maximum and deformable RoI pooling against the values in mmcv's own tests and against plain loops."""
import pytest
import torch
from mmcv.ops import DeformRoIPoolPack, deform_roi_pool, roi_align, roi_pool

from ...helpers import operators as reference
from ...helpers.operators import DEVICES, HALVES

ROIS = [[0., 0.3, 0.9, 5.2, 4.1], [1., -3., -1., 9., 6.], [0., 2.2, 1.3, 3.1, 5.9]]
# features, RoI, output and gradient of a sum, from mmcv's tests/test_ops/test_deform_roi_pool.py
PUBLISHED = [([[1., 2.], [3., 4.]], [0., 0., 0., 1., 1.], [[1., 1.25], [1.5, 1.75]], [[3.0625, .4375], [.4375, .0625]]),
             ([[1., 2., 5., 6.], [3., 4., 7., 8.], [9., 10., 13., 14.], [11., 12., 15., 16.]], [0., 0., 0., 3., 3.],
              [[1.9375, 4.75], [7.5625, 10.375]],
              [[.47265625, .4296875, .4296875, .04296875], [.4296875, .390625, .390625, .0390625],
               [.4296875, .390625, .390625, .0390625], [.04296875, .0390625, .0390625, .00390625]])]


def features(device='cpu', dtype=torch.float64):
    return torch.randn(2, 3, 5, 6, dtype=torch.float64).to(device, dtype).requires_grad_()


@pytest.mark.parametrize('device', DEVICES)
def test_deformable_pooling_has_mmcvs_published_values(device):
    for image, roi, expected, gradient in PUBLISHED:
        image = torch.tensor([[image]], device=device, requires_grad=True)
        layer = DeformRoIPoolPack((2, 2), 1, deform_fc_channels=4, spatial_scale=1., sampling_ratio=2).to(device)
        output = layer(image, torch.tensor([roi], device=device))
        output.backward(torch.ones_like(output))
        assert output.tolist() == [[expected]]
        torch.testing.assert_close(image.grad.cpu(), torch.tensor([[gradient]]))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('ratio', [0, 2])
def test_deformable_pooling_is_its_definition(ratio, device):
    image, rois = features(device), torch.tensor(ROIS, dtype=torch.float64, device=device)
    for offset in (None, torch.randn(3, 2, 2, 3, dtype=torch.float64, device=device)):
        found = deform_roi_pool(image, rois, offset, (2, 3), 0.9, ratio, 0.3)
        on_cpu = None if offset is None else offset.cpu()
        expected = reference.pooled(image.cpu(), rois.cpu(), on_cpu, (2, 3), 0.9, ratio, 0.3, lambda x: x.mean(0))
        torch.testing.assert_close(found.cpu(), expected)
        weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view(found.shape)
        torch.testing.assert_close(torch.autograd.grad((found.cpu() * weights).sum(), image)[0],
                                   torch.autograd.grad((expected * weights).sum(), image)[0])


def test_gradients_of_offsets_are_those_of_differences():
    offset = torch.randn(3, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, o: deform_roi_pool(x, rois, o, (2, 3), 0.9, 2, 0.3), (features(), offset))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_with_a_maximum_is_its_definition(ratio, device):
    image, rois = features(device), torch.tensor(ROIS, dtype=torch.float64, device=device)
    found = roi_align(image, rois, (2, 3), 0.9, ratio, 'max', True)
    expected = reference.pooled(image.cpu(), rois.cpu(), None, (2, 3), 0.9, ratio, 0., lambda samples: samples.amax(0))
    torch.testing.assert_close(found.cpu(), expected)
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view(found.shape)
    torch.testing.assert_close(torch.autograd.grad((found.cpu() * weights).sum(), image)[0],
                               torch.autograd.grad((expected * weights).sum(), image)[0])


@pytest.mark.parametrize('device', DEVICES)
def test_roi_pool_has_mmcvs_published_values(device):
    # From mmcv's tests/test_ops/test_roi_pool.py; a bin without pixels is 0.
    image = torch.tensor(PUBLISHED[1][0], device=device).view(1, 1, 4, 4).requires_grad_()
    rois = torch.tensor([[0., 0., 0., 3., 3.], [0., 9., 9., 12., 12.], [0., 2., 0., 2., 1.]], device=device)
    output = roi_pool(image, rois, (2, 2), 1.)
    assert output[:, 0].tolist() == [[[4., 8.], [12., 16.]], [[0., 0.], [0., 0.]], [[5., 5.], [7., 7.]]]
    output[:2].sum().backward()
    assert image.grad[0, 0].tolist() == [[0., 0., 0., 0.], [0., 1., 0., 1.], [0., 0., 0., 0.], [0., 1., 0., 1.]]


def test_gradients_of_roi_pool_are_those_of_differences():
    rois = torch.tensor(ROIS, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, rois, (2, 3), 0.9), features())


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_is_rounded_once(dtype, device):
    image, rois = features(device, dtype), torch.tensor(ROIS, device=device).to(dtype)
    exact = image.detach().double().requires_grad_()
    for pool in (lambda x, rois: deform_roi_pool(x, rois, None, (2, 2), 1., 2, .1),
                 lambda x, rois: roi_align(x, rois, (2, 2), 1., 2, 'max', True)):
        found, expected = pool(image, rois), pool(exact, rois.double())
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected.to(dtype))
        gradient, = torch.autograd.grad(found.sum(), image)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), exact)[0].to(dtype), atol=2e-2, rtol=1e-2)
