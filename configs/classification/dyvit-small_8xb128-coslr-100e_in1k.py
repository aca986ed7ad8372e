"""Fine-tuning of DyViT-S on ImageNet-1K, from PRETRAINED."""
_base_ = './dyvit-base_8xb128-coslr-100e_in1k.py'
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-small_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint=pretrained)), head=dict(in_channels=768))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
