"""CoMA pre-training of DyViT-tiny at 128 px on any folder of images (IMAGE_ROOT), in minutes on a CPU. Values: ours."""
_base_ = '../_base_/small/coma_dyvit-tiny.py'
train_cfg = dict(max_epochs=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=2, eta_min=1e-6, convert_to_iter_based=True),
]
