import pytest
import torch

from coma_mm.errors import UserError
from coma_mm.models import ConcatStages, DyViT, MultiScaleFusion

from ..helpers import reference
from ..helpers.small_models import ARCH, randomise


@pytest.mark.parametrize('sides', [None, (4, 2, 1, 1), (8, 2, 2, 1)])
@pytest.mark.parametrize('mode', ['cascade', 'parallel'])
def test_fusion_is_strided_convolutions_on_the_patch_grid(mode, sides):
    neck = randomise(MultiScaleFusion(ARCH['dims'], mode, sides)).double()
    sides = sides or (8, 4, 2, 1)
    generator = torch.Generator().manual_seed(1)
    feats = tuple(torch.randn(2, 3 * side**2, dims, generator=generator, dtype=torch.float64)
                  for dims, side in zip(ARCH['dims'], sides, strict=True))
    out = neck(feats)
    assert out.shape == (2, 3, 64)
    for b in range(2):
        stages = [reference.from_raw(f[b], side) for f, side in zip(feats, sides, strict=True)]
        expected = reference.fusion(neck, stages, mode == 'cascade')
        torch.testing.assert_close(out[b], expected, rtol=1e-10, atol=1e-10)


def test_patches_do_not_mix():
    neck = randomise(MultiScaleFusion(ARCH['dims']))
    feats = [torch.randn(1, 3 * side**2, dims) for dims, side in zip(ARCH['dims'], (8, 4, 2, 1), strict=True)]
    before = neck(feats)
    feats[0][:, 64:128] += 1  # the second patch
    changed = (neck(feats) != before).any(-1)[0]
    assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize('mode', ['cascade', 'parallel'])
def test_a_single_stage_is_passed_on(mode):
    neck = MultiScaleFusion((16, ), mode=mode)
    assert not list(neck.parameters())
    tokens = torch.randn(2, 3, 16)
    assert torch.equal(neck((tokens, )), tokens)


@pytest.mark.parametrize('mode', ['cascade', 'parallel'])
def test_with_zero_init_the_decoder_sees_the_last_stage_alone_at_first_and_soon_all(mode):
    neck = MultiScaleFusion(ARCH['dims'], mode=mode, zero_init=True)
    neck.init_weights()
    feats = tuple(torch.randn(2, 3 * side**2, dims, requires_grad=True)
                  for dims, side in zip(ARCH['dims'], (8, 4, 2, 1), strict=True))
    assert torch.equal(neck(feats), feats[-1])
    optimizer = torch.optim.AdamW(neck.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        neck(feats).square().sum().backward()
        optimizer.step()
    assert all(conv.weight.abs().sum() > 0 for conv in neck.convs)


@pytest.mark.parametrize('mode', ['cascade', 'parallel'])
def test_detached_stages_are_fused_alike_and_get_no_gradient(mode):
    neck, free = (randomise(MultiScaleFusion(ARCH['dims'], mode, detach=detach)) for detach in (True, False))
    feats = [torch.randn(2, 3 * side**2, dims, requires_grad=True)
             for dims, side in zip(ARCH['dims'], (8, 4, 2, 1), strict=True)]
    out = neck(tuple(feats))
    assert torch.equal(out, free(tuple(feats)))
    out.square().sum().backward()
    assert [x.grad is not None for x in feats] == [False, False, False, True]
    assert all(conv.weight.grad.abs().sum() > 0 for conv in neck.convs)


@pytest.mark.parametrize('mode', ['cascade', 'parallel'])
def test_stages_are_weighted_by_what_is_learned_and_start_with_equal_weights(mode):
    free, neck = randomise(MultiScaleFusion(ARCH['dims'], mode)), MultiScaleFusion(ARCH['dims'], mode, weighted=True)
    neck.init_weights()
    neck.load_state_dict(free.state_dict(), strict=False)
    feats = tuple(torch.randn(2, 3 * side**2, dims) for dims, side in zip(ARCH['dims'], (8, 4, 2, 1), strict=True))
    assert torch.equal(neck(feats), free(feats)) and free.stage_weights is None
    with torch.no_grad():
        neck.stage_logits.copy_(torch.tensor([1., 2., 3., 4.]).log())
    torch.testing.assert_close(neck.stage_weights, torch.tensor([.4, .8, 1.2, 1.6]))
    torch.testing.assert_close(neck(feats), free(tuple(x * w for x, w in zip(feats, (.4, .8, 1.2, 1.6), strict=True))))
    neck(feats).sum().backward()
    assert neck.stage_logits.grad.abs().sum() > 0


@pytest.mark.parametrize('sides', [(4, 2, 1), (4, 2, 2, 2), (3, 2, 1, 1), (1, 2, 4, 8)])
def test_sides_that_do_not_fit(sides):
    with pytest.raises(UserError, match='expected 4 numbers.*the last 1'):
        MultiScaleFusion(ARCH['dims'], sides=sides)


@pytest.mark.parametrize('mode', ['cascade', 'parallel'])
def test_features_that_do_not_fit(mode):
    feats = tuple(torch.randn(2, 3 * side**2, dims) for dims, side in zip(ARCH['dims'], (4, 2, 1, 1), strict=True))
    with pytest.raises(UserError, match=r'\(16, 4, 1, 1\) tokens per patch, expected \(64, 16, 4, 1\)'):
        MultiScaleFusion(ARCH['dims'], mode=mode)(feats)


def test_unknown_mode():
    with pytest.raises(UserError, match='cascade'):
        MultiScaleFusion(ARCH['dims'], mode='serial')


def test_a_classifier_sees_the_means_of_all_stages():
    backbone = DyViT(ARCH, out_indices=(0, 1, 2, 3), out_type='avg_featmap')
    means = backbone(torch.randn(2, 3, 64, 64))
    out, = ConcatStages()(means)
    assert torch.equal(out, torch.cat(means, 1)) and out.shape == (2, sum(ARCH['dims']))
