"""Mask2Former for panoptic segmentation with DyViT-B on COCO, 50 epochs, from PRETRAINED; needs panopticapi."""
_base_ = [
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py', '../_base_/datasets/coco_root.py',
    '../_base_/runtime.py'
]
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-base_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.DyViT',
        arch='base',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    panoptic_head=dict(in_channels=[112, 224, 448, 896]))
data_root = {{_base_.coco2017_root}}
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='CocoPanopticMetric',
        ann_file={{_base_.coco2017_panoptic_val_file}},
        seg_prefix={{_base_.coco2017_panoptic_val_root}}),
    dict(type='CocoMetric', ann_file={{_base_.coco2017_val_file}}, metric=['bbox', 'segm'])
]
test_evaluator = val_evaluator
optim_wrapper = dict(accumulative_counts='auto', optimizer=dict(fused=True))
param_scheduler = [_base_.param_scheduler]
randomness = dict(seed=0)
