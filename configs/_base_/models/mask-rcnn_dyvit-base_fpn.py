"""Mask R-CNN with FPN on DyViT-B's four stages, from PRETRAINED."""
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-base_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.DyViT',
        arch='base',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    neck=dict(in_channels=[112, 224, 448, 896]))
