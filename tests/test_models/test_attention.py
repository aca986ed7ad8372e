"""DM-MSA alone: against the reference with its gradients, and by which kernels it is computed."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from coma_mm.models.attention import MultiWindowAttention

from .. import reference
from .helpers import randomise

SETS = [(8, 4), (4, ), (8, 4, 2, 1), ()]


def output_and_gradients(attention, tokens, grad, literal=False):
    """Of one image's tokens (N, C): the output, and the gradients of the tokens and of all parameters."""
    tokens = tokens.clone().requires_grad_()
    if literal:
        patches = reference.multi_window_attention(reference.from_raw(tokens, 8), attention, attention.windows)
        out = reference.raw_tokens(patches)
    else:
        out = attention(tokens[None])[0]
    gradients = torch.autograd.grad(out, [tokens, *attention.parameters()], grad.to(out.dtype))
    return [out.detach(), *gradients]


@settings(max_examples=8, deadline=None)
@given(windows=st.sampled_from(SETS), patches=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_outputs_and_gradients_are_the_references(windows, patches, seed):
    attention = randomise(MultiWindowAttention(16, 2, windows), seed).double()
    generator = torch.Generator().manual_seed(seed)
    tokens, grad = torch.randn(2, patches * 64, 16, generator=generator, dtype=torch.float64)
    expected = output_and_gradients(attention, tokens, grad, literal=True)
    for ours, theirs in zip(output_and_gradients(attention, tokens, grad), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    with torch.autocast('cpu', torch.bfloat16):
        rounded = output_and_gradients(attention.float(), tokens.float(), grad)
    scale = max(g.norm() for g in expected[2:])  # the gradient of a bias on the keys is zero but for rounding
    for i, (ours, theirs) in enumerate(zip(rounded, expected, strict=True)):
        assert (ours.double() - theirs).norm() <= 0.03 * (theirs.norm() if i < 2 else scale)


class Recorder(TorchDispatchMode):
    """Names of the operators called, and the largest tensor made."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.add(func.name())
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


def recorded(device, dtype, windows, patches=4):
    attention = MultiWindowAttention(112, 2, windows).to(device)
    tokens = torch.randn(2, patches * 64, 112, device=device, requires_grad=True)
    recorder = Recorder()
    with recorder, torch.autocast(device, torch.bfloat16, dtype == torch.bfloat16):
        attention(tokens).float().sum().backward()
    return recorder


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('windows', SETS)
def test_no_attention_matrix_on_cpu(windows, dtype):
    """The flash kernel serves, forth and back, and memory grows with the number of tokens, not its square."""
    once, twice = (recorded('cpu', dtype, windows, patches) for patches in (16, 32))
    attention = {name for name in once.names if 'scaled_dot_product' in name}
    assert attention == {f'aten::_scaled_dot_product_flash_attention_for_cpu{end}' for end in ('', '_backward')}
    assert twice.largest == 2 * once.largest


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('windows', SETS)
def test_no_attention_matrix_on_cuda(windows):
    """A fused kernel serves, which with bf16 is one of the two fastest."""
    names = recorded('cuda', torch.bfloat16, windows).names
    attention = {name for name in names if 'scaled_dot_product' in name}
    assert attention and all('flash' in name or 'cudnn' in name for name in attention), attention
