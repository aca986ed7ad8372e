"""The easy level of CoMA-Shapes for detectors and segmenters, and a short schedule; configs take what they need by name."""
_base_ = './shapes.py'
easy_det_train = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
easy_det_test = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
easy_coco = dict(type='CocoDataset', data_root={{_base_.coco_root}}, metainfo={{_base_.easy_metainfo}})
easy_coco_train = dict(
    easy_coco, ann_file='annotations/instances_train.json', data_prefix=dict(img='train/'),
    filter_cfg=dict(filter_empty_gt=True), pipeline=easy_det_train)
easy_coco_val = dict(
    easy_coco, ann_file='annotations/instances_val.json', data_prefix=dict(img='val/'), test_mode=True,
    pipeline=easy_det_test)
easy_coco_test = dict(easy_coco_val, ann_file='annotations/instances_test.json', data_prefix=dict(img='test/'))

easy_seg_train = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(64, 64), ratio_range=(1.0, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
easy_seg_test = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# As in ADE20K, 0 in the PNGs is not a class: background takes no part in loss and metric.
easy_ade20k = dict(
    type='BaseSegDataset', data_root={{_base_.ade20k_root}}, metainfo={{_base_.easy_metainfo}}, reduce_zero_label=True)
easy_ade20k_train = dict(
    easy_ade20k, data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    pipeline=easy_seg_train)
easy_ade20k_val = dict(
    easy_ade20k, data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
    pipeline=easy_seg_test)
easy_ade20k_test = dict(easy_ade20k_val, data_prefix=dict(img_path='images/test', seg_map_path='annotations/test'))

easy_training = dict(
    batch_size=8, num_workers=2, persistent_workers=True, drop_last=True, sampler=dict(type='DefaultSampler', shuffle=True))
easy_testing = dict(
    batch_size=8, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False))

easy_schedule = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=12, eta_min=1e-6, convert_to_iter_based=True),
]
easy_loop = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
easy_hooks = dict(
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=2))

easy_backbone = dict(
    type='mmpretrain.DyViT',
    arch='tiny',
    patch_size=16,
    pos_scale=0.25,
    init_cfg=dict(type='Pretrained', checkpoint={{_base_.pretrained_easy}}, prefix='backbone.'))

# Mask2Former's head, in both libraries. Each of 4 heads for 16 channels; the maps of the last two stages have one stride.
easy_attention = dict(embed_dims=64, num_heads=4)
easy_positions = dict(num_feats=32)
easy_ffn = dict(embed_dims=64, feedforward_channels=128)
easy_mask2former_head = dict(
    in_channels=[32, 64, 128, 256],
    strides=[4, 8, 16, 16],
    feat_channels=64,
    out_channels=64,
    num_queries=10,
    pixel_decoder=dict(
        norm_cfg=dict(num_groups=8),
        encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=easy_attention, ffn_cfg=easy_ffn)),
        positional_encoding=easy_positions),
    positional_encoding=easy_positions,
    transformer_decoder=dict(
        num_layers=3, layer_cfg=dict(self_attn_cfg=easy_attention, cross_attn_cfg=easy_attention, ffn_cfg=easy_ffn)),
    loss_cls=dict(class_weight=[1.0] * 5 + [0.1]))
