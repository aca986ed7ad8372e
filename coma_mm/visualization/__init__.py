"""Figures of reconstructions, attention, predictions and logs, and the report. Not imported by `import coma_mm`."""
from .attention import attention_caption, attention_figure, attention_maps, feature_maps, features_figure
from .curves import curve_figure
from .gallery import draw_attention, draw_reconstructions
from .loading import image_size, load_for_viewing, load_model, prepare, read_fitted
from .logs import read_scalars
from .predictions import classification_figure, detection_figure, segmentation_figure
from .probe_curves import probe_figure
from .reconstruction import ratios_figure, reconstruction_caption, reconstruction_figure, reconstruction_panels
from .report import Cell, Picture, Section, Table, write_report

__all__ = [
    'Cell', 'Picture', 'Section', 'Table', 'attention_caption', 'attention_figure', 'attention_maps',
    'classification_figure', 'curve_figure', 'detection_figure', 'draw_attention', 'draw_reconstructions',
    'feature_maps', 'features_figure', 'image_size', 'load_for_viewing', 'load_model', 'prepare', 'probe_figure',
    'ratios_figure', 'read_fitted', 'read_scalars', 'reconstruction_caption', 'reconstruction_figure',
    'reconstruction_panels', 'segmentation_figure', 'write_report'
]
