"""Mask2Former for instances, on the easy level of CoMA-Shapes, from its pre-training or PRETRAINED. Values: ours."""
_base_ = [
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', '../_base_/datasets/shapes-easy_dense.py',
    '../_base_/runtime.py'
]
model = dict(
    data_preprocessor=dict(batch_augments=[dict(type='BatchFixedSizePad', size=(64, 64), pad_mask=True)]),
    backbone=dict(_base_.easy_backbone, _delete_=True, out_indices=(0, 1, 2, 3)),
    panoptic_head=dict(_base_.easy_mask2former_head, num_things_classes=5, num_stuff_classes=0),
    panoptic_fusion_head=dict(num_things_classes=5),
    train_cfg=dict(num_points=256),
    test_cfg=dict(max_per_image=10))
train_dataloader = dict(_base_.easy_training, _delete_=True, dataset=_base_.easy_coco_train)
val_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_coco_val)
test_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_coco_test)
val_evaluator = dict(ann_file={{_base_.coco_val_file}})
test_evaluator = dict(ann_file={{_base_.coco_test_file}})
optim_wrapper = dict(optimizer=dict(lr=1e-3, fused=True))
train_cfg = dict(_base_.easy_loop, _delete_=True)
param_scheduler = _base_.easy_schedule
default_hooks = _base_.easy_hooks
randomness = dict(seed=0)
log_processor = dict(by_epoch=True)
