"""Cascade Mask R-CNN, on the easy level of CoMA-Shapes, from its pre-training or PRETRAINED. Values: ours."""
_base_ = [
    'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', '../_base_/datasets/shapes-easy_dense.py',
    '../_base_/runtime.py'
]
# With patches of 16 px stages 3 and 4 have one stride: the pyramid takes the last of them.
strides = [4, 8, 16]
roi_extractor = dict(
    out_channels=64, roi_layer=dict(sampling_ratio=2), featmap_strides=strides, finest_scale=16)
box_heads = [dict(one, in_channels=64, fc_out_channels=256, num_classes=5) for one in _base_.model.roi_head.bbox_head]
model = dict(
    backbone=dict(_base_.easy_backbone, _delete_=True, out_indices=(0, 1, 3)),
    neck=dict(in_channels=[32, 64, 256], out_channels=64, num_outs=3),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=box_heads,
        mask_roi_extractor=roi_extractor,
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=5)),
    # Fewer proposals than for COCO: scenes hold a handful of objects.
    train_cfg=dict(rpn=dict(sampler=dict(num=64)), rpn_proposal=dict(nms_pre=400, max_per_img=100)),
    test_cfg=dict(rpn=dict(nms_pre=400, max_per_img=100)))
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
