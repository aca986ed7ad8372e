"""Mask R-CNN with DyViT-B and FPN on COCO at 768 px, 36 epochs, from PRETRAINED."""
_base_ = [
    '../_base_/models/mask-rcnn_dyvit-base_fpn_coco-768px.py', '../_base_/schedules/vitdet_bs64-3x.py',
    '../_base_/runtime.py'
]
