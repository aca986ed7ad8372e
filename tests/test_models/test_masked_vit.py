import copy

import numpy as np
import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.selfsup import MAEViT
from mmpretrain.models.utils import build_2d_sincos_position_embedding

from coma_mm.datasets import PatchMask
from coma_mm.errors import UserError
from coma_mm.models import CoMA, MaskedVisionTransformer
from coma_mm.weights import load as checkpoint_module

from ..helpers.small_models import giga_macs, randomise
from ..helpers.suites import MaskedEncoderSuite

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


def settings(**kwargs):
    return dict(dict(arch=ARCH, img_size=32, patch_size=8, out_type='raw'), **kwargs)


def small_vit(**kwargs):
    """A ViT of two layers of 16 channels and 4×4 patches of 8 px with random weights, in float64."""
    return evaluating(randomise(MaskedVisionTransformer(**settings(**kwargs))))


def evaluating(model):
    """In float64 and evaluation mode; `eval()` of mmpretrain's backbones returns None."""
    model.double().eval()
    return model


def images(B=2, H=32, W=32):
    return torch.randn(B, 3, H, W, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class TestMaskedEncoder(MaskedEncoderSuite):
    """On 2×3 patches, so the position embedding of 4×4 is resized."""

    def build(self):
        return small_vit()


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(out_type='avg_featmap', final_norm=False),
    dict(out_type='cls_token', out_indices=[0, 1]),
    dict(out_type='featmap', with_cls_token=False),
])
@pytest.mark.parametrize('size', [(32, 32), (16, 48)])
def test_without_a_mask_it_is_its_parent(kwargs, size):
    ours = small_vit(**kwargs)
    parent = evaluating(VisionTransformer(**settings(**kwargs)))
    parent.load_state_dict(ours.state_dict())
    x = images(2, *size)
    outs, expected = ours(x), parent(x)
    assert len(outs) == len(expected)
    for a, b in zip(outs, expected, strict=True):
        assert torch.equal(a, b)
    for name, _ in ours.named_parameters():
        depth = ours.get_layer_depth('backbone.' + name, 'backbone.')
        assert depth == parent.get_layer_depth('backbone.' + name, 'backbone.')


def test_depths_follow_the_layers():
    model = small_vit()
    names = ['cls_token', 'pos_embed', 'patch_embed.projection.weight', 'layers.0.attn.qkv.bias',
             'layers.1.ffn.layers.1.weight', 'ln1.weight']
    assert [model.get_layer_depth(f'backbone.{name}', 'backbone.') for name in names] == [
        (0, 4), (0, 4), (0, 4), (1, 4), (2, 4), (3, 4)]
    assert model.get_layer_depth('head.weight', 'backbone.') == (3, 4)


@pytest.mark.parametrize('ratio', [0.25, 0.75])
def test_masked_it_is_mmpretrains_mae_encoder(ratio):
    ours = small_vit()
    theirs = evaluating(MAEViT(arch=ARCH, img_size=32, patch_size=8, mask_ratio=ratio))
    theirs.load_state_dict(ours.state_dict())
    x = images()
    expected, _, ids_restore = theirs(x)
    ids_keep = ids_restore.argsort(1)[:, :expected.shape[1] - 1]
    out, = ours(x, ids_keep)
    torch.testing.assert_close(out, expected[:, 1:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('kwargs', [dict(), dict(with_cls_token=False), dict(pre_norm=True, final_norm=False),
                                    dict(out_indices=[0, 1])])
def test_keeping_all_patches_is_the_dense_encoder(kwargs):
    model, x = small_vit(**kwargs), images(2, 16, 40)
    masked, dense = model(x, torch.arange(10).expand(2, 10)), model(x)
    assert len(masked) == len(dense)
    for a, b in zip(masked, dense, strict=True):
        torch.testing.assert_close(a, b[:, model.num_extra_tokens:], rtol=1e-12, atol=1e-12)


def test_masked_input_needs_raw_output():
    with pytest.raises(ValueError, match="out_type='raw'"):
        small_vit(out_type='avg_featmap')(images(), torch.tensor([[0], [1]]))


# Initialisation and pre-trained weights


def test_starts_as_mmpretrains_mae_encoder():
    init_cfg = [dict(type='Xavier', layer='Linear', distribution='uniform')]
    torch.manual_seed(0)
    ours = MaskedVisionTransformer(**settings())
    ours.init_weights()
    torch.manual_seed(0)
    theirs = MAEViT(ARCH, 32, 8, init_cfg=init_cfg)
    theirs.init_weights()
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 if name == 'pos_embed' else 0, msg=name)
    assert [name for name, p in ours.named_parameters() if not p.requires_grad] == ['pos_embed']


def test_positions_of_rectangles_encode_rows_first():
    """The rows of a square's embedding, wherever the rectangle has them."""
    model = MaskedVisionTransformer(**settings(img_size=(16, 40), with_cls_token=False))
    model.init_weights()
    square = build_2d_sincos_position_embedding(5, 16).view(5, 5, 16)
    torch.testing.assert_close(model.pos_embed.view(2, 5, 16).data, square[:2], rtol=0, atol=1e-5)


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(checkpoint_module, 'print_log', lambda line, **_: lines.append(line))
    return lines


def save(path, model):
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in model.state_dict().items()}), path)
    return dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')


def test_pretrained_weights_are_loaded_with_a_report(tmp_path, log):
    """For the features that MAE fine-tunes: averaged, then a new norm, in place of the norm before."""
    source = small_vit()
    init_cfg = save(tmp_path / 'a.pth', source)
    for kwargs in (dict(), dict(out_type='avg_featmap', final_norm=False)):
        model = MaskedVisionTransformer(**settings(init_cfg=init_cfg, **kwargs)).double()
        model.init_weights()
        weights = model.state_dict()
        assert all(torch.equal(weights[k], v) for k, v in source.state_dict().items() if k in weights)
        assert model.provenance['checkpoint'] == init_cfg['checkpoint']
    assert 'loaded 30 of 30 tensors into MaskedVisionTransformer' in log[0]
    assert 'loaded 28 of 30' in log[1] and '2 tensors of the checkpoint have no place here: ln1.weight' in log[1]
    assert (model.ln2.weight == 1).all()


def test_pretrained_positions_are_resized(tmp_path, log):
    source = small_vit()
    model = MaskedVisionTransformer(**settings(img_size=(48, 24), init_cfg=save(tmp_path / 'a.pth', source)))
    model.init_weights()
    assert model.pos_embed.shape == (1, 1 + 6 * 3, 16)
    x = images(2, 48, 24)
    torch.testing.assert_close(evaluating(model)(x)[0], source(x)[0], rtol=1e-6, atol=1e-6)


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path, log):
    init_cfg = save(tmp_path / 'a.pth', small_vit(patch_size=16))
    with pytest.raises(UserError, match='a.pth.*does not fit MaskedVisionTransformer.*patch_embed.projection.weight'):
        MaskedVisionTransformer(**settings(init_cfg=init_cfg)).init_weights()
    init_cfg = save(tmp_path / 'b.pth', small_vit(pre_norm=True))
    with pytest.raises(UserError, match='b.pth.*lacks 1 of 30 tensors.*patch_embed.projection.bias'):
        MaskedVisionTransformer(**settings(init_cfg=init_cfg)).init_weights()


# Pre-training


def small_coma(complement='frozen', **changes):
    cfg = dict(
        backbone=dict(type='MaskedVisionTransformer', **settings()),
        neck=dict(type='MultiScaleFusion', in_channels=(16, )),
        decoder=dict(type='ViTDecoder', in_channels=16, patch_size=8, embed_dims=16, depth=1, num_heads=2),
        head=dict(type='PixelHead', patch_size=8))
    model = randomise(CoMA(**dict(cfg, **changes), complement=complement)).double().train()
    model.sync_evaluation()
    return model


def masked_batch(unit=8):
    """Two images and masks of units of 8 px or more, as the pipeline draws them."""
    draws = [PatchMask(dict(type='UniformMaskSampler', ratio=0.5), patch_size=8, unit=unit)(
        dict(img=np.zeros((32, 32, 3), np.uint8))) for _ in range(2)]
    return dict(inputs=images(), **{key: torch.from_numpy(np.stack([d[key] for d in draws]))
                                    for key in ('ids_keep', 'ids_rest')})


@pytest.mark.parametrize('complement', ['frozen', 'decoder', 'full', 'latent', 'none'])
@pytest.mark.parametrize('unit', [8, 16])
def test_coma_trains_every_parameter(complement, unit):
    model, batch = small_coma(complement), masked_batch(unit)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model.follow(optimizer)
    before = copy.deepcopy(model.state_dict())
    model(**batch, mode='loss')['loss'].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in optimizer.param_groups[0]['params'])
    optimizer.step()
    for name, value in model.evaluation.state_dict().items():
        assert torch.equal(value, before[name])
        assert not torch.equal(model.state_dict()[name], value) or name == 'backbone.pos_embed'


CONVNEXT = dict(type='ConvNeXtDecoder', embed_dims=16, depth=1)


@pytest.mark.parametrize('changes', [dict(), dict(decoder=CONVNEXT), dict(complement='latent')])
def test_compiles_as_one_graph_and_runs_in_bf16(changes):
    torch._dynamo.reset()
    model, batch = small_coma(**changes).float(), masked_batch()
    batch['inputs'] = batch['inputs'].float()
    expected = model(**batch, mode='loss')['loss']
    compiled = torch.compile(model.forward, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(**batch, mode='loss')['loss'], expected)
    with torch.autocast('cpu', torch.bfloat16):
        loss = model(**batch, mode='loss')['loss']
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected.item(), rel=0.02)


def test_units_of_several_patches_are_kept_whole():
    ids_keep = masked_batch(16)['ids_keep']
    assert ids_keep.shape == (2, 8)
    for ids in ids_keep.tolist():
        units = {(i // 4 // 2, i % 4 // 2) for i in ids}
        assert len(units) == 2


@pytest.mark.parametrize('part', ['decoder', 'head'])
def test_patch_sizes_that_differ_are_refused(part):
    wrong = dict(decoder=dict(type='ViTDecoder', patch_size=32, embed_dims=16, depth=1, num_heads=2),
                 head=dict(type='PixelHead', patch_size=32))
    with pytest.raises(UserError, match=f"patch_size differs: .*'backbone': 8.*'{part}': 32"):
        small_coma(**{part: wrong[part]})


# Size and cost


def test_base_is_the_size_and_cost_of_the_papers_vit_b():
    """At 224 px; 87 M in the paper's Table 2 is with the classifier."""
    with torch.device('meta'):
        model = MaskedVisionTransformer(out_type='raw')
        x, ids_keep = torch.empty(1, 3, 224, 224), torch.empty(1, 78, dtype=torch.int64)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 85.8
    layers, attention = giga_macs(model, x)
    assert (round(layers, 1), round(layers + attention, 1)) == (16.8, 17.6)
    layers, attention = giga_macs(model, x, ids_keep)
    assert (round(layers, 1), round(layers + attention, 1)) == (6.8, 6.9)
