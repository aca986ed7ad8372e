"""DINO, the detector, on the easy level of CoMA-Shapes, from its pre-training or PRETRAINED. Values: ours."""
_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '../_base_/datasets/shapes-easy_dense.py', '../_base_/runtime.py'
]
attention = dict(embed_dims=64, num_levels=4)
ffn = dict(embed_dims=64, feedforward_channels=128)
model = dict(
    num_queries=30,
    backbone=dict(_base_.easy_backbone, _delete_=True, out_indices=(0, 1, 3)),
    neck=dict(in_channels=[32, 64, 256], out_channels=64, norm_cfg=dict(num_groups=8)),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=2, layer_cfg=dict(self_attn_cfg=dict(embed_dims=64), cross_attn_cfg=attention, ffn_cfg=ffn)),
    positional_encoding=dict(num_feats=32),
    bbox_head=dict(num_classes=5, embed_dims=64),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=20)),
    test_cfg=dict(max_per_img=30))
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
