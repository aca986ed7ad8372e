import math

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from coma_mm.datasets import masking
from coma_mm.errors import UserError
from coma_mm.models import DyViT
from coma_mm.models.token_layout import sincos_position

from ..helpers import reference
from ..helpers.small_models import ARCH, SAMPLERS, draw_masks, giga_macs, randomise, small_dyvit
from ..helpers.suites import MaskedEncoderSuite

STRIDES = {32: (4, 8, 16, 32), 16: (4, 8, 16, 16)}
PAPER_WINDOWS = ((8, 4), (4, ), (), ())
PRESETS = {
    32: dict(
        default=PAPER_WINDOWS,
        fine=((8, 4, 2), (4, 2), (), ()),
        eq8=((8, 4, 2, 1), (4, 2, 1), (), ()),
        plain=((), (), (), ())),
    16: dict(
        default=((4, 2), (2, ), (), ()),
        fine=((4, 2, 1), (2, 1), (), ()),
        eq8=((4, 2, 1), (2, 1), (), ()),
        plain=((), (), (), ())),
}


def images(B, H, W, seed=1):
    return torch.randn(B, 3, H, W, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_positions_are_scaled():
    for kind in ('sincos', 'learned'):
        model = DyViT(ARCH, pos_embed=kind, img_size=64, pos_scale=.25)
        assert torch.equal(model._position((16, 16), torch.device('cpu')), sincos_position((16, 16), 8) * .25)
        for name, value in model.state_dict().items():
            if name == 'pos_embed':
                assert torch.equal(value, sincos_position((16, 16), 8) * .25)
    with pytest.raises(UserError, match='DyViT: pos_scale=-1: expected'):
        DyViT(ARCH, pos_scale=-1)


def position_of(model, H, W):
    P = model.patch_size
    size = (math.ceil(H / P) * (P // 4), math.ceil(W / P) * (P // 4))
    if model.pos_embed is None:
        return sincos_position(size, model.dims[0])[0].double()
    return F.interpolate(model.pos_embed, size, mode='bicubic', align_corners=False)[0]


def check_dense(model, x, windows=PAPER_WINDOWS, **kwargs):
    """A model with out_indices 0 to 3 agrees with the reference on every feature map."""
    H, W = x.shape[-2:]
    strides = STRIDES[model.patch_size]
    with torch.no_grad():
        outs = model(x)
        for b in range(len(x)):
            stages, grid = reference.dyvit(
                model, x[b], windows, position_of(model, H, W), P=model.patch_size, **kwargs)
            for i in range(4):
                expected = reference.feature_map(stages[i], grid, strides[i], (H, W))
                assert outs[i][b].shape == (ARCH['dims'][i], math.ceil(H / strides[i]), math.ceil(W / strides[i]))
                torch.testing.assert_close(outs[i][b], expected, rtol=1e-10, atol=1e-10)


def check_masked(model, x, ids_keep, windows=PAPER_WINDOWS):
    """The same for raw tokens of masked input."""
    with torch.no_grad():
        outs = model(x, ids_keep)
        for b in range(len(x)):
            position = position_of(model, *x.shape[-2:])
            stages, _ = reference.dyvit(
                model, x[b], windows, position, keep=ids_keep[b].tolist(), P=model.patch_size,
                mask_before_stem=model.mask_before_stem)
            for i in range(4):
                torch.testing.assert_close(outs[i][b], reference.raw_tokens(stages[i]), rtol=1e-10, atol=1e-10)


ALL = (0, 1, 2, 3)


@pytest.mark.parametrize('size', [(64, 64), (32, 32), (32, 96), (50, 33), (5, 70), (1, 1)])
def test_agrees_with_the_reference_at_any_size(size):
    check_dense(small_dyvit(out_indices=ALL), images(2, *size))


@pytest.mark.parametrize('patch_size', [32, 16])
@pytest.mark.parametrize('preset', ['default', 'fine', 'eq8', 'plain'])
def test_agrees_with_the_reference_with_every_preset(preset, patch_size):
    kwargs = dict(out_indices=ALL, patch_size=patch_size, windows=preset)
    windows, P = PRESETS[patch_size][preset], patch_size
    model = small_dyvit(**kwargs)
    assert tuple(stage[1].attn.windows for stage in model.stages) == windows
    check_dense(model, images(1, 2 * P, P + 8), windows)
    check_masked(small_dyvit(**kwargs, out_type='raw'), images(2, 2 * P, 3 * P), draw_masks(2, (2, 3))[0], windows)


@pytest.mark.parametrize('size', [(32, 32), (16, 48), (50, 33), (5, 20), (1, 1)])
def test_patches_of_16_px_agree_with_the_reference_at_any_size(size):
    model = small_dyvit(out_indices=ALL, patch_size=16)
    assert model.strides == STRIDES[16] and model.sides == (4, 2, 1, 1)
    check_dense(model, images(2, *size), PRESETS[16]['default'])


def test_patches_of_16_px_agree_with_the_reference_in_its_other_readings():
    """Masked after the stem, of a size that is padded; and learned positions at another size."""
    windows = PRESETS[16]['default']
    model = small_dyvit(out_indices=ALL, patch_size=16, out_type='raw', mask_before_stem=False)
    check_masked(model, images(2, 30, 35), draw_masks(2, (2, 3))[0], windows)
    model = small_dyvit(out_indices=ALL, patch_size=16, pos_embed='learned', img_size=40)
    assert model.pos_embed.shape == (1, 8, 12, 12)
    check_dense(model, images(1, 32, 48), windows)


@pytest.mark.parametrize('windows', [
    ((4, ), (1, ), (2, ), (1, )),
    ((2, 8), (), (2, 1), ()),
    ((), (2, ), (1, ), (1, )),
])
def test_agrees_with_the_reference_with_odd_windows(windows):
    check_dense(small_dyvit(out_indices=ALL, windows=windows), images(1, 32, 64), windows)


@pytest.mark.parametrize('kwargs', [dict(dense_conv=True), dict(reduce='mean'), dict(dense_conv=True, reduce='mean')])
def test_agrees_with_the_reference_in_its_other_readings(kwargs):
    model = small_dyvit(out_indices=ALL, windows='fine', **kwargs)
    reading = dict(dense=kwargs.get('dense_conv', False), reduce=kwargs.get('reduce', 'sum'))
    check_dense(model, images(1, 64, 64), PRESETS[32]['fine'], **reading)


@pytest.mark.parametrize('mask_before_stem', [True, False])
@pytest.mark.parametrize('ids_keep', [[[0, 3, 4]], [[5, 1, 0]], [[2]], [[0, 1, 2, 3, 4, 5]]])
def test_agrees_with_the_reference_masked(ids_keep, mask_before_stem):
    model = small_dyvit(out_indices=ALL, out_type='raw', mask_before_stem=mask_before_stem)
    check_masked(model, images(1, 64, 96), torch.tensor(ids_keep))


@pytest.mark.parametrize('mask_before_stem', [True, False])
def test_agrees_with_the_reference_masked_and_padded(mask_before_stem):
    model = small_dyvit(out_indices=ALL, out_type='raw', mask_before_stem=mask_before_stem)
    check_masked(model, images(2, 60, 70), draw_masks(2, (2, 3))[0])


@pytest.mark.parametrize('size', [(64, 64), (96, 40)])
def test_learned_position_embedding_is_resized_bicubically(size):
    model = small_dyvit(out_indices=ALL, pos_embed='learned', img_size=64)
    assert model.pos_embed.shape == (1, 8, 16, 16)
    check_dense(model, images(1, *size))


def test_learned_position_embedding_starts_as_sincos():
    model = DyViT(ARCH, pos_embed='learned', img_size=224)
    model.init_weights()
    assert torch.equal(model.pos_embed, sincos_position((56, 56), 8))


def test_window_convolutions_start_as_average_pooling():
    """Dense and depthwise convolutions are the same function at the start."""
    depthwise, dense = DyViT(ARCH), DyViT(ARCH, dense_conv=True)
    state = {k: v for k, v in depthwise.state_dict().items() if '.convs.' not in k}
    dense.load_state_dict(state, strict=False)
    x = images(1, 64, 64).float()
    torch.testing.assert_close(depthwise(x)[0], dense(x)[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(depthwise.stages[0][1].attn.convs[0].weight, torch.full((64, 16), 1 / 64))


# Outputs


def token_share(model):
    """How much of the last stage's spread is between an image's tokens, as it starts."""
    torch.manual_seed(0)
    model.init_weights()
    smooth = F.interpolate(images(2, 8, 8).float(), (64, 64), mode='bilinear')
    with torch.no_grad():
        x = model(smooth)[0].flatten(2)  # B C N
    return (x.std(2).mean() / x.std()).item()


def test_blocks_start_as_the_identity():
    model = DyViT(ARCH)
    model.init_weights()
    x = torch.randn(1, 64, ARCH['dims'][0])
    assert torch.equal(model.stages[0][1](x), x)
    assert model.stages[0][1].attn.qkv.weight.abs().sum() > 0


def test_what_differs_between_tokens_reaches_the_last_stage_at_the_start():
    deep = dict(dims=(32, 64, 128, 256), depths=(1, 2, 6, 2), num_heads=(1, 2, 4, 8))
    assert token_share(DyViT(deep, patch_size=16, zero_init_residual=False)) < 0.15
    assert token_share(DyViT(deep, patch_size=16)) > 0.4


def test_out_indices_and_out_type():
    x = images(2, 64, 40)
    everything = small_dyvit(out_indices=ALL)(x)
    assert len(everything) == 4
    for out_indices, expected in [(3, (3, )), (-1, (3, )), ((0, 2), (0, 2)), ((-2, 1), (1, 2)), ((-4, ), (0, ))]:
        model = small_dyvit(out_indices=out_indices)
        model.load_state_dict(small_dyvit(out_indices=ALL).state_dict(), strict=False)
        outs = model(x)
        assert isinstance(outs, tuple) and len(outs) == len(expected)
        for out, i in zip(outs, expected, strict=True):
            assert torch.equal(out, everything[i])
    for out, featmap in zip(small_dyvit(out_indices=ALL, out_type='avg_featmap')(x), everything, strict=True):
        torch.testing.assert_close(out, featmap.mean((2, 3)))
    for out, dims, side in zip(small_dyvit(out_indices=ALL, out_type='raw')(x), ARCH['dims'], (8, 4, 2, 1),
                               strict=True):
        assert out.shape == (2, 4 * side**2, dims)


def test_masked_input_needs_raw_output():
    with pytest.raises(ValueError, match="out_type='raw'"):
        small_dyvit()(images(1, 64, 64), torch.tensor([[0]]))


def test_keeping_all_patches_is_the_dense_encoder():
    x = images(2, 64, 64)
    model = small_dyvit(out_type='raw')
    ids = torch.arange(4).expand(2, 4)
    torch.testing.assert_close(model(x, ids)[0], model(x)[0], rtol=1e-12, atol=1e-12)


class TestMaskedEncoder(MaskedEncoderSuite):

    def build(self):
        return small_dyvit(out_type='raw')


class TestMaskedEncoder16(MaskedEncoderSuite):

    def build(self):
        return small_dyvit(out_type='raw', patch_size=16)


# Leakage: what the encoder knows of masked pixels


def pixel_distance(keep, grid):
    """Distance in px (Chebyshev) of every pixel to the nearest kept patch, 0 inside."""
    H, W = grid[0] * 32, grid[1] * 32
    distance = torch.full((H, W), 10**6)
    for i in keep:
        top, left = i // grid[1] * 32, i % grid[1] * 32
        for y in range(H):
            for x in range(W):
                dy = max(top - y, y - (top + 31), 0)
                dx = max(left - x, x - (left + 31), 0)
                distance[y, x] = min(distance[y, x], max(dy, dx))
    return distance


@pytest.mark.parametrize('P', [32, 16])
@pytest.mark.parametrize('grid, less', [((2, 3), (0, 0)), ((4, 3), (4, 5)), ((1, 5), (0, 0)), ((5, 1), (3, 0)),
                                        ((7, 7), (0, 0))])
def test_masks_of_every_sampler_are_as_if_the_image_were_zero(grid, less, P):
    """Both halves of each mask, also on images that end `less` px before the grid does. Without blocks the encoder agrees,
    to rounding, with the reference (zero the pixels, convolve the whole image, drop patches), and to the bit with the
    other setting on an image that is zero there."""
    options = dict(arch=dict(ARCH, depths=(0, 0, 0, 0)), out_indices=ALL, out_type='raw', patch_size=P)
    model, literal = small_dyvit(**options), small_dyvit(**options, mask_before_stem=False)
    x = images(1, grid[0] * P - less[0], grid[1] * P - less[1])
    for sampler in SAMPLERS:
        for keep in masking.draw_masks(grid, [(0, 0, 0)], sampler, patch_size=1):
            check_masked(model, x, keep, PRESETS[P]['default'])
            zeroed = x.clone()
            for row, column in (divmod(i, grid[1]) for i in range(grid[0] * grid[1]) if i not in keep):
                zeroed[:, :, row * P:(row + 1) * P, column * P:(column + 1) * P] = 0
            for a, b in zip(model(x, keep), literal(zeroed, keep), strict=True):
                assert torch.equal(a, b)


def test_without_it_the_stem_sees_three_pixels():
    model = small_dyvit(out_type='raw', mask_before_stem=False)
    x, keep = images(1, 96, 96), [4]
    distance = pixel_distance(keep, (3, 3))
    base = model(x, torch.tensor([keep]))[0]
    far = torch.where(distance > 3, 1e3 * images(1, 96, 96, seed=2), x)
    assert torch.equal(model(far, torch.tensor([keep]))[0], base)
    # A stride of 4 starts at each patch's first pixel: the 7×7 kernel reaches 3 px above and to the left, and its
    # last position ends with the patch.
    row, column = 32, 32
    for dy, dx, seen in [(-3, 0, True), (-1, 31, True), (0, -3, True), (-3, -3, True), (32, 0, False), (0, 32, False)]:
        near = x.clone()
        near[..., row + dy, column + dx] += 1
        assert torch.equal(model(near, torch.tensor([keep]))[0], base) != seen


# Size and cost


@pytest.mark.parametrize('arch, patch_size, millions', [
    ('tiny', 32, 1.5),
    ('small', 32, 35.1),
    ('base', 32, 70.3),
    ('base', 16, 70.2),
])
def test_parameters(arch, patch_size, millions):
    with torch.device('meta'):
        model = DyViT(arch, patch_size=patch_size, out_indices=ALL)
    assert abs(sum(p.numel() for p in model.parameters()) / 1e6 - millions) < 0.06


@pytest.mark.parametrize('arch, patch_size, windows, layers, total', [
    ('small', 32, 'default', 5.6, 6.1),
    ('base', 32, 'default', 11.4, 12.4),
    ('small', 32, 'fine', 5.6, 6.7),
    ('base', 32, 'fine', 11.4, 13.7),
    ('small', 32, 'eq8', 5.6, 9.1),
    ('base', 32, 'eq8', 11.4, 18.9),
    ('small', 16, 'default', 7.8, 8.9),
    ('base', 16, 'default', 15.7, 18.1),
])
def test_macs_at_224_px(arch, patch_size, windows, layers, total):
    with torch.device('meta'):
        model = DyViT(arch, patch_size=patch_size, windows=windows)
        x = torch.empty(1, 3, 224, 224)
    counted, attention = giga_macs(model, x)
    assert abs(counted - layers) < 0.06
    assert abs(counted + attention - total) < 0.06


def test_masked_input_computes_only_visible_patches():
    with torch.device('meta'):
        model = DyViT('small', out_type='raw')
        x, ids_keep = torch.empty(1, 3, 224, 224), torch.empty(1, 20, dtype=torch.int64)
    dense, dense_attention = giga_macs(model, x)
    masked, masked_attention = giga_macs(model, x, ids_keep)
    assert math.isclose(masked, dense * 20 / 49, rel_tol=1e-6)
    assert math.isclose(masked_attention, dense_attention * (20 / 49)**2, rel_tol=1e-6)


# Training features


@pytest.mark.parametrize('with_cp', [True, (0, 2)])
def test_activation_checkpointing_changes_nothing(with_cp):
    x = images(1, 64, 64)
    plain, checkpointed = small_dyvit(), small_dyvit(with_cp=with_cp)
    outs = [m.train()(x)[0] for m in (plain, checkpointed)]
    assert torch.equal(*outs)
    for out in outs:
        out.square().sum().backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_activation_checkpointing_saves_memory():
    def saved(model):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model.train()(images(1, 64, 64))
        return sum(sizes)

    none, first, second, both, every = (saved(small_dyvit(with_cp=stages)) for stages in ((), [0], [1], [0, 1], True))
    assert none == saved(small_dyvit()) and none - first > none - second > 0
    assert none - both == (none - first) + (none - second)
    assert every < none / 2


@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 3])
@pytest.mark.parametrize('pos_embed', ['sincos', 'learned'])
def test_frozen_stages(frozen_stages, pos_embed):
    model = small_dyvit(
        out_indices=ALL, frozen_stages=frozen_stages, drop_path_rate=0.1, pos_embed=pos_embed, img_size=64).train()
    for name, p in model.named_parameters():
        if name.startswith('stages.'):
            frozen = int(name.split('.')[1]) <= frozen_stages
        elif name.startswith('norm'):
            frozen = int(name[4]) <= frozen_stages
        else:
            frozen = frozen_stages >= 0  # stem and position embedding
        assert p.requires_grad != frozen, name
    for i, stage in enumerate(model.stages):
        assert all(m.training == (i > frozen_stages) for m in stage.modules())
    if frozen_stages == 3:
        return
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    sum(out.square().mean() for out in model(images(4, 64, 64))).backward()
    optimizer.step()
    for name, p in model.named_parameters():
        if not p.requires_grad:
            assert p.grad is None and torch.equal(p, before[name]), name
    assert not torch.equal(model.stages[3][1].attn.proj.weight, before['stages.3.1.attn.proj.weight'])


def test_drop_path_rises_with_depth_and_drops_in_training_alone():
    model = small_dyvit(arch={**ARCH, 'depths': (1, 2, 1, 1)}, drop_path_rate=0.4)
    rates = [getattr(block.drop_path, 'drop_prob', 0.) for stage in model.stages for block in list(stage)[1:]]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    x = images(8, 32, 32)
    assert torch.equal(model(x)[0], model(x)[0])
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(x)[0], model(x)[0])


def test_layer_depth_follows_the_forward_pass():
    model = DyViT({**ARCH, 'depths': (1, 2, 3, 1)}, out_indices=ALL, pos_embed='learned', img_size=64)
    order, hooks = [], []
    for name, module in model.named_modules():
        if not list(module.children()) and list(module.parameters()):
            hooks.append(module.register_forward_hook(lambda *_, name=name: order.append(name)))
    model(torch.zeros(1, 3, 64, 64))
    depths = []
    for name in order:
        if not name.startswith('norm'):
            depth, count = model.get_layer_depth(f'backbone.{name}.weight', 'backbone.')
            assert count == 7 + 2
            depths.append(depth)
    assert depths == sorted(depths)
    assert set(depths) == set(range(8))
    for name, _ in model.named_parameters():
        depth, _ = model.get_layer_depth('backbone.' + name, 'backbone.')
        assert depth == model.get_layer_depth(name)[0]
        assert 0 <= depth <= 8
        if name.startswith('norm'):
            assert depth == 8
    assert model.get_layer_depth('backbone.pos_embed', 'backbone.') == (0, 9)
    assert model.get_layer_depth('backbone.stages.1.0.expand.weight', 'backbone.') == (2, 9)
    assert model.get_layer_depth('backbone.stages.1.2.norm1.weight', 'backbone.') == (3, 9)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (8, 9)


def test_bf16_autocast_is_close():
    model = randomise(DyViT(ARCH), std=0.1).eval()
    x = images(2, 64, 64).float()
    expected = model(x)[0]
    with torch.autocast('cpu', torch.bfloat16):
        out = model(x)[0]
    assert (out.float() - expected).norm() / expected.norm() < 0.03


@pytest.mark.parametrize('library', ['mmpretrain', 'mmseg', 'mmdet'])
def test_every_library_builds_it(library):
    import importlib
    registry = importlib.import_module(f'{library}.registry').MODELS
    model = registry.build(dict(type='mmpretrain.DyViT', arch=ARCH, out_indices=ALL))
    model.init_weights()
    outs = model(torch.zeros(1, 3, 40, 70))
    assert [tuple(out.shape[1:]) for out in outs] == [(8, 10, 18), (16, 5, 9), (32, 3, 5), (64, 2, 3)]


# OpenMMLab's conventions, as mmpretrain's tests of its backbones have them


@pytest.mark.parametrize('names', [('t', 'T', 'Tiny', 'tiny'), ('s', 'SMALL'), ('b', 'Base')])
def test_archs_have_short_names_in_any_case(names):
    with torch.device('meta'):
        models = [DyViT(name) for name in names]
    full = names[-1].lower()
    assert [model.arch for model in models] == [full] * len(names)
    settings = DyViT.arch_zoo[full]
    assert DyViT.arch_zoo[full[0]] == settings
    with torch.device('meta'):
        custom = DyViT(settings)  # as the libraries' archs, these can be given as they are
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (*models, custom)]
    assert all(one == shapes[0] for one in shapes)
    assert DyViT.output_channels(names[0]) == DyViT.output_channels(full) == models[0].out_channels


def test_a_custom_arch_may_be_written_as_mmpretrains():
    depths, heads = [1, 2, 1, 1], [2, 2, 4, 4]
    model = DyViT(dict(embed_dims=8, depths=depths, num_heads=heads), out_indices=ALL)
    assert model.dims == model.out_channels == (8, 16, 32, 64)
    assert DyViT(dict(embed_dims=[8, 16, 32, 64], depths=depths, num_heads=heads)).dims == model.dims
    assert (model.embed_dims, model.num_layers, model.arch) == (8, 4, 'custom')
    assert model.arch_settings['depths'] == depths
    for stage, depth, number in zip(model.stages, depths, heads, strict=True):
        assert len(stage) == 1 + depth and stage[1].attn.num_heads == number


def test_outputs_have_the_norm_of_the_config():
    x = images(2, 64, 96).float()
    plain = DyViT(ARCH, out_indices=ALL)
    assert {type(getattr(plain, f'norm{i}')).__name__ for i in ALL} == {'SameDtypeLN'} and plain.norm0.eps == 1e-6
    raw = DyViT(ARCH, out_indices=ALL, norm_cfg=None)
    assert not [name for name in raw.state_dict() if name.startswith('norm')]
    raw.load_state_dict({key: value for key, value in plain.state_dict().items() if not key.startswith('norm')})
    for a, b in zip(plain(x), raw(x), strict=True):
        torch.testing.assert_close(a, F.layer_norm(b.permute(0, 2, 3, 1), b.shape[1:2], eps=1e-6).permute(0, 3, 1, 2))
    for cfg, expected in [
        (dict(type='LN', eps=1e-6), lambda b: F.layer_norm(b.permute(0, 2, 3, 1), b.shape[1:2]).permute(0, 3, 1, 2)),
        (dict(type='LN2d'), lambda b: F.layer_norm(b.permute(0, 2, 3, 1), b.shape[1:2]).permute(0, 3, 1, 2)),
        (dict(type='BN'), lambda b: F.batch_norm(b, None, None, training=True)),
        (dict(type='GN', num_groups=2), lambda b: F.group_norm(b, 2)),
    ]:
        model = DyViT(ARCH, out_indices=ALL, norm_cfg=cfg)
        missing, _ = model.load_state_dict(raw.state_dict(), strict=False)
        assert set(missing) <= set(model.allowed_missing)
        for a, b in zip(model(x), raw(x), strict=True):
            torch.testing.assert_close(a, expected(b), rtol=1e-3, atol=1e-4)


def test_norm_eval_holds_batch_norms_alone():
    model = DyViT(ARCH, norm_cfg=dict(type='BN'), norm_eval=True, drop_rate=0.5)
    model.init_weights()
    model.train()
    assert not model.norm3.training and model.drop_after_pos.training and model.stages[0][1].norm1.training
    assert DyViT(ARCH, norm_cfg=dict(type='BN')).train().norm3.training
    assert not DyViT(ARCH, norm_cfg=dict(type='BN', requires_grad=False)).norm3.weight.requires_grad


def test_dropout_after_the_positions():
    x = images(1, 64, 64)
    model = small_dyvit(drop_rate=0.5)
    assert torch.equal(model(x)[0], small_dyvit()(x)[0]) and list(model.state_dict()) == list(small_dyvit().state_dict())
    model.train()
    seen = []
    model.stages[0][0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(x)
    assert 0.4 < (seen[0] == 0).float().mean() < 0.6
    without, before = small_dyvit().train(), torch.random.get_rng_state()
    without(x)
    assert torch.equal(torch.random.get_rng_state(), before)  # without it nothing is drawn


def test_the_stem_starts_as_pytorch_does_or_as_init_cfg_says():
    torch.manual_seed(3)
    expected = torch.nn.Conv2d(3, 8, 7, stride=4)
    torch.manual_seed(3)
    model = DyViT(ARCH)
    model.init_weights()
    assert torch.equal(model.stem.weight, expected.weight) and torch.equal(model.stem.bias, expected.bias)
    assert 0.9 / 147**.5 < model.stem.weight.abs().max() <= 1 / 147**.5
    model = DyViT(ARCH, init_cfg=[dict(type='Xavier', layer='Linear', distribution='uniform'),
                                  dict(type='TruncNormal', layer='Conv2d', std=.02)])
    model.init_weights()
    assert 0.015 < model.stem.weight.std() < 0.025 and not model.stem.bias.any()
    assert [name for name, module in DyViT(ARCH, dense_conv=True).named_modules()
            if isinstance(module, torch.nn.Conv2d)] == ['stem']


def test_a_classifiers_weights_go_into_a_dense_model(tmp_path, monkeypatch):
    """It has no norms of the first three stages: they start afresh, and the line that says so is no error."""
    lines, path = [], str(tmp_path / 'classifier.pth')
    monkeypatch.setattr('coma_mm.weights.load.print_log', lambda line, **_: lines.append(line))
    classifier = randomise(MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='DyViT', arch=ARCH, out_type='avg_featmap'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=64))))
    torch.save(dict(state_dict=classifier.state_dict()), path)
    dense = DyViT(ARCH, out_indices=ALL, init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'))
    dense.init_weights()
    found, theirs = dense.state_dict(), classifier.backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in theirs.items())
    fresh = [f'norm{i}.{name}' for i in (0, 1, 2) for name in ('weight', 'bias')]
    assert set(found) - set(theirs) == set(fresh)
    assert all(torch.equal(found[name], torch.full_like(found[name], float('weight' in name))) for name in fresh)
    line, = lines
    assert f'loaded {len(theirs)} of {len(found)} tensors into DyViT' in line
    assert line.endswith('; 6 that it lacks start afresh: norm0.weight, norm0.bias, norm1.weight, …')


# Bad input


@pytest.mark.parametrize('kwargs, words', [
    (dict(arch='smal'), "arch='smal'.*did you mean 'small'"),
    (dict(arch='vit'), 'expected one of tiny, small, base'),
    (dict(arch=dict(dims=(8, 16, 32, 64))), "expected keys 'dims', 'depths', 'num_heads'"),
    (dict(arch=None), "arch=None: expected one of tiny, small, base"),
    (dict(arch=dict(ARCH, embed_dims=8)), "'embed_dims' for 'dims', one number"),
    (dict(arch=dict(embed_dims='8', depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))), "arch.embed_dims='8': expected a whole"),
    (dict(arch=dict(ARCH, dims=8)), 'each with four numbers'),
    (dict(arch={**ARCH, 'depths': (1, 1)}), 'each with four numbers'),
    (dict(arch={**ARCH, 'num_heads': (3, 2, 4, 4)}), '3 heads do not divide 8 channels'),
    (dict(arch={**ARCH, 'dims': (6, 16, 32, 64)}), 'multiple of 4'),
    (dict(patch_size=64), r'patch_size=64: expected 32 or 16; .*PatchMask\(unit'),
    (dict(windows='defualt'), "did you mean 'default'"),
    (dict(windows=((8, ), (), (), ()), patch_size=16), r'window 8 of stage 0 .* 4×4 tokens; choose from \[1, 2, 4\]'),
    (dict(windows=((3, ), (), (), ())), r'window 3 of stage 0 .* 8×8 tokens; choose from \[1, 2, 4, 8\]'),
    (dict(windows=((8, ), (8, ), (), ())), r'window 8 of stage 1 .* 4×4 tokens; choose from \[1, 2, 4\]'),
    (dict(windows=((0, ), (), (), ())), 'window 0 of stage 0'),
    (dict(windows=((8, 4), (4, ))), 'four sets of window sides'),
    (dict(windows=(8, 4, 2, 1)), 'four sets of window sides'),
    (dict(out_type='cls_token'), 'DyViT: out_type='),
    (dict(out_indices=(0, 4)), 'expected stages 0 to 3'),
    (dict(out_indices=None), 'out_indices=None: expected stages 0 to 3'),
    (dict(out_indices='3'), "out_indices='3': expected stages 0 to 3"),
    (dict(out_indices=[1, '2']), r"out_indices=\[1, '2'\]: expected stages 0 to 3"),
    (dict(out_indices=(1., )), 'expected stages 0 to 3'),
    (dict(out_indices=()), 'expected stages 0 to 3 .*one or a list'),
    (dict(out_indices=(3, 3)), r'out_indices=\(3, 3\) names a stage twice'),
    (dict(out_indices=(3, -1)), 'names a stage twice'),
    (dict(norm_cfg='LN'), "norm_cfg='LN': expected None or the config of a norm"),
    (dict(norm_cfg=dict(type='LayerNom')), 'gives no norm of 64 channels .Cannot find LayerNom'),
    (dict(norm_cfg=dict(type='GN')), 'gives no norm of 64 channels .*num_groups'),
    (dict(norm_eval='False'), "norm_eval='False': expected a bool"),
    (dict(drop_rate=1), 'DyViT: drop_rate=1: expected a number from 0 to below 1'),
    (dict(pos_embed='rope'), 'DyViT: pos_embed='),
    (dict(reduce='max'), "reduce"),
    (dict(frozen_stages=4), 'frozen_stages=4'),
    (dict(with_cp=[0, 4]), r'with_cp=\[0, 4\]: expected True, False, or stages 0 to 3'),
    (dict(with_cp=1), 'with_cp=1: expected True'),
    (dict(drop_path_rate=2), 'DyViT: drop_path_rate=2: expected a number from 0 to below 1'),
    (dict(drop_path_rate=float('nan')), 'DyViT: drop_path_rate=nan: expected'),
    (dict(mlp_ratio=0), 'DyViT: mlp_ratio=0: expected a number above 0'),
    (dict(in_channels='3'), "DyViT: in_channels='3': expected a whole number, 1 or more"),
    (dict(arch=dict(ARCH, depths=(1, -1, 1, 1))), r'DyViT: arch.depths.1=-1: expected a whole number, 0 or more'),
])
def test_bad_arguments(kwargs, words):
    kwargs.setdefault('arch', ARCH)
    with pytest.raises(UserError, match=words) as error:
        DyViT(**kwargs)
    assert '\n' not in str(error.value)
