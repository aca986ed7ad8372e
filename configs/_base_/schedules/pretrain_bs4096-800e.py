"""Pre-training for 800 epochs."""
_base_ = './pretrain_bs4096-300e.py'
param_scheduler = [_base_.warmup, dict(_base_.decay, end=800)]
train_cfg = dict(max_epochs=800)
