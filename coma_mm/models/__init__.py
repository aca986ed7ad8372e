from .attention import MultiWindowAttention
from .decoders import ConvNeXtDecoder, ViTDecoder
from .dyvit import DyViT
from .heads import PixelHead
from .masked_autoencoder import CoMA, MaskedAutoencoder, MaskedImagePreprocessor
from .masking import UniformMaskSampler
from .necks import MultiScaleFusion

__all__ = [
    'CoMA', 'ConvNeXtDecoder', 'DyViT', 'MaskedAutoencoder',
    'MaskedImagePreprocessor', 'MultiScaleFusion', 'MultiWindowAttention', 'PixelHead',
    'UniformMaskSampler', 'ViTDecoder'
]
