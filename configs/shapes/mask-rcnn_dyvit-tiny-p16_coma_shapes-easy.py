_base_ = './mask-rcnn_dyvit-tiny-p16_scratch_shapes-easy.py'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint={{_base_.pretrained_all_stages}}, prefix='backbone.')))
