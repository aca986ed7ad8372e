"""CoMA pre-training of DyViT-S on ImageNet-1K at 224 px, 800 epochs (Table 2)."""
_base_ = './coma_dyvit-base_8xb512-amp-coslr-800e_in1k.py'
model = dict(backbone=dict(arch='small'))
