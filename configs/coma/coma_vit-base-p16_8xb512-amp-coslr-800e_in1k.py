"""CoMA pre-training of ViT-B/16 on ImageNet-1K at 224 px, 800 epochs (Table 4)."""
_base_ = [
    '../_base_/models/coma_dyvit-base.py', '../_base_/datasets/imagenet_masked.py',
    '../_base_/schedules/pretrain_bs4096-800e.py', '../_base_/runtime.py'
]
model = dict(
    backbone=dict(_delete_=True, type='MaskedVisionTransformer', arch='base', patch_size=16, out_type='raw'))
