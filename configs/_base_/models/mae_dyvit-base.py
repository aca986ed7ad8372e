"""Masked autoencoding with DyViT-B. Sources: docs/recipes.md."""
model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(
        type='MaskedImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(type='DyViT', arch='base', out_indices=(0, 1, 2, 3), out_type='raw'),
    # Their widths and patch are the backbone's.
    neck=dict(type='MultiScaleFusion'),
    decoder=dict(type='ViTDecoder', embed_dims=512, depth=8, num_heads=16),
    head=dict(type='PixelHead', norm_pix=True))
