"""Parameter groups: learning rate by depth, weight decay by kind."""
import logging
import re

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.errors import UserError

ARCH = dict(dims=(8, 16, 32, 64), depths=(1, 2, 1, 1), num_heads=(2, 2, 4, 4))
BACKBONE = dict(type='mmpretrain.DyViT', arch=ARCH, out_indices=(0, 1, 2, 3), pos_embed='learned', windows='fine')

# Every parameter of DyViT: its depth, and whether it is decayed. Seven depths: the stem, five blocks, what follows.
DYVIT = {
    'pos_embed': (0, False),
    'stem.weight': (0, True),
    'stem.bias': (0, False),
    'stages.0.1.norm[12].(weight|bias)': (1, False),
    'stages.0.1.attn.(qkv|proj).weight': (1, True),
    'stages.0.1.attn.(qkv|proj).bias': (1, False),
    'stages.0.1.attn.convs.[012].weight': (1, True),
    'stages.0.1.mlp.[02].weight': (1, True),
    'stages.0.1.mlp.[02].bias': (1, False),
    'stages.1.0.norm.(weight|bias)': (2, False),
    'stages.1.0.expand.weight': (2, True),
    'stages.1.0.expand.bias': (2, False),
    'stages.1.1.norm[12].(weight|bias)': (2, False),
    'stages.1.1.attn.(qkv|proj).weight': (2, True),
    'stages.1.1.attn.(qkv|proj).bias': (2, False),
    'stages.1.1.attn.convs.[01].weight': (2, True),
    'stages.1.1.mlp.[02].weight': (2, True),
    'stages.1.1.mlp.[02].bias': (2, False),
    'stages.1.2.norm[12].(weight|bias)': (3, False),
    'stages.1.2.attn.(qkv|proj).weight': (3, True),
    'stages.1.2.attn.(qkv|proj).bias': (3, False),
    'stages.1.2.attn.convs.[01].weight': (3, True),
    'stages.1.2.mlp.[02].weight': (3, True),
    'stages.1.2.mlp.[02].bias': (3, False),
    'stages.2.0.norm.(weight|bias)': (4, False),
    'stages.2.0.expand.weight': (4, True),
    'stages.2.0.expand.bias': (4, False),
    'stages.2.1.norm[12].(weight|bias)': (4, False),
    'stages.2.1.attn.(qkv|proj).weight': (4, True),
    'stages.2.1.attn.(qkv|proj).bias': (4, False),
    'stages.2.1.mlp.[02].weight': (4, True),
    'stages.2.1.mlp.[02].bias': (4, False),
    'stages.3.0.norm.(weight|bias)': (5, False),
    'stages.3.0.expand.weight': (5, True),
    'stages.3.0.expand.bias': (5, False),
    'stages.3.1.norm[12].(weight|bias)': (5, False),
    'stages.3.1.attn.(qkv|proj).weight': (5, True),
    'stages.3.1.attn.(qkv|proj).bias': (5, False),
    'stages.3.1.mlp.[02].weight': (5, True),
    'stages.3.1.mlp.[02].bias': (5, False),
    'norm[0123].(weight|bias)': (6, False),
}
# What is around it, in pre-training, in a segmentor and in a detector.
PRETRAINING = {
    'neck.convs.[012].weight': (6, True),
    'neck.convs.[012].bias': (6, False),
    'decoder.mask_token': (6, False),
    'decoder.embed.weight': (6, True),
    'decoder.embed.bias': (6, False),
    'decoder.blocks.0.(ln1|ln2).(weight|bias)': (6, False),
    'decoder.blocks.0.attn.(qkv|proj).weight': (6, True),
    'decoder.blocks.0.attn.(qkv|proj).bias': (6, False),
    'decoder.blocks.0.ffn.layers.(0.0|1).weight': (6, True),
    'decoder.blocks.0.ffn.layers.(0.0|1).bias': (6, False),
    'decoder.norm.(weight|bias)': (6, False),
    'decoder.predict.weight': (6, True),
    'decoder.predict.bias': (6, False),
}
SEGMENTOR = {
    'decode_head.(convs.0|convs.1).conv.weight': (6, True),
    'decode_head.(convs.0|convs.1).bn.(weight|bias)': (6, False),
    'decode_head.conv_seg.weight': (6, True),
    'decode_head.conv_seg.bias': (6, False),
}
DETECTOR = {
    'neck.(lateral_convs|fpn_convs).[0123].conv.weight': (6, True),
    'neck.(lateral_convs|fpn_convs).[0123].conv.bias': (6, False),
    'bbox_head.(cls_convs|reg_convs).0.conv.weight': (6, True),
    'bbox_head.(cls_convs|reg_convs).0.gn.(weight|bias)': (6, False),
    'bbox_head.(conv_cls|conv_reg|conv_centerness).weight': (6, True),
    'bbox_head.(conv_cls|conv_reg|conv_centerness).bias': (6, False),
    'bbox_head.scales.[01234].scale': (6, False),
}


def pretraining():
    return MODELS.build(dict(
        type='CoMA', backbone=dict(BACKBONE, out_type='raw'), head=dict(type='PixelHead'),
        neck=dict(type='MultiScaleFusion', in_channels=ARCH['dims']),
        decoder=dict(type='ViTDecoder', in_channels=64, embed_dims=16, depth=1, num_heads=2)))


def segmentor():
    from mmseg.registry import MODELS
    return MODELS.build(dict(type='EncoderDecoder', backbone=BACKBONE, decode_head=dict(
        type='FCNHead', in_channels=64, in_index=3, channels=8, concat_input=False, num_classes=3,
        norm_cfg=dict(type='BN'))))


def detector():
    from mmdet.registry import MODELS
    return MODELS.build(dict(
        type='FCOS', backbone=BACKBONE,
        neck=dict(type='FPN', in_channels=list(ARCH['dims']), out_channels=8, num_outs=5),
        bbox_head=dict(type='FCOSHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1, conv_bias=False,
                       norm_cfg=dict(type='GN', num_groups=4))))


def build(model, optimizer=None, **paramwise):
    return build_optim_wrapper(model, dict(
        optimizer=dict(type='AdamW', lr=1., weight_decay=0.1) | (optimizer or {}),
        constructor='LayerDecayOptimWrapperConstructor', paramwise_cfg=paramwise or None))


def groups_of(model, **kwargs):
    """The group of each parameter by name; every one is in one group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    pairs = [(names[parameter], group) for group in build(model, **kwargs).optimizer.param_groups
             for parameter in group['params']]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@pytest.mark.parametrize('model, around', [(pretraining, PRETRAINING), (segmentor, SEGMENTOR), (detector, DETECTOR)])
def test_every_parameter_has_its_depth_and_decay(model, around):
    table = {rf'backbone\.{pattern}': values for pattern, values in DYVIT.items()} | around
    model, used = model(), set()
    groups = groups_of(model, layer_decay_rate=0.5)
    assert groups.keys() == {name for name, _ in model.named_parameters()}
    assert not any(name.startswith('evaluation') for name in groups)
    for name, group in groups.items():
        (pattern, (depth, decayed)), = ((key, values) for key, values in table.items() if re.fullmatch(key, name))
        used.add(pattern)
        assert (group['lr'], group['weight_decay']) == (0.5**(6 - depth), 0.1 * decayed), name
        assert group['depth'] == str(depth)
    assert used == table.keys()


def test_equal_settings_share_a_group():
    wrapper = build(pretraining(), layer_decay_rate=0.5)
    settings = [(group['lr'], group['weight_decay']) for group in wrapper.optimizer.param_groups]
    assert len(set(settings)) == len(settings) == 14
    assert [group['depth'] for group in wrapper.optimizer.param_groups] == [str(i) for i in range(7) for _ in range(2)]


def test_rate_one_is_the_default_and_asks_for_no_depths():
    groups = groups_of(pretraining())
    assert {group['lr'] for group in groups.values()} == {1.}
    assert len({id(group) for group in groups.values()}) == 2
    assert groups['backbone.stem.weight'] is groups['decoder.predict.weight']
    plain = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    assert {name: group['weight_decay'] for name, group in groups_of(plain).items()} == {
        '0.weight': 0.1, '0.bias': 0, '1.weight': 0, '1.bias': 0}
    with pytest.raises(UserError, match='get_layer_depth, which NoneType does not have'):
        build(plain, layer_decay_rate=0.9)


@pytest.mark.parametrize('backbone', [
    dict(type='VisionTransformer', img_size=32, patch_size=8, out_type='avg_featmap',
         arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)),
    dict(type='BEiTViT', img_size=32, patch_size=8, use_rel_pos_bias=True, out_type='avg_featmap',
         arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)),
    dict(type='SwinTransformer', img_size=64, use_abs_pos_embed=True,
         arch=dict(embed_dims=2, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])),
])
def test_learning_rates_agree_with_mmpretrain(backbone):
    model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, neck=None,
                              head=dict(type='LinearClsHead', num_classes=3, in_channels=16)))
    theirs = build_optim_wrapper(model, dict(
        optimizer=dict(type='AdamW', lr=1., weight_decay=0.1),
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.65, norm_decay_mult=0., bias_decay_mult=0., flat_decay_mult=0.)))
    expected = {group['param_name']: group for group in theirs.optimizer.param_groups}
    groups = groups_of(model, layer_decay_rate=0.65)
    assert groups.keys() == expected.keys()
    tokens = {name for name in groups
              if re.search(r'(pos_embed|cls_token|relative_position_bias_table|mask_token)$', name)}
    assert tokens
    for name, group in groups.items():
        assert group['lr'] == pytest.approx(expected[name]['lr'], rel=1e-12), name
        assert group['weight_decay'] == (0 if name in tokens else expected[name]['weight_decay']), name


def test_the_config_may_say_otherwise():
    groups = groups_of(pretraining(), layer_decay_rate=0.5, norm_decay_mult=0.5, bias_decay_mult=2., flat_decay_mult=3.,
                       custom_keys={'pos_embed': dict(decay_mult=1.), 'neck': dict(lr_mult=0.1, betas=[0.9, 0.95]),
                                    'neck.convs.0': dict(decay_mult=0.), 'stem': {}, 'backbone.stem': dict(lr_mult=2.)})
    assert groups['backbone.stem.weight']['lr'] == 2 * 0.5**6
    assert groups['backbone.norm0.bias']['weight_decay'] == 0.05
    assert groups['backbone.stages.0.1.mlp.0.bias']['weight_decay'] == 0.2
    assert groups['decoder.mask_token']['weight_decay'] == 0
    assert groups['backbone.pos_embed']['weight_decay'] == 0.1 and groups['backbone.pos_embed']['lr'] == 0.5**6
    assert groups['neck.convs.1.bias']['lr'] == 0.1 and groups['neck.convs.1.bias']['betas'] == [0.9, 0.95]
    assert groups['neck.convs.1.bias']['weight_decay'] == 0.1
    assert groups['neck.convs.0.weight']['lr'] == 1 and groups['neck.convs.0.weight']['weight_decay'] == 0
    model = nn.Sequential(nn.Module())
    model[0].scale = nn.Parameter(torch.ones(2))
    assert groups_of(model, flat_decay_mult=3.)['0.scale']['weight_decay'] == pytest.approx(0.3)


def test_without_a_weight_decay_the_optimisers_own_is_for_matrices_alone():
    wrapper = build_optim_wrapper(nn.Linear(2, 2), dict(
        optimizer=dict(type='AdamW', lr=1.), constructor='LayerDecayOptimWrapperConstructor'))
    assert [group['weight_decay'] for group in wrapper.optimizer.param_groups] == [0.01, 0]


def test_frozen_and_shared_parameters():
    model = pretraining()
    model.backbone.stem.requires_grad_(False)
    model.head.shared = model.decoder.predict
    groups = groups_of(model)
    assert 'backbone.stem.weight' not in groups
    assert len({'head.shared.weight', 'decoder.predict.weight'} & groups.keys()) == 1


def test_a_table_is_logged(tmp_path):
    logger = MMLogger.get_instance('layer_decay', log_file=str(tmp_path / 'log'))
    model = nn.Module()
    model.backbone = MODELS.build(dict(BACKBONE, frozen_stages=1))
    model.head = nn.Linear(64, 1000)
    build(model, optimizer=dict(lr=4e-3, weight_decay=0.05), layer_decay_rate=0.5)
    logger.handlers.clear()
    lines = (tmp_path / 'log').read_text().splitlines()
    assert lines[0].endswith('Parameter groups of the optimiser:')
    assert [line.split() for line in lines[1:]] == [
        ['depth', 'learning', 'rate', 'weight', 'decay', 'tensors', 'parameters'],
        # Weights: downsampling 16·32, attention 32·96 + 32·32, MLP 2·32·128; the rest: 2·16 + 32, 96 + 32, 128 + 32, 4·32.
        ['4', '0.001', '0.05', '5', f'{16 * 32 + 32 * 96 + 32 * 32 + 2 * 32 * 128:,}'],
        ['4', '0.001', '0', '11', f'{2 * 16 + 32 + 96 + 32 + 128 + 32 + 4 * 32:,}'],
        ['5', '0.002', '0.05', '5', f'{32 * 64 + 64 * 192 + 64 * 64 + 2 * 64 * 256:,}'],
        ['5', '0.002', '0', '11', f'{2 * 32 + 64 + 192 + 64 + 256 + 64 + 4 * 64:,}'],
        ['6', '0.004', '0.05', '1', '64,000'],
        ['6', '0.004', '0', '5', f'{1000 + 2 * 32 + 2 * 64:,}'],
        ['total', '38', f'{sum(p.numel() for p in model.parameters() if p.requires_grad):,}'],
    ]


@pytest.mark.parametrize('options, expected', [
    (dict(paramwise_cfg=dict(decay_rate=0.7)), "paramwise_cfg='decay_rate': expected one of layer_decay_rate, norm"),
    (dict(optimizer=dict(type='AdamW')), 'the optimiser needs lr'),
    (dict(paramwise_cfg=dict(layer_decay_rate=float('nan'))), 'paramwise_cfg.layer_decay_rate=nan: expected a number'),
    (dict(paramwise_cfg=dict(norm_decay_mult=-1)), 'paramwise_cfg.norm_decay_mult=-1: expected a number, 0 or more'),
])
def test_errors(options, expected):
    with pytest.raises(UserError, match=expected):
        build_optim_wrapper(nn.Linear(2, 2), dict(
            dict(optimizer=dict(type='AdamW', lr=1.), constructor='LayerDecayOptimWrapperConstructor'), **options))


def test_other_backbone_is_refused():
    model = nn.Module()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(UserError, match='get_layer_depth, which Linear does not have'):
        build(model, layer_decay_rate=0.5)


@pytest.fixture(autouse=True)
def quiet():
    yield
    for name in list(MMLogger._instance_dict):
        logging.getLogger(name).handlers.clear()
