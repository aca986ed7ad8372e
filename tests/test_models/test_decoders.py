import pytest
import torch

from coma_mm.errors import UserError
from coma_mm.models import ConvNeXtDecoder, ViTDecoder
from coma_mm.models.token_layout import sincos_position

from ..helpers import reference
from ..helpers.small_models import randomise

MASKS = [((2, 3), [[0, 4], [5, 1]]), ((1, 2), [[1], [0]]), ((2, 2), [[0, 1, 2, 3]] * 2)]


def make(**kwargs):
    return randomise(ViTDecoder(12, patch_size=4, embed_dims=16, depth=2, num_heads=4, **kwargs)).double().eval()


def make_convnext(depth=2, **kwargs):
    return randomise(ConvNeXtDecoder(12, patch_size=4, embed_dims=16, depth=depth, **kwargs)).double().eval()


@pytest.mark.parametrize('grid, ids', [*MASKS, ((5, 2), [[0, 1, 9], [8, 3, 6]])])
def test_convnext_agrees_with_the_reference(grid, ids):
    decoder = make_convnext()
    tokens = torch.randn(2, len(ids[0]), 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = decoder(tokens, torch.tensor(ids), grid)
    assert out.shape == (2, grid[0] * grid[1], 4 * 4 * 3)
    for b in range(2):
        expected = reference.convnext_decoder(decoder, tokens[b], ids[b], grid)
        torch.testing.assert_close(out[b], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('depth', [1, 12])
def test_convnext_reaches_three_patches_per_block(depth):
    decoder, ids = make_convnext(depth), torch.arange(9)[None]
    tokens = torch.randn(1, 9, 12, dtype=torch.float64)
    before = decoder(tokens, ids, (1, 9))
    tokens[:, 0] += 1
    changed = (decoder(tokens, ids, (1, 9)) != before).any(-1)[0]
    assert changed.tolist() == [i <= 3 * depth for i in range(9)]


def test_convnext_starts_with_its_own_initialisation():
    decoder = ConvNeXtDecoder(12, embed_dims=64, depth=1)
    decoder.init_weights()
    for weight in (decoder.blocks[0].depthwise_conv.weight, decoder.blocks[0].pointwise_conv1.weight,
                   decoder.embed.weight):
        assert weight.std().item() == pytest.approx(.02, rel=0.1)
    assert (decoder.blocks[0].gamma == 1e-6).all() and (decoder.blocks[0].depthwise_conv.bias == 0).all()


@pytest.mark.parametrize('grid, ids', MASKS)
def test_agrees_with_the_reference(grid, ids):
    decoder = make()
    tokens = torch.randn(2, len(ids[0]), 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = decoder(tokens, torch.tensor(ids), grid)
    assert out.shape == (2, grid[0] * grid[1], 4 * 4 * 3)
    position = sincos_position(grid, 16)[0].double()
    for b in range(2):
        expected = reference.vit_decoder(decoder, tokens[b], ids[b], grid, position)
        torch.testing.assert_close(out[b], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('build', [make, make_convnext])
def test_noise_replaces_the_mask_token(build):
    decoder = build(mask_token='noise')
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


@pytest.mark.parametrize('decoder', [ViTDecoder, ConvNeXtDecoder])
@pytest.mark.parametrize('name', ['depth', 'embed_dims', 'patch_size', 'out_channels', 'in_channels'])
def test_a_decoder_has_no_sizes_of_0(decoder, name):
    with pytest.raises(UserError, match=f'{decoder.__name__}: {name}=0: expected a whole number, 1 or more'):
        decoder(**{'in_channels': 4, 'depth': 1, 'embed_dims': 32, name: 0})


@pytest.mark.parametrize('decoder', [ViTDecoder, ConvNeXtDecoder])
def test_unknown_mask_token(decoder):
    with pytest.raises(UserError, match=f'{decoder.__name__}.*learned'):
        decoder(12, mask_token='zeros')
