"""A masked convolution is the convolution, where the mask is."""
import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import MaskedConv2d

from ...helpers.operators import DEVICES, HALVES


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('kernel', 'padding'), [(1, 0), (3, 1), ((3, 5), (1, 2))])
def test_where_the_mask_is_it_is_the_convolution(kernel, padding, device):
    layer = MaskedConv2d(2, 4, kernel, 1, padding).to(device)
    image = torch.randn(1, 2, 6, 5, device=device)
    expected = F.conv2d(image, layer.weight, layer.bias, padding=padding)
    mask = torch.rand(1, *expected.shape[2:], device=device) > 0.5
    torch.testing.assert_close(layer(image, mask), expected * mask)
    assert layer(image, torch.zeros_like(mask)).abs().max() == 0
    torch.testing.assert_close(layer(image), expected)


@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_keeps_its_type(dtype):
    layer = MaskedConv2d(2, 4, 3, 1, 1).to(dtype)
    image, mask = torch.randn(1, 2, 4, 4, dtype=dtype), torch.ones(1, 4, 4)
    found = layer(image, mask)
    assert found.dtype == dtype
    torch.testing.assert_close(found, F.conv2d(image, layer.weight, layer.bias, padding=1), atol=2e-2, rtol=2e-2)
