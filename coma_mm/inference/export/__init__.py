"""Trained models as files that other programs run: ONNX, torch.export, and weights alone."""
from .exporting import Exported, export, export_weights

__all__ = ['Exported', 'export', 'export_weights']
