"""CoMA pre-training of DyViT-B on ImageNet-1K at 224 px, 800 epochs (Table 2)."""
_base_ = [
    '../_base_/models/coma_dyvit-base.py', '../_base_/datasets/imagenet_masked.py',
    '../_base_/schedules/pretrain_bs4096-800e.py', '../_base_/runtime.py'
]
