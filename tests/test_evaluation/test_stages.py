"""Features of every stage, and how many dimensions they fill."""
import math

import pytest
import torch
from torch import nn

from coma_mm.evaluation.stages import rank_me, stage_features, stages_of
from coma_mm.models import DyViT, MaskedVisionTransformer
from tests.helpers.small_models import ARCH, randomise


def test_stages_are_found_whichever_of_them_the_model_reads():
    images = torch.randn(2, 3, 64, 64)
    whole = randomise(DyViT(ARCH, out_indices=(0, 1, 2, 3), out_type='raw')).eval()
    expected = [stage.mean(1) for stage in whole(images)]
    found = stage_features(whole, images)
    assert [one.shape[1] for one in found] == [8, 16, 32, 64]
    torch.testing.assert_close(found, expected)
    last = DyViT(ARCH, out_indices=(3, ), out_type='raw').eval()
    last.load_state_dict(whole.state_dict(), strict=False)
    other = stage_features(last, images)
    torch.testing.assert_close(other[3], expected[3])
    for number in range(3):  # as a norm that starts afresh
        getattr(whole, f'norm{number}').reset_parameters()
    torch.testing.assert_close(other[:3], [stage.mean(1) for stage in whole(images)[:3]], atol=1e-5, rtol=1e-4)
    assert not any(module._forward_hooks for module in last.modules()) and not found[0].requires_grad


def test_a_vision_transformer_has_its_quarters_without_the_class_token():
    arch = dict(embed_dims=16, num_layers=6, num_heads=2, feedforward_channels=32)
    vit = MaskedVisionTransformer(arch, 64, out_type='raw', out_indices=(1, 2, 4, 5))
    vit.eval()  # returns nothing
    images = torch.randn(2, 3, 64, 64)
    assert [list(vit.layers).index(block) for block, _ in stages_of(vit)] == [1, 2, 3, 5]
    torch.testing.assert_close(stage_features(vit, images)[3], vit(images)[-1][:, 1:].mean(1))


def test_an_encoder_of_another_kind_gives_its_outputs():
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(stage_features(nn.Identity(), images), [images.mean((2, 3))])


@pytest.mark.parametrize('rank', [1, 5, 16])
def test_rank_me_counts_equal_directions(rank):
    basis = torch.linalg.qr(torch.randn(50, rank, generator=torch.Generator().manual_seed(0)))[0]
    assert rank_me(basis @ torch.eye(rank, 16)) == pytest.approx(rank, rel=1e-3)


def test_rank_me_is_the_exponential_of_an_entropy():
    assert rank_me(torch.diag(torch.tensor([3., 1., 0.]))) == pytest.approx(
        math.exp(-.75 * math.log(.75) - .25 * math.log(.25)), rel=1e-4)
    assert math.isfinite(rank_me(torch.zeros(4, 3)))
