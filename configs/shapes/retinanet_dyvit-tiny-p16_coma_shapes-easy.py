"""RetinaNet, on the easy level of CoMA-Shapes, from its pre-training or PRETRAINED. Values: ours."""
_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/datasets/shapes-easy_dense.py', '../_base_/runtime.py'
]
# With patches of 16 px stages 3 and 4 have one stride: the pyramid takes the last of them.
model = dict(
    backbone=dict(_base_.easy_backbone, _delete_=True, out_indices=(0, 1, 3)),
    neck=dict(in_channels=[32, 64, 256], out_channels=64, start_level=0, num_outs=3),
    bbox_head=dict(
        num_classes=5, in_channels=64, feat_channels=64, stacked_convs=2, anchor_generator=dict(strides=[4, 8, 16])))
train_dataloader = dict(_base_.easy_training, _delete_=True, dataset=_base_.easy_coco_train)
val_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_coco_val)
test_dataloader = dict(_base_.easy_testing, _delete_=True, dataset=_base_.easy_coco_test)
val_evaluator = dict(ann_file={{_base_.coco_val_file}})
test_evaluator = dict(ann_file={{_base_.coco_test_file}})
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor='LayerDecayOptimWrapperConstructor')
train_cfg = dict(_base_.easy_loop, _delete_=True)
param_scheduler = _base_.easy_schedule
default_hooks = _base_.easy_hooks
randomness = dict(seed=0)
