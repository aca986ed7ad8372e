"""CoMA pre-training of DyViT-B at 224 px on any folder of images (IMAGE_ROOT).

Sources: batch size, epochs, AdamW: paper; its learning rate and betas, weight decay, warm-up, cosine, crops: MAE, as the
paper gives none; bf16, gradients unscaled: ours.
"""
_base_ = [
    'mmpretrain::_base_/default_runtime.py', '../_base_/models/coma_dyvit-base.py',
    '../_base_/datasets/image_folder.py', '../_base_/runtime.py'
]
train_dataloader = dict(batch_size=512)

optim_wrapper = dict(
    type='AutocastOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., flat_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=260, by_epoch=True, begin=40, end=300, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=10)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=4096)
