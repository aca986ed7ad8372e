"""Masked pre-training on ImageNet-1K with patches of 16 px."""
_base_ = './imagenet_masked.py'
train_pipeline = _base_.train_pipeline
train_pipeline[-2].patch_size = 16
val_pipeline = _base_.val_pipeline
val_pipeline[-2].patch_size = 16
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
