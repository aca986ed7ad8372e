"""CoMA with DyViT-tiny at 128 px on a folder of images, on a CPU. What inherits it says where the images are."""
_base_ = [
    '../pretrain_runtime.py', '../models/coma_dyvit-base.py', '../datasets/image_folder.py', '../schedules/small.py',
    '../runtime.py'
]
# The decoder sees the last stage alone: given all four, the finer ones reconstruct and the last learns nothing that
# fine-tuning gains by (docs/results/small_scale.md).
model = dict(backbone=dict(arch='tiny', out_indices=(3, )), decoder=dict(embed_dims=128, depth=2, num_heads=4))
size = 128

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.4, 1.0), backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    *_base_.masking,
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=size, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=size),
    *_base_.masking,
]
train_dataloader = dict(batch_size=64, num_workers=2, pin_memory=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, pin_memory=False, dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=10), checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2))
randomness = dict(seed=0)
