"""ViTDet's schedule of 100 epochs in batches of 64 images. Sources: docs/recipes.md."""
_base_ = 'mmdet::_base_/default_runtime.py'
optim_wrapper = dict(
    type='OptimWrapper',
    accumulative_counts='auto',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1, fused=True),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8))
warmup = dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250)
steps = dict(type='MultiStepLR', by_epoch=True, begin=0, end=100, milestones=[89, 96], gamma=0.1)
param_scheduler = [warmup, steps]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=64)
