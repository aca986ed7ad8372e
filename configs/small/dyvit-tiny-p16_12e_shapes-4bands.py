"""A classifier of four bands of 16 bits, from `coma_dyvit-tiny-p16_12e_shapes-4bands.py` or PRETRAINED. Values: ours."""
_base_ = ['../shapes/dyvit-tiny-p16_scratch_shapes-easy.py', '../_base_/datasets/shapes-4bands.py']
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint={{_base_.pretrained_bands}}, prefix='backbone.')))
