"""DyViT, masked autoencoders and their parts; importing the package registers them."""
from mmpretrain.apis import ModelHub

from coma_mm.files import MIM

from .attention import MultiWindowAttention
from .band_preprocessors import BandsDetPreprocessor, BandsSegPreprocessor
from .decoders import ConvNeXtDecoder, ViTDecoder
from .dyvit import DyViT
from .frozen import frozen_backbone
from .heads import LatentHead, PixelHead
from .masked_autoencoder import CoMA, MaskedAutoencoder, MaskedImagePreprocessor
from .masked_vit import MaskedVisionTransformer
from .necks import ConcatStages, MultiScaleFusion

__all__ = [
    'BandsDetPreprocessor', 'BandsSegPreprocessor', 'CoMA', 'ConcatStages', 'ConvNeXtDecoder', 'DyViT', 'LatentHead',
    'MaskedAutoencoder', 'MaskedImagePreprocessor', 'MaskedVisionTransformer', 'MultiScaleFusion', 'MultiWindowAttention',
    'PixelHead', 'ViTDecoder', 'frozen_backbone'
]

# The names by which mmpretrain's `get_model`, `list_models` and inferencers know our configs.
ModelHub.register_model_index(MIM / 'model-index.yml', config_prefix=MIM)
