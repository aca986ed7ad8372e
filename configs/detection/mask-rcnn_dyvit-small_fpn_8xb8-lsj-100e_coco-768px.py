"""Mask R-CNN with DyViT-S and FPN on COCO at 768 px, 100 epochs, from PRETRAINED."""
_base_ = './mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-768px.py'
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-small_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint=pretrained)), neck=dict(in_channels=[96, 192, 384, 768]))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
