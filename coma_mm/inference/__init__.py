"""Using a trained model: from a checkpoint alone to predictions on images without annotations."""
from .load import Usable, load_described

__all__ = ['Usable', 'load_described']
