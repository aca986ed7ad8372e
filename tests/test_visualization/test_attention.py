import numpy as np
import pytest
import torch
from matplotlib.colors import LogNorm
from mmpretrain.models.backbones import ResNet
from mmpretrain.models.utils import MultiheadAttention

from coma_mm.errors import UserError
from coma_mm.models import MaskedVisionTransformer, MultiWindowAttention
from coma_mm.models.token_layout import tokens_to_grid
from coma_mm.visualization import attention_figure, attention_maps, feature_maps, features_figure
from coma_mm.visualization.attention import principal_components, recorded, split_heads, stages

from ..helpers.small_models import randomise, small_dyvit

POINTS = [(.1, .9), (.6, .4)]


def image(rows=2, columns=3):
    return torch.randn(1, 3, 32 * rows, 32 * columns, dtype=torch.float64)


def small_vit():
    arch = dict(embed_dims=16, num_layers=6, num_heads=2, feedforward_channels=32)
    vit = randomise(MaskedVisionTransformer(arch, img_size=64, patch_size=32)).double()
    vit.eval()  # mmpretrain's returns nothing
    return vit


@pytest.mark.parametrize('attention', [
    MultiWindowAttention(8, 2), MultiWindowAttention(8, 2, (4, )), MultiWindowAttention(8, 2, (8, 4, 1)),
    MultiWindowAttention(8, 2, (4, 2), dense_conv=True), MultiWindowAttention(8, 2, (8, 2), reduce='mean'),
    MultiheadAttention(8, 2)
], ids=['plain', 'one', 'several', 'dense', 'mean', 'mmpretrain'])
def test_weights_times_values_are_the_modules_output(attention):
    attention = randomise(attention).double().eval()
    x = torch.randn(2, 128, 8, dtype=torch.float64)
    with recorded([attention]) as found:
        attention(x)
    summed = 0
    for window, q, k, v in split_heads(attention, found[attention][0]):
        assert k.shape[2] == v.shape[2] == 128 // (window or 1)**2
        weights = (q @ k.mT / 2).softmax(-1)  # 4 channels per head
        summed = summed + (weights @ v).transpose(1, 2).flatten(2)
    if isinstance(attention, MultiWindowAttention):
        summed = summed * attention.scale
    torch.testing.assert_close(attention.proj(summed), found[attention][1])
    assert not attention._forward_hooks


@pytest.mark.parametrize('dense_conv', [False, True])
def test_maps_of_windows_by_loops_on_the_grid(dense_conv):
    backbone, x = small_dyvit(windows='fine', dense_conv=dense_conv), image()
    maps = attention_maps(backbone, x, POINTS, windows=True)
    assert [m.title.split('\n') for m in maps] == [
        ['Stage 1', '8×8 tokens per key'], ['Stage 1', '4×4 tokens per key'], ['Stage 1', '2×2 tokens per key'],
        ['Stage 2', '4×4 tokens per key'], ['Stage 2', '2×2 tokens per key']]
    attention = backbone.stages[0][-1].attn
    with recorded([attention]) as found, torch.no_grad():
        backbone(x)
        q, k, _ = attention.qkv(tokens_to_grid(found[attention][0], (2, 3), 8)[0].permute(1, 2, 0)).chunk(3, -1)
        for m, conv, window in zip(maps, attention.convs, (8, 4, 2), strict=False):
            weight = conv.weight[0] if dense_conv else conv.weight[:, :8].diag_embed().flatten(0, 1)  # k²·C, C; Z-order
            kernel = tokens_to_grid(weight.reshape(1, window**2, 64), (1, 1), window)[0].reshape(8, 8, window, window)
            pooled = torch.zeros(16 // window, 24 // window, 8, dtype=torch.float64)
            for row in range(16):
                for column in range(24):
                    pooled[row // window, column // window] += \
                        k[row, column] @ kernel[:, :, row % window, column % window]
            for i, (row, column) in enumerate([(14, 2), (6, 14)]):  # of 16 and 24: 0.9 and 0.1, 0.4 and 0.6
                assert m.boxes[i] == pytest.approx((column / 24, row / 16, 1 / 24, 1 / 16))
                for head in range(2):
                    part = slice(4 * head, 4 * head + 4)
                    expected = (pooled[..., part] @ q[row, column, part] / 2).flatten().softmax(0).view(pooled.shape[:2])
                    np.testing.assert_allclose(m.weights[i, head], expected * expected.numel(), rtol=1e-4)


def test_maps_of_plain_attention():
    maps = attention_maps(small_dyvit(), image(), POINTS, windows=False)
    assert [(m.title, m.weights.shape) for m in maps] == [('Stage 3', (2, 4, 4, 6)), ('Stage 4', (2, 4, 2, 3))]
    for m in maps:
        np.testing.assert_allclose(m.weights.mean((2, 3)), 1, rtol=1e-5)


def test_plain_vision_transformer():
    """The class token is a key, so what the patches get is less than all."""
    vit, x = small_vit(), image(3, 2)
    assert [stage.name for stage in stages(vit)] == ['Layer 2', 'Layer 3', 'Layer 5', 'Layer 6']
    maps = attention_maps(vit, x, POINTS, windows=False)
    attention = vit.layers[-1].attn
    with recorded([attention]) as found, torch.no_grad():
        vit(x)
        (_, q, k, _), = split_heads(attention, found[attention][0])
    weights = 7 * (q @ k.mT / 8**.5).softmax(-1)[0]  # heads, 1 + 6, 1 + 6
    for i, token in enumerate((4, 3)):  # rows of 3, columns of 2: (2, 0) and (1, 1)
        np.testing.assert_allclose(maps[-1].weights[i].reshape(2, 6), weights[:, 1 + token, 1:], rtol=1e-5)
    with pytest.raises(UserError, match='has DM-MSA windows; use the subcommand attention'):
        attention_maps(vit, x, POINTS, windows=True)


def test_other_backbones():
    with pytest.raises(UserError, match='every stage .* use the subcommand windows'):
        attention_maps(small_dyvit(windows=((8, ), (4, ), (2, ), (1, ))), image(), POINTS, windows=False)
    with pytest.raises(UserError, match='a ResNet; expected DyViT'):
        stages(ResNet(18))


@pytest.mark.parametrize('build, names', [(small_dyvit, ['Stage 1', 'Stage 4']), (small_vit, ['Layer 2', 'Layer 6'])])
def test_features(build, names):
    backbone, x = build(), image()
    found = feature_maps(backbone, x)
    assert [found[0][0], found[-1][0]] == names
    last = found[-1][1]
    assert last.shape[1:] == (2, 3)
    if names[0] == 'Stage 1':  # before the output norm
        torch.testing.assert_close(backbone.norm3(last.permute(1, 2, 0)).permute(2, 0, 1)[None], backbone(x)[-1])
    fig = features_figure(np.zeros((64, 96), np.uint8), found)
    assert fig.axes[0].images[0].get_array().shape == (64, 96, 3)  # a grey picture is drawn in grey
    assert len(fig.axes) == 5 and all('% of variance' in ax.get_title() for ax in fig.axes[1:])


def test_principal_components():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 5)) * (9, 5, 2, .1, .01)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0][:5]
    rgb, share = principal_components(torch.from_numpy((scores @ directions + 3).T.reshape(8, 10, 20)))
    assert rgb.shape == (10, 20, 3) and rgb.min() == 0 and rgb.max() == 1
    assert share == pytest.approx(1, abs=1e-3)
    for i in range(3):
        sign = np.sign(directions[i, np.abs(directions[i]).argmax()])
        inside = (rgb[..., i] > 0) & (rgb[..., i] < 1)
        assert np.corrcoef(rgb[..., i][inside], sign * scores[:, i].reshape(10, 20)[inside])[0, 1] > .95
    rgb, share = principal_components(torch.ones(2, 1, 2))  # nothing differs
    assert (rgb == 0).all() and share == 0


@pytest.mark.parametrize('per_head, figures, rows', [(False, 1, 2), (True, 2, 4)])
def test_figures_have_one_scale(per_head, figures, rows):
    maps = attention_maps(small_dyvit(), image(), POINTS, windows=False)
    drawn = attention_figure(np.zeros((64, 96, 3)[:2 + per_head], np.uint8), maps, per_head)
    assert len(drawn) == figures
    shown = [x.norm for fig in drawn for ax in fig.axes for x in ax.images if isinstance(x.norm, LogNorm)]
    norms = {(norm.vmin, norm.vmax) for norm in shown}
    (low, high), = norms
    assert low == .25 and high >= max(m.weights.mean(1).max() for m in maps)
    assert len(drawn[0].axes) == rows * 3 + 1
