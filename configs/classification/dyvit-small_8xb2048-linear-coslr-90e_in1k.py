"""Linear probe of DyViT-S on ImageNet-1K, from PRETRAINED."""
_base_ = './dyvit-base_8xb2048-linear-coslr-90e_in1k.py'
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-small_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint=pretrained)),
    neck=dict(input_features=768),
    head=dict(in_channels=768))
