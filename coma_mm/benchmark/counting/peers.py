"""Backbones that can be counted by name. Nothing is imported here, so that a command line is read at once."""
PEERS = {
    'DyViT-S': dict(type='mmpretrain.DyViT', arch='small'),
    'DyViT-B': dict(type='mmpretrain.DyViT', arch='base'),
    'ViT-S': dict(type='mmpretrain.VisionTransformer', arch='deit-small', patch_size=16),
    'ViT-B': dict(type='mmpretrain.VisionTransformer', arch='base', patch_size=16),
    'Swin-S': dict(type='mmpretrain.SwinTransformer', arch='small'),
    'Swin-B': dict(type='mmpretrain.SwinTransformer', arch='base'),
    'HiViT-B': dict(type='mmpretrain.HiViT', arch='base'),
    'MViTv2-B': dict(type='mmpretrain.MViT', arch='base'),
    'ConvNeXt-B': dict(type='mmpretrain.ConvNeXt', arch='base'),
}
"""Backbones by the names that papers give them, as mmpretrain has them; it has no Hiera."""
OF_TABLE_2 = ('DyViT-S', 'DyViT-B', 'ViT-S', 'ViT-B', 'Swin-S', 'Swin-B')
