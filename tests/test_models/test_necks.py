import pytest
import torch

from coma_mm.errors import UserError
from coma_mm.models import MultiScaleFusion

from .. import reference
from .helpers import ARCH, randomise


@pytest.mark.parametrize('mode', ['cascade', 'parallel'])
def test_fusion_is_strided_convolutions_on_the_patch_grid(mode):
    neck = randomise(MultiScaleFusion(ARCH['dims'], mode=mode)).double()
    generator = torch.Generator().manual_seed(1)
    feats = tuple(torch.randn(2, 3 * side**2, dims, generator=generator, dtype=torch.float64)
                  for dims, side in zip(ARCH['dims'], (8, 4, 2, 1), strict=True))
    out = neck(feats)
    assert out.shape == (2, 3, 64)
    for b in range(2):
        stages = [reference.from_raw(f[b], side) for f, side in zip(feats, (8, 4, 2, 1), strict=True)]
        expected = reference.fusion(neck, stages, mode == 'cascade')
        torch.testing.assert_close(out[b], expected, rtol=1e-10, atol=1e-10)


def test_patches_do_not_mix():
    neck = randomise(MultiScaleFusion(ARCH['dims']))
    feats = [torch.randn(1, 3 * side**2, dims) for dims, side in zip(ARCH['dims'], (8, 4, 2, 1), strict=True)]
    before = neck(feats)
    feats[0][:, 64:128] += 1  # the second patch
    changed = (neck(feats) != before).any(-1)[0]
    assert changed.tolist() == [False, True, False]


def test_unknown_mode():
    with pytest.raises(UserError, match='cascade'):
        MultiScaleFusion(ARCH['dims'], mode='serial')
