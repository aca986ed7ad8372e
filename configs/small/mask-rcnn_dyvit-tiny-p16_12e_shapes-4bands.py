"""Mask R-CNN on four bands of 16 bits, from `coma_dyvit-tiny-p16_12e_shapes-4bands.py` or PRETRAINED. Values: ours."""
_base_ = ['../shapes/mask-rcnn_dyvit-tiny-p16_scratch_shapes-easy.py', '../_base_/datasets/shapes-4bands.py']
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint={{_base_.pretrained_bands}}, prefix='backbone.')))
dataset = dict(metainfo={{_base_.bands_metainfo}})
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
