"""UperNet on coco-mini, from `coma_dyvit-tiny_2e_folder-128px.py` or from PRETRAINED, in minutes on a CPU. Values: ours."""
_base_ = ['../_base_/small/upernet_dyvit-tiny.py', '../_base_/datasets/coco_mini.py']
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-tiny_2e_folder-128px/epoch_2.pth}}'
crop_size = (160, 160)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    decode_head=dict(num_classes=80, loss_decode=dict(avg_non_ignore=True)),
    auxiliary_head=dict(num_classes=80, loss_decode=dict(avg_non_ignore=True)))

data_root = {{_base_.coco_mini_seg_root}}
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# In the PNGs 0 is what no object covers, two thirds of the pixels: ignored, in the loss's mean too.
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes={{_base_.coco_classes}}),
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
# One by one, as they differ in shape.
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes={{_base_.coco_classes}}),
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=40, val_interval=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=40, eta_min=1e-6, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=20))
