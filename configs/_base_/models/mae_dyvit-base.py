"""Masked autoencoding with DyViT-B. Sources: docs/recipes.md."""
model = dict(
    type='MaskedAutoencoder',
    data_preprocessor=dict(
        type='MaskedImagePreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(type='DyViT', arch='base', out_indices=(0, 1, 2, 3), out_type='raw'),
    neck=dict(type='MultiScaleFusion', in_channels=(112, 224, 448, 896)),
    decoder=dict(type='ViTDecoder', in_channels=896, patch_size=32, embed_dims=512, depth=8, num_heads=16),
    head=dict(type='PixelHead', patch_size=32, norm_pix=True))
