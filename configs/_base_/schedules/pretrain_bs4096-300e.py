"""Pre-training for 300 epochs in batches of 4096, whatever the number of processes. Sources: docs/recipes.md."""
_base_ = '../pretrain_runtime.py'
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    accumulative_counts='auto',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor='LayerDecayOptimWrapperConstructor')
warmup = dict(type='LinearLR', start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True)
decay = dict(type='CosineAnnealingLR', by_epoch=True, begin=40, end=300, convert_to_iter_based=True)
param_scheduler = [warmup, decay]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=10)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=4096)
