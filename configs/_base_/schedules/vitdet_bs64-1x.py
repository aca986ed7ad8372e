"""The short schedule of 12 epochs. Steps: mmdetection's 1x."""
_base_ = './vitdet_bs64-100e.py'
param_scheduler = [_base_.warmup, dict(_base_.steps, end=12, milestones=[8, 11])]
train_cfg = dict(max_epochs=12, val_interval=1)
