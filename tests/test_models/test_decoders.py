import pytest
import torch

from coma_mm.errors import UserError
from coma_mm.models import ViTDecoder
from coma_mm.models.token_layout import sincos_position

from .. import reference
from .helpers import randomise


def make(**kwargs):
    return randomise(ViTDecoder(12, patch_size=4, embed_dims=16, depth=2, num_heads=4, **kwargs)).double().eval()


@pytest.mark.parametrize('grid, ids', [((2, 3), [[0, 4], [5, 1]]), ((1, 2), [[1], [0]]), ((2, 2), [[0, 1, 2, 3]] * 2)])
def test_agrees_with_the_reference(grid, ids):
    decoder = make()
    tokens = torch.randn(2, len(ids[0]), 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = decoder(tokens, torch.tensor(ids), grid)
    assert out.shape == (2, grid[0] * grid[1], 4 * 4 * 3)
    position = sincos_position(grid, 16)[0].double()
    for b in range(2):
        expected = reference.vit_decoder(decoder, tokens[b], ids[b], grid, position)
        torch.testing.assert_close(out[b], expected, rtol=1e-10, atol=1e-10)


def test_noise_replaces_the_mask_token():
    decoder = make(mask_token='noise')
    assert 'mask_token' not in dict(decoder.named_parameters())
    tokens, ids = torch.randn(1, 2, 12, dtype=torch.float64), torch.tensor([[0, 3]])
    torch.manual_seed(0)
    first = decoder(tokens, ids, (2, 2))
    second = decoder(tokens, ids, (2, 2))
    torch.manual_seed(0)
    assert torch.equal(decoder(tokens, ids, (2, 2)), first)
    assert not torch.equal(first, second)
    everything = torch.tensor([[0, 1, 2, 3]])  # nothing masked: no noise
    tokens = torch.randn(1, 4, 12, dtype=torch.float64)
    assert torch.equal(decoder(tokens, everything, (2, 2)), decoder(tokens, everything, (2, 2)))


def test_unknown_mask_token():
    with pytest.raises(UserError, match='learned'):
        ViTDecoder(12, mask_token='zeros')
