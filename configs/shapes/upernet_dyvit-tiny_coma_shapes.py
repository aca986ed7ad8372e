_base_ = './upernet_dyvit-tiny_scratch_shapes.py'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint={{_base_.pretrained}}, prefix='backbone.')))
