"""Figures of reconstructions, attention, predictions and logs, and the report. Not imported by `import coma_mm`."""
from .attention import (
    FEATURES_CAPTION,
    attention_caption,
    attention_figure,
    attention_maps,
    feature_maps,
    features_figure,
    patch_size,
)
from .curves import curve_figure
from .loading import build_model, find_images, image_size, load_for_viewing, load_model, prepare, read_fitted
from .logs import collect_metrics, environment, read_scalars
from .predictions import detection_figure, segmentation_figure
from .reconstruction import ratios_figure, reconstruction_caption, reconstruction_figure, reconstruction_panels
from .report import (
    Cell,
    Comparison,
    Picture,
    Section,
    Table,
    compare,
    duration,
    format_table,
    write_report,
)

__all__ = [
    'FEATURES_CAPTION', 'Cell', 'Comparison', 'Picture', 'Section', 'Table', 'attention_caption', 'attention_figure',
    'attention_maps', 'build_model', 'collect_metrics', 'compare', 'curve_figure', 'detection_figure', 'duration',
    'environment', 'feature_maps', 'features_figure', 'find_images', 'format_table', 'image_size', 'load_for_viewing',
    'load_model', 'patch_size', 'prepare', 'ratios_figure', 'read_fitted', 'read_scalars', 'reconstruction_caption',
    'reconstruction_figure', 'reconstruction_panels', 'segmentation_figure', 'write_report'
]
