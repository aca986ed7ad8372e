"""Mask2Former for semantic maps, on the easy level of CoMA-Shapes, from its pre-training or PRETRAINED. Values: ours."""
_base_ = ['mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py', '../_base_/datasets/shapes-easy_dense.py']
custom_imports = dict(imports=['coma_mm'], allow_failed_imports=False)
crop_size = (64, 64)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(_base_.easy_backbone, _delete_=True, out_indices=(0, 1, 2, 3)),
    decode_head=dict(_base_.easy_mask2former_head, num_classes=5, train_cfg=dict(num_points=256)))

train_dataloader = dict(_base_.easy_training, _delete_=True, dataset=_base_.easy_ade20k_train)
val_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_ade20k_val)
test_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_ade20k_test)
optim_wrapper = dict(optimizer=dict(lr=1e-3, fused=True))
train_cfg = dict(_base_.easy_loop, _delete_=True)
param_scheduler = _base_.easy_schedule
default_hooks = _base_.easy_hooks
randomness = dict(seed=0)
log_processor = dict(by_epoch=True)
