_base_ = './coma_dyvit-tiny_shapes.py'
# 64 px have 16 patches of 16 px. Most of a scene is flat, so pixels as they are say more than those of a normalised patch.
model = dict(backbone=dict(patch_size=16, pos_scale=0.25), head=dict(norm_pix=False))
size = 64
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.6, 1.0), aspect_ratio_range=(0.9, 1.1),
         backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    *_base_.masking,
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=size, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=size),
    *_base_.masking,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=50))
