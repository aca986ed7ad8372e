"""CoMA pre-training of DyViT-S at 224 px on any folder of images (IMAGE_ROOT), on one GPU."""
_base_ = './coma_dyvit-base_1xb128-amp-coslr-300e_folder.py'
model = dict(backbone=dict(arch='small'))
