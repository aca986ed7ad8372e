"""CoMA with DyViT-B on patches of 16 px: three scales, windows derived from 4×4 tokens. Not in the paper."""
_base_ = [
    '../_base_/models/coma_dyvit-base.py', '../_base_/datasets/imagenet_masked.py',
    '../_base_/schedules/pretrain_bs4096-300e.py', '../_base_/runtime.py'
]
model = dict(backbone=dict(patch_size=16))
