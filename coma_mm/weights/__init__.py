"""Reading weights without running code, loading a backbone, writing one; on import mmengine is made to read safely."""
from .export import export_backbone
from .load import latest_checkpoint, load_backbone, load_weights_only, read_safely

__all__ = ['export_backbone', 'latest_checkpoint', 'load_backbone', 'load_weights_only']

read_safely()
