"""CoMA pre-training of DyViT-tiny at 128 px on any folder of images (IMAGE_ROOT), in minutes on a CPU. Values: ours."""
_base_ = '../shapes/coma_dyvit-tiny_shapes.py'
data_root = '{{$IMAGE_ROOT:data/images}}'
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=128, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=128),
    *_base_.masking,
]
train_dataloader = dict(batch_size=64, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=val_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=2, eta_min=1e-6, convert_to_iter_based=True),
]
