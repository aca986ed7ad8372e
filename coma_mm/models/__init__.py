from .attention import MultiWindowAttention
from .decoders import ViTDecoder
from .dyvit import DyViT
from .heads import PixelHead
from .masked_autoencoder import CoMA, MaskedAutoencoder, MaskedImagePreprocessor
from .masking import UniformMaskSampler
from .necks import MultiScaleFusion

__all__ = [
    'CoMA', 'DyViT', 'MaskedAutoencoder', 'MaskedImagePreprocessor', 'MultiScaleFusion', 'MultiWindowAttention',
    'PixelHead', 'UniformMaskSampler', 'ViTDecoder'
]
