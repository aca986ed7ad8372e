"""Using a trained model: from a checkpoint alone to predictions on images without annotations, or to feature maps."""
from .backbones import features, load_backbone, stated_settings
from .load import Usable, load_described
from .result import Result

__all__ = ['Result', 'Usable', 'features', 'load_backbone', 'load_described', 'stated_settings']
