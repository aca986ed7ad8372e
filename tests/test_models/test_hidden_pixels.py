"""What a branch computes from the patches that it sees is the same to the last bit, whatever the hidden pixels are."""
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from coma_mm.datasets.masking import draw_masks
from coma_mm.models import CoMA

from ..helpers.small_models import ARCH, SAMPLERS, randomise

OPTIONS = dict(
    encoder=st.fixed_dictionaries(dict(
        windows=st.sampled_from(['default', 'eq8', 'plain']), dense_conv=st.booleans(), with_cp=st.booleans(),
        reduce=st.sampled_from(['sum', 'mean']), pos_embed=st.sampled_from(['sincos', 'learned']))) | st.just(None),
    decoder=st.sampled_from([dict(type='ViTDecoder', num_heads=2), dict(type='ConvNeXtDecoder')]),
    mask_token=st.sampled_from(['learned', 'noise']),
    fusion=st.sampled_from(['cascade', 'parallel']),
    patch_size=st.sampled_from([16, 32]),
    unit=st.sampled_from([1, 2]),
    grid=st.sampled_from([(2, 4), (4, 4), (6, 2)]),
    bf16=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)


def build(complement, encoder, decoder, mask_token, fusion, patch_size, seed):
    """A small CoMA with random weights; `encoder` has settings of DyViT, or is None for the plain transformer."""
    if encoder is None:
        arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
        backbone = dict(type='MaskedVisionTransformer', arch=arch, img_size=2 * patch_size)
    else:
        backbone = dict(type='DyViT', arch=ARCH, out_indices=(0, 1, 2, 3), img_size=2 * patch_size, **encoder)
    model = CoMA(
        backbone=dict(backbone, patch_size=patch_size, out_type='raw'),
        neck=dict(type='MultiScaleFusion', mode=fusion),
        decoder=dict(decoder, embed_dims=16, depth=1, mask_token=mask_token),
        head=dict(type='PixelHead'),
        complement=complement)
    randomise(model, seed % 1000)
    return model.train()


def replace(model, images, ids, others):
    """Images that have the pixels of `others` in the patches `ids`."""
    patches, others = model.head.patchify(images), model.head.patchify(others)
    index = ids[..., None].expand(-1, -1, patches.shape[2])
    return model.head.unpatchify(patches.scatter(1, index, others.gather(1, index)), model.head.grid(images))


def outputs(model, branch, images, ids_keep, ids_rest):
    """Tensors that one branch makes: its encoder's stages, the fused tokens and the reconstruction."""
    torch.manual_seed(0)  # of mask tokens that are noise
    reconstruction = model.reconstruct_both(images, ids_keep, ids_rest)[branch]
    parts = {name: getattr(model, name) for name in ('backbone', 'neck')}
    if branch == 'evaluation':
        parts |= dict(model.evaluation.items())
    stages = parts['backbone'](images, ids_keep if branch == 'adaptive' else ids_rest)
    return *stages, parts['neck'](stages), reconstruction


@pytest.mark.parametrize('sampler', SAMPLERS, ids=lambda sampler: sampler.get('color', sampler['type']))
@pytest.mark.parametrize('complement', CoMA.COPIES)
@settings(max_examples=2, derandomize=False, phases=[Phase.generate])
@given(**OPTIONS)
def test_nothing_depends_on_a_pixel_that_is_hidden_from_the_branch(complement, sampler, grid, unit, bf16, **options):
    size, seed = options['patch_size'], options['seed']
    model = build(complement, **options)
    generator = torch.Generator().manual_seed(seed)
    one, other = (model.data_preprocessor(dict(inputs=torch.randint(
        256, (2, 3, grid[0] * size, grid[1] * size), dtype=torch.uint8, generator=generator)))['inputs'] for _ in range(2))
    masks = draw_masks(one.shape[2:], [(seed, 0, 0), (seed, 0, 1)], sampler, size, unit * size)
    for branch, (seen, hidden) in dict(adaptive=masks, evaluation=masks[::-1]).items():
        if branch == 'evaluation' and complement == 'none':
            continue
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            expected = outputs(model, branch, one, *masks)
            for pixels in (other, torch.full_like(one, 1e30)):
                ours = outputs(model, branch, replace(model, one, hidden, pixels), *masks)
                for a, b in zip(ours, expected, strict=True):
                    assert torch.equal(a, b)
            ours = outputs(model, branch, replace(model, one, seen, other), *masks)
            assert not any(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
