"""DM-MSA alone: against the reference with its gradients, and by which kernels it is computed."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coma_mm.models import CoMA, DyViT
from coma_mm.models.attention import MultiWindowAttention

from ..helpers import reference
from ..helpers.small_models import ARCH, FLASH, Recorder, draw_masks, model_settings, randomise

SETS = [(8, 4), (4, ), (8, 4, 2, 1), ()]


def output_and_gradients(attention, tokens, grad, literal=None):
    """Of one image's tokens (N, C): the output, and the gradients of the tokens and of all parameters.

    With `literal`, arguments of the reference, that computes them.
    """
    tokens = tokens.clone().requires_grad_()
    if literal:
        patches = reference.multi_window_attention(reference.from_raw(tokens, 8), attention, attention.windows, **literal)
        out = reference.raw_tokens(patches)
    else:
        out = attention(tokens[None])[0]
    gradients = torch.autograd.grad(out, [tokens, *attention.parameters()], grad.to(out.dtype))
    return [out.detach(), *gradients]


@settings(max_examples=8, derandomize=False)
@given(windows=st.sampled_from(SETS), patches=st.integers(1, 4), reduce=st.sampled_from(['sum', 'mean']),
       dense=st.booleans(), seed=st.integers(0, 2**32))
def test_outputs_and_gradients_are_the_references(windows, patches, reduce, dense, seed):
    """On other numbers in every run; in float64 to rounding, under bf16 autocast to 3 %."""
    attention = randomise(MultiWindowAttention(16, 2, windows, dense, reduce), seed).double()
    generator = torch.Generator().manual_seed(seed)
    tokens, grad = torch.randn(2, patches * 64, 16, generator=generator, dtype=torch.float64)
    expected = output_and_gradients(attention, tokens, grad, literal=dict(reduce=reduce, dense=dense))
    for ours, theirs in zip(output_and_gradients(attention, tokens, grad), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    with torch.autocast('cpu', torch.bfloat16):
        rounded = output_and_gradients(attention.float(), tokens.float(), grad)
    scale = max(g.norm() for g in expected[2:])  # the gradient of a bias on the keys is zero but for rounding
    for i, (ours, theirs) in enumerate(zip(rounded, expected, strict=True)):
        assert (ours.double() - theirs).norm() <= 0.03 * (theirs.norm() if i < 2 else scale)


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
    assert once.attention() == FLASH
    assert twice.largest == 2 * once.largest


def recorded_models(device, dtype, windows, with_cp, columns):
    """Feature maps of all stages, and a step of pre-training, whose decoder is mmpretrain's attention."""
    settings = dict(windows=windows, with_cp=with_cp)
    images = torch.randn(2, 3, 64, 32 * columns, device=device)
    backbone = DyViT(ARCH, out_indices=(0, 1, 2, 3), **settings).to(device)
    coma = CoMA(**model_settings(**settings)).to(device)
    coma.follow(torch.optim.SGD(coma.parameters(), 0.1))
    masks = [ids.to(device) for ids in draw_masks(2, (2, columns))]
    recorder = Recorder()
    with recorder, torch.autocast(device, torch.bfloat16, dtype == torch.bfloat16):
        sum(feature.float().sum() for feature in backbone(images)).backward()
        coma(images, *masks, mode='loss')['loss'].backward()
    return recorder


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('windows, with_cp', [('default', False), ('eq8', (0, 2)), ('plain', True)])
def test_no_attention_matrix_in_whole_models_on_cpu(windows, with_cp, dtype):
    once, twice = (recorded_models('cpu', dtype, windows, with_cp, columns) for columns in (4, 8))
    assert once.attention() == FLASH
    assert twice.largest <= 2 * once.largest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('windows', SETS)
def test_no_attention_matrix_on_cuda(windows):
    """A fused kernel serves, which with bf16 is one of the two fastest."""
    attention = recorded('cuda', torch.bfloat16, windows).attention()
    assert attention and all('flash' in name or 'cudnn' in name for name in attention), attention


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_no_attention_matrix_in_whole_models_on_cuda():
    attention = recorded_models('cuda', torch.bfloat16, 'default', (0, 2), 4).attention()
    assert attention and all('flash' in name or 'cudnn' in name for name in attention), attention
