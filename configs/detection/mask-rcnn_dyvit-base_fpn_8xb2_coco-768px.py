"""Mask R-CNN with DyViT-B and FPN on COCO at 768 px, 100 epochs, from PRETRAINED.

Sources: ViTDet's training, FPN, 768 px: paper; large-scale jitter, 100 epochs, learning rate (1e-4 for 64 images),
weight decay, drop path, warm-up: ViTDet's for ViT-B; layer-wise decay: ViTDet's for ViT-L, which like DyViT-B has 24
blocks; data and steps of the learning rate: mmdetection's own 100 epochs of large-scale jitter; 16 images: ours.
"""
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::common/lsj-100e_coco-instance.py', '../_base_/runtime.py'
]
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-base_8xb512-amp-coslr-300e_folder/epoch_300.pth}}'
image_size = (768, 768)
model = dict(
    # All images of a batch are of one size: the windows of the jitter.
    data_preprocessor=dict(batch_augments=[dict(type='BatchFixedSizePad', size=image_size, pad_mask=True)]),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.DyViT',
        arch='base',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    neck=dict(in_channels=[112, 224, 448, 896]))

train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4 * 16 / 64, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0., bias_decay_mult=0., flat_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=25, milestones=[22, 24], gamma=0.1),
]
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=16)
