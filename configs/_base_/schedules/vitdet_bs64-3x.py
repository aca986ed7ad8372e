"""The schedule of 36 epochs. Steps: mmdetection's 3x."""
_base_ = './vitdet_bs64-100e.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36, val_interval=3)
