"""Mask R-CNN with DyViT-B and FPN on COCO at 1024 px, 100 epochs, from PRETRAINED."""
_base_ = [
    '../_base_/models/mask-rcnn_dyvit-base_fpn.py', '../_base_/datasets/coco_lsj-1024px.py',
    '../_base_/schedules/vitdet_bs64-100e.py', '../_base_/runtime.py'
]
model = dict(data_preprocessor=dict(batch_augments={{_base_.batch_augments}}))
