import pytest
import torch
from mmpretrain.registry import MODELS

from coma_mm.errors import UserError
from coma_mm.models import PixelHead

from ..helpers import reference


def images(B=2, rows=2, columns=3, P=8, **kwargs):
    return torch.rand(B, 3, rows * P, columns * P, generator=torch.Generator().manual_seed(0), **kwargs)


def test_patchify_is_the_reference_and_unpatchify_its_inverse():
    head, x = PixelHead(8), images()
    patches = head.patchify(x)
    for b in range(2):
        assert torch.equal(patches[b], reference.patchify(x[b], 8))
    assert head.grid(x) == (2, 3)
    assert torch.equal(head.unpatchify(patches, (2, 3)), x)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_target_and_errors(norm_pix):
    head, x = PixelHead(8, norm_pix), images(dtype=torch.float64)
    pred = torch.randn(2, 6, 8 * 8 * 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    errors = head.patch_errors(pred, x)
    assert errors.shape == (2, 6)
    for b in range(2):
        target = reference.patchify(x[b], 8)
        if norm_pix:
            target = reference.normalise(target)
        torch.testing.assert_close(head.target(x)[b], target)
        for i in range(6):
            expected = sum((pred[b, i, j] - target[i, j])**2 for j in range(192)) / 192
            torch.testing.assert_close(errors[b, i], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_agrees_with_mmpretrains_head_on_squares(norm_pix):
    loss = dict(type='PixelReconstructionLoss', criterion='L2')
    theirs = MODELS.build(dict(type='mmpretrain.MAEPretrainHead', norm_pix=norm_pix, patch_size=8, loss=loss))
    ours, x = PixelHead(8, norm_pix), images(columns=2)
    pred = torch.randn(2, 4, 192)
    ids_rest = torch.tensor([[0, 2], [1, 3]])
    mask = torch.zeros(2, 4).scatter(1, ids_rest, 1.)
    torch.testing.assert_close(ours.target(x), theirs.construct_target(x))
    torch.testing.assert_close(ours.patch_errors(pred, x).gather(1, ids_rest).mean(), theirs.loss(pred, x, mask))
    torch.testing.assert_close(ours.unpatchify(pred, (2, 2)), theirs.unpatchify(pred))


def test_errors_of_half_precision_are_float32():
    head, x = PixelHead(8), images()
    pred = torch.randn(2, 6, 192)
    errors = head.patch_errors(pred.bfloat16(), x)
    assert errors.dtype == torch.float32
    torch.testing.assert_close(errors, head.patch_errors(pred.bfloat16().float(), x))


@pytest.mark.parametrize('norm_pix', [True, False])
def test_a_perfect_prediction_gives_the_image_back(norm_pix):
    head, x = PixelHead(8, norm_pix), images(dtype=torch.float64)
    pred = head.target(x)
    assert head.patch_errors(pred, x).max() == 0
    torch.testing.assert_close(head.to_pixels(pred, x), x)


def test_a_flat_patch_has_a_finite_target():
    x = torch.ones(1, 3, 8, 8)
    assert PixelHead(8).target(x).abs().max() == 0


@pytest.mark.parametrize('size', [(60, 64), (64, 70), (0, 32)])
def test_sides_must_be_multiples_of_the_patch(size):
    with pytest.raises(UserError, match=f'{size[1]}×{size[0]} px.*multiples of the 32 px patch'):
        PixelHead().grid(torch.zeros(1, 3, *size))
