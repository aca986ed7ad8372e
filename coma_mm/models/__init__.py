from .attention import MultiWindowAttention
from .decoders import ConvNeXtDecoder, ViTDecoder
from .dyvit import DyViT
from .heads import PixelHead
from .masked_autoencoder import CoMA, MaskedAutoencoder, MaskedImagePreprocessor
from .masked_vit import MaskedVisionTransformer
from .masking import BlockMaskSampler, ColorNoiseMaskSampler, UniformMaskSampler
from .necks import MultiScaleFusion

__all__ = [
    'BlockMaskSampler', 'CoMA', 'ColorNoiseMaskSampler', 'ConvNeXtDecoder', 'DyViT', 'MaskedAutoencoder',
    'MaskedImagePreprocessor', 'MaskedVisionTransformer', 'MultiScaleFusion', 'MultiWindowAttention', 'PixelHead',
    'UniformMaskSampler', 'ViTDecoder'
]
