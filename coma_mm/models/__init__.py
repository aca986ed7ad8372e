"""DyViT, masked autoencoders and their parts; importing the package registers them."""
from .attention import MultiWindowAttention
from .decoders import ConvNeXtDecoder, ViTDecoder
from .dyvit import DyViT
from .heads import PixelHead
from .masked_autoencoder import CoMA, MaskedAutoencoder, MaskedImagePreprocessor
from .masked_vit import MaskedVisionTransformer
from .necks import MultiScaleFusion

__all__ = [
    'CoMA', 'ConvNeXtDecoder', 'DyViT', 'MaskedAutoencoder', 'MaskedImagePreprocessor', 'MaskedVisionTransformer',
    'MultiScaleFusion', 'MultiWindowAttention', 'PixelHead', 'ViTDecoder'
]
