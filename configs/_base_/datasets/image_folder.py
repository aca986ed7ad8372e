"""Masked pre-training on any folder of images, flat or nested: no labels, no class folders, no annotation file.

Every 20th image is held out for validation. Set the folder by the environment variable IMAGE_ROOT or by --data-root.
What goes into every pipeline, from a config or from --cfg-options: the images' size in px (size), another mask
(mask_sampler.ratio, mask_sampler.type), its unit in px (mask_unit), what the second branch sees (mask_pair), and the patch
of the model's backbone.
"""
data_root = '{{$IMAGE_ROOT:data/images}}'
size = 224
mask_sampler = dict(type='UniformMaskSampler', ratio=0.6)
masking = [dict(type='PatchMask', sampler=mask_sampler), dict(type='PackMaskedImage')]

train_pipeline = [
    dict(type='LoadRandomResizedCrop', scale=size, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'),
    dict(type='RandomHorizontalFlip', prob=0.5),
    *masking,
]
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=size, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=size),
    *masking,
]

train_dataloader = dict(
    batch_size=512,
    num_workers='auto',  # as many as the machine has cores for, shared by the processes on it
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root=data_root, part='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root=data_root, part='val', pipeline=val_pipeline))
val_evaluator = dict(type='ReconstructionError')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
