_base_ = [
    'mmpretrain::_base_/default_runtime.py', '../_base_/models/coma_dyvit-base.py',
    '../_base_/datasets/image_folder.py', '../_base_/datasets/shapes.py', '../_base_/schedules/shapes.py',
    '../_base_/runtime.py'
]
model = dict(backbone=dict(arch='tiny'), decoder=dict(embed_dims=128, depth=2, num_heads=4))
size = 128

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.4, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    *_base_.masking,
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size), backend='pillow', interpolation='bicubic'),
    *_base_.masking,
]
data_root = {{_base_.unlabelled_root}}
train_dataloader = dict(
    batch_size=64, num_workers=2, pin_memory=False, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, pin_memory=False, dataset=dict(data_root=data_root, pipeline=val_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10), checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))
randomness = dict(seed=0)
