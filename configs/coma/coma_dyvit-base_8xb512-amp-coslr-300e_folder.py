"""CoMA pre-training of DyViT-B at 224 px on any folder of images (IMAGE_ROOT)."""
_base_ = [
    '../_base_/models/coma_dyvit-base.py', '../_base_/datasets/image_folder.py',
    '../_base_/schedules/pretrain_bs4096-300e.py', '../_base_/runtime.py'
]
