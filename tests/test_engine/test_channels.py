"""Parts that read another number of channels, or something else, than the backbone gives."""
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

from coma_mm.config.read import register_libraries
from coma_mm.engine.agreement.channels import check_channels
from coma_mm.engine.agreement.parts import Parts
from coma_mm.errors import UserError

from ..helpers.small_models import ARCH

WIDTHS = list(ARCH['dims'])  # 8, 16, 32, 64


def check(scope, backbone=None, **model):
    """The message, or None; a model is left as it was."""
    cfg = ConfigDict(model, backbone=dict(
        dict(type='mmpretrain.DyViT', arch=ARCH, out_indices=(0, 1, 2, 3)), **(backbone or {})))
    register_libraries(scope)
    with DefaultScope.overwrite_default_scope(scope):
        built = MODELS.build(cfg.copy())
    built.backbone.stages[0].eval()
    numbers, modes = torch.random.get_rng_state(), [module.training for module in built.modules()]
    state = {name: value.clone() for name, value in built.state_dict().items()}
    try:
        check_channels(Parts(built, [], [], [], '', model_cfg=cfg))
        found = None
    except UserError as error:
        found = str(error)
    assert modes == [module.training for module in built.modules()] and torch.equal(numbers, torch.random.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in built.state_dict().items())
    return found


def segmentor(in_channels=WIDTHS, auxiliary=32, in_index=2, **backbone):
    head = dict(channels=8, num_classes=3, norm_cfg=dict(type='BN'))
    return check('mmseg', backbone, type='EncoderDecoder',
                 decode_head=dict(head, type='UPerHead', in_channels=in_channels, in_index=[0, 1, 2, 3]),
                 auxiliary_head=dict(head, type='FCNHead', in_channels=auxiliary, in_index=in_index))


def detector(neck=None, backbone=None, **model):
    return check('mmdet', backbone, type='SingleStageDetector', neck=neck or dict(type='FPN', in_channels=WIDTHS,
                 out_channels=8, num_outs=5), bbox_head=dict(type='RetinaHead', num_classes=3, in_channels=8, **model))


def test_heads_of_a_segmenter():
    assert segmentor() is None
    assert segmentor([96, 192, 384, 768]) == (
        'model.decode_head.in_channels=[96, 192, 384, 768] for in_index=[0, 1, 2, 3] does not fit the backbone: DyViT with '
        'out_indices=(0, 1, 2, 3) gives outputs of [8, 16, 32, 64] channels; set model.decode_head.in_channels=[8,16,32,64]')
    assert segmentor([96, 192, 384, 768], 384).startswith(
        'model.decode_head.in_channels=[96, 192, 384, 768] for in_index=[0, 1, 2, 3] and '
        'model.auxiliary_head.in_channels=384 for in_index=2 do not fit')
    assert segmentor(auxiliary=64).endswith('set model.auxiliary_head.in_channels=32')
    assert 'for in_index=4 does not fit' in segmentor(in_index=4)
    assert segmentor(in_index=4).endswith('take other stages by in_index or model.backbone.out_indices')
    assert 'gives outputs of [16, 32, 64] channels' in segmentor(out_indices=(1, 2, 3))


@pytest.mark.parametrize('kind', ['avg_featmap', 'raw'])
def test_a_backbone_without_maps_in_a_dense_model(kind):
    expected = (f"reads feature maps, and DyViT with out_indices=(0, 1, 2, 3) gives none with out_type='{kind}'; set "
                "model.backbone.out_type='featmap'")
    assert segmentor(out_type=kind) == f'EncoderDecoder {expected}'
    assert detector(backbone=dict(out_type=kind)) == f'SingleStageDetector {expected}'


def test_necks_of_detectors():
    assert detector() is None
    others = [256, 512, 1024, 2048]
    for neck in (dict(type='FPN', num_outs=5), dict(type='ChannelMapper', num_outs=4)):
        found = detector(dict(neck, in_channels=others, out_channels=8))
        assert found == (
            'model.neck.in_channels=[256, 512, 1024, 2048] does not fit the backbone: DyViT with out_indices=(0, 1, 2, 3) '
            'gives outputs of [8, 16, 32, 64] channels; set model.neck.in_channels=[8,16,32,64]')
    neck = [dict(type='FPN', in_channels=others, out_channels=8, num_outs=5),
            dict(type='BFP', in_channels=8, num_levels=5, refine_level=2, refine_type=None)]
    assert 'model.neck.in_channels=[256' in detector(neck)
    assert detector([dict(neck[0], in_channels=WIDTHS), neck[1]]) is None
    assert 'gives outputs of [16, 32, 64]' in detector(backbone=dict(out_indices=(1, 2, 3)))


def test_what_looks_wrong_and_works_is_not_refused():
    # Levels that FPN does not read may be of any width, and there are necks that read the last map first.
    fpn = dict(type='FPN', in_channels=[1, 16, 32, 64], out_channels=8, num_outs=5, start_level=1)
    assert detector(fpn) is None
    yolo = dict(type='YOLOV3Neck', num_scales=3, in_channels=[64, 32, 16], out_channels=[32, 16, 8])
    assert detector(yolo, dict(out_indices=(1, 2, 3))) is None
    assert 'model.neck.in_channels=[128' in detector(dict(yolo, in_channels=[128, 32, 16]), dict(out_indices=(1, 2, 3)))
    assert detector(dict(type='DilatedEncoder', in_channels=64, out_channels=8, block_mid_channels=4, num_residual_blocks=1,
                         block_dilations=[2])) is None


def test_heads_of_a_classifier():
    def classify(width, neck='GlobalAveragePooling', **backbone):
        return check('mmpretrain', backbone, type='ImageClassifier', neck=dict(type=neck),
                     head=dict(type='LinearClsHead', num_classes=3, in_channels=width))

    assert classify(64) is None
    assert classify(120, 'ConcatStages', out_type='avg_featmap') is None
    assert classify(256) == (
        'model.head.in_channels=256 does not fit the backbone: DyViT with out_indices=(0, 1, 2, 3) gives outputs of [8, 16, '
        '32, 64] channels; set model.head.in_channels=64')


def test_a_head_of_masks_reads_the_maps_itself():
    cfg = dict(type='MaskFormerHead', in_channels=[96, 192, 384, 768], feat_channels=8, out_channels=8, num_things_classes=3,
               num_stuff_classes=0, num_queries=2, pixel_decoder=dict(
                   type='PixelDecoder', norm_cfg=dict(type='GN', num_groups=2), act_cfg=dict(type='ReLU')),
               enforce_decoder_input_project=False, positional_encoding=dict(num_feats=4, normalize=True),
               transformer_decoder=dict(num_layers=1, layer_cfg=dict(
                   self_attn_cfg=dict(embed_dims=8, num_heads=1), cross_attn_cfg=dict(embed_dims=8, num_heads=1),
                   ffn_cfg=dict(embed_dims=8, feedforward_channels=8))),
               loss_cls=dict(type='CrossEntropyLoss', class_weight=[1.] * 4), loss_mask=dict(type='FocalLoss'),
               loss_dice=dict(type='DiceLoss'))
    fusion = dict(type='MaskFormerFusionHead', num_things_classes=3, num_stuff_classes=0)
    model = dict(type='MaskFormer', panoptic_fusion_head=fusion)
    assert check('mmdet', **model, panoptic_head=dict(cfg, in_channels=WIDTHS)) is None
    assert check('mmdet', **model, panoptic_head=cfg).startswith(
        'model.panoptic_head.in_channels=[96, 192, 384, 768] does not fit the backbone')
