"""Figures of reconstructions, predictions and logs, and the report. Not imported by `import coma_mm`."""
from .curves import curve_figure
from .loading import load_for_viewing
from .logs import collect_metrics, environment, read_scalars
from .predictions import detection_figure, segmentation_figure
from .reconstruction import reconstruction_caption, reconstruction_figure, reconstruction_panels
from .report import (
    Cell,
    Comparison,
    Picture,
    Section,
    Step,
    Table,
    compare,
    format_table,
    results_section,
    steps_section,
    write_report,
)

__all__ = [
    'Cell', 'Comparison', 'Picture', 'Section', 'Step', 'Table', 'collect_metrics', 'compare', 'curve_figure',
    'detection_figure', 'environment', 'format_table', 'load_for_viewing', 'read_scalars', 'reconstruction_caption',
    'reconstruction_figure', 'reconstruction_panels', 'results_section', 'segmentation_figure', 'steps_section',
    'write_report'
]
