"""Multi-scale deformable attention against its definition and against mmcv's own version for a CPU."""
import pytest
import torch
from mmcv.ops import multi_scale_deform_attn as mmcv_module
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch

from ...helpers import operators as reference
from ...helpers.operators import DEVICES, HALVES

SHAPES = [(3, 4), (2, 1)]


def inputs(device='cpu', dtype=torch.float64):
    """Maps of two levels, three heads of two channels and two queries; samples also outside."""
    value = torch.randn(2, 14, 3, 2, device=device, dtype=torch.float64)
    locations = torch.rand(2, 2, 3, 2, 2, 2, device=device, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(2, 2, 3, 2, 2, device=device, dtype=torch.float64)
    return [one.to(dtype).requires_grad_() for one in (value, locations, weights)]


def attend(value, locations, weights):
    shapes = torch.tensor(SHAPES, device=value.device)
    return MultiScaleDeformableAttnFunction.apply(value, shapes, torch.tensor([0, 12]), locations, weights, 64)


def gradients(function, tensors):
    output = function(*tensors)
    # Exact in all types.
    grad = torch.randint(-8, 9, output.shape, generator=torch.Generator().manual_seed(0)).to(output) / 8
    return output, *torch.autograd.grad(output, tensors, grad)


@pytest.mark.parametrize('device', DEVICES)
def test_attention_is_its_definition(device):
    tensors = inputs(device)
    expected = gradients(lambda *x: reference.ms_deform_attn(x[0], SHAPES, *x[1:]), tensors)
    torch.testing.assert_close(gradients(attend, tensors), expected)


@pytest.mark.parametrize('device', DEVICES)
def test_attention_is_mmcvs_of_a_cpu(device):
    tensors = inputs(device)
    expected = gradients(lambda *x: multi_scale_deformable_attn_pytorch(x[0], torch.tensor(SHAPES), *x[1:]), tensors)
    torch.testing.assert_close(gradients(attend, tensors), expected)


def test_gradients_are_those_of_differences():
    assert torch.autograd.gradcheck(attend, inputs())


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_is_rounded_once(dtype, device):
    tensors = inputs(device, dtype)
    exact = [one.detach().double().requires_grad_() for one in tensors]
    with torch.autocast(device, torch.bfloat16):  # mmdet's training in mixed precision
        found = gradients(attend, tensors)
    for ours, expected in zip(found, gradients(attend, exact), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, expected.to(dtype))


@pytest.mark.parametrize('place', [-0.5 / 4, 1 + 0.5 / 4])
def test_a_sample_exactly_a_pixel_outside_has_no_gradient_as_in_mmcv(place):
    value, locations, weights = inputs()
    locations = torch.full_like(locations, 0.4)
    locations[..., 0, :, 0] = place  # columns of the first level
    locations.requires_grad_()
    output, of_value, of_locations, _ = gradients(attend, (value, locations, weights))
    assert of_locations[..., 0, :, :].abs().max() == 0 and of_value[:, :12].abs().max() == 0
    assert of_locations[..., 1, :, :].abs().max() > 0


def test_attention_compiles_without_a_break():
    tensors = [one.detach().float() for one in inputs()]
    found = torch.compile(attend, backend='eager', fullgraph=True)(*tensors)
    torch.testing.assert_close(found, attend(*tensors))


def test_a_module_takes_the_same_way_on_a_gpu(monkeypatch):
    layer = mmcv_module.MultiScaleDeformableAttention(8, num_heads=2, num_levels=2, num_points=2, batch_first=True)
    torch.nn.init.normal_(layer.sampling_offsets.weight)
    shapes = torch.tensor(SHAPES)
    kwargs = dict(query=torch.randn(1, 14, 8), value=torch.randn(1, 14, 8), reference_points=torch.rand(1, 14, 2, 2),
                  spatial_shapes=shapes, level_start_index=torch.tensor([0, 12]))
    layer.eval()
    expected = layer(**kwargs)
    # mmcv asks the tensor whether it is on a GPU, and this one would be.
    monkeypatch.setattr(mmcv_module, 'IS_MLU_AVAILABLE', True)
    monkeypatch.setattr(torch.Tensor, 'is_mlu', True, raising=False)
    torch.testing.assert_close(layer(**kwargs), expected)
