"""CARAFE against its definition, one product at a time."""
import pytest
import torch
from mmcv import _ext
from mmcv.ops import carafe, carafe_naive

from ...helpers import operators as reference
from ...helpers.operators import DEVICES, HALVES

SETTINGS = (3, 2, 2)  # kernel, groups, scale


def inputs(device='cpu', dtype=torch.float64):
    shapes = (2, 4, 2, 3), (2, 2 * 9, 4, 6)
    return [torch.randn(shape, dtype=torch.float64).to(device, dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize('device', DEVICES)
def test_upsampling_is_its_definition(device):
    tensors = inputs()
    ours = [one.detach().to(device).requires_grad_() for one in tensors]
    expected, found = reference.carafe(*tensors, *SETTINGS), carafe(*ours, *SETTINGS)
    torch.testing.assert_close(found.cpu(), expected)
    torch.testing.assert_close(carafe_naive(*ours, *SETTINGS), found)
    grad = torch.randn_like(expected)
    expected = torch.autograd.grad(expected, tensors, grad)
    for one, other in zip(torch.autograd.grad(found, ours, grad.to(device)), expected, strict=True):
        torch.testing.assert_close(one.cpu(), other)
    # mmcv lets `carafe_naive` have a gradient on a GPU alone.
    outputs = [torch.zeros_like(one) for one in ours]
    _ext.carafe_naive_backward(grad.to(device), *[one.detach() for one in ours], *outputs, *SETTINGS)
    torch.testing.assert_close([one.cpu() for one in outputs], [*expected])


def test_gradients_are_those_of_differences():
    assert torch.autograd.gradcheck(lambda x, masks: carafe(x, masks, *SETTINGS), inputs(), fast_mode=True)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_is_rounded_once(dtype, device):
    tensors = inputs(device, dtype)
    exact = [one.detach().double().requires_grad_() for one in tensors]
    found, expected = carafe(*tensors, *SETTINGS), carafe(*exact, *SETTINGS)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype))
    gradients = torch.autograd.grad(found, tensors, torch.ones_like(found))
    for one, other in zip(gradients, torch.autograd.grad(expected, exact, torch.ones_like(expected)), strict=True):
        torch.testing.assert_close(one, other.to(dtype))
