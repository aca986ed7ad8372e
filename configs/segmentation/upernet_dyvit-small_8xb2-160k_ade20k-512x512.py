"""UperNet with DyViT-S on ADE20K at 512×512, from PRETRAINED."""
_base_ = './upernet_dyvit-base_8xb2-160k_ade20k-512x512.py'
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-small_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint=pretrained)),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
