"""DINO (the detector, DETR with denoising anchors) with DyViT-B on COCO, 12 epochs, from PRETRAINED."""
_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '../_base_/datasets/coco_root.py', '../_base_/runtime.py'
]
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-base_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.DyViT',
        arch='base',
        out_indices=(1, 2, 3),
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    neck=dict(in_channels=[224, 448, 896]))
data_root = {{_base_.coco2017_root}}
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={{_base_.coco2017_val_file}})
test_evaluator = val_evaluator
optim_wrapper = dict(accumulative_counts='auto', optimizer=dict(fused=True))
randomness = dict(seed=0)
