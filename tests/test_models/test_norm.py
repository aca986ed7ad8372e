"""The norm that stays in its input's precision."""
import pytest
import torch
from torch import nn

from coma_mm.models.norm import SameDtypeLN


def filled(norm):
    with torch.no_grad():
        norm.weight.copy_(torch.randn(norm.weight.shape))
        norm.bias.copy_(torch.randn(norm.bias.shape))
    return norm


def test_in_float32_it_is_torchs():
    norm, plain = filled(SameDtypeLN(24, eps=1e-6)), nn.LayerNorm(24, eps=1e-6)
    plain.load_state_dict(norm.state_dict())
    x = torch.randn(5, 24)
    assert torch.equal(norm(x), plain(x))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(norm(x), plain(x))


@pytest.mark.parametrize('offset', [0., 30.])
def test_in_bf16_it_is_float32s_but_for_rounding(offset):
    """Of input, output, scale and shift: the statistics are float32, also far from 0."""
    norm = filled(SameDtypeLN(256, eps=1e-6))
    x = (torch.randn(50, 256) + offset).bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    exact = x.detach().float().requires_grad_()
    expected = nn.functional.layer_norm(exact, (256, ), norm.weight, norm.bias, 1e-6)
    size = expected.abs() + (expected - norm.bias).abs() + norm.bias.abs()
    assert ((y - expected).abs() <= size * 2**-7).all()
    toward = torch.randn(50, 256).bfloat16()
    y.backward(toward)
    expected.backward(toward.float())
    assert x.grad.dtype == torch.bfloat16 and (x.grad - exact.grad).norm() < exact.grad.norm() * 2**-6
    assert norm.weight.grad.dtype == torch.float32
