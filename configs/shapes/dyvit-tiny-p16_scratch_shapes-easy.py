_base_ = './dyvit-tiny_scratch_shapes.py'
model = dict(
    data_preprocessor=dict(num_classes=5),
    backbone=dict(patch_size=16, pos_scale=0.25, out_indices=(0, 1, 2, 3), drop_path_rate=0.),
    # The means of all stages side by side: after pre-training the finer ones know as much of the outlines as the last.
    neck=dict(type='ConcatStages'),
    head=dict(num_classes=5, in_channels=32 + 64 + 128 + 256))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.8, 1.0), aspect_ratio_range=(0.9, 1.1),
         backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
