"""The schedule of 36 epochs. Steps: mmdetection's 3x."""
_base_ = './vitdet_bs64-100e.py'
param_scheduler = [_base_.warmup, dict(_base_.steps, end=36, milestones=[27, 33])]
train_cfg = dict(max_epochs=36, val_interval=3)
