"""Mask R-CNN with DyViT-B and FPN on COCO at 768 px, 12 epochs, from PRETRAINED."""
_base_ = [
    '../_base_/models/mask-rcnn_dyvit-base_fpn.py', '../_base_/datasets/coco_lsj-768px.py',
    '../_base_/schedules/vitdet_bs64-1x.py', '../_base_/runtime.py'
]
model = dict(data_preprocessor=dict(batch_augments={{_base_.batch_augments}}))
