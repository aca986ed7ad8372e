"""Mask2Former for instances, on the easy level of CoMA-Shapes, from its pre-training or PRETRAINED. Values: ours."""
_base_ = [
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', '../_base_/datasets/shapes-easy_dense.py',
    '../_base_/runtime.py'
]
# Each of 4 heads for 16 channels; the maps of the last two stages have one stride.
attention = dict(embed_dims=64, num_heads=4)
positions = dict(num_feats=32)
model = dict(
    data_preprocessor=dict(batch_augments=[dict(type='BatchFixedSizePad', size=(64, 64), pad_mask=True)]),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.DyViT',
        arch='tiny',
        patch_size=16,
        pos_scale=0.25,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint={{_base_.pretrained_easy}}, prefix='backbone.')),
    panoptic_head=dict(
        in_channels=[32, 64, 128, 256],
        strides=[4, 8, 16, 16],
        feat_channels=64,
        out_channels=64,
        num_queries=10,
        num_things_classes=5,
        num_stuff_classes=0,
        pixel_decoder=dict(
            norm_cfg=dict(num_groups=8),
            encoder=dict(
                num_layers=2,
                layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=dict(embed_dims=64, feedforward_channels=128))),
            positional_encoding=positions),
        positional_encoding=positions,
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=64, feedforward_channels=128))),
        loss_cls=dict(class_weight=[1.0] * 5 + [0.1])),
    panoptic_fusion_head=dict(num_things_classes=5),
    train_cfg=dict(num_points=256),
    test_cfg=dict(max_per_image=10))
train_dataloader = dict(_base_.easy_training, _delete_=True, dataset=_base_.easy_coco_train)
val_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_coco_val)
test_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_coco_test)
val_evaluator = dict(ann_file={{_base_.coco_val_file}})
test_evaluator = dict(ann_file={{_base_.coco_test_file}})
optim_wrapper = dict(optimizer=dict(lr=1e-3, fused=True))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
param_scheduler = _base_.easy_schedule
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=2))
randomness = dict(seed=0)
log_processor = dict(by_epoch=True)
