"""How good frozen features are, and how well patches are reconstructed; importing the package registers the metric."""
from .features import Features, Probe, frozen_features, probe
from .knn import check_settings, knn_accuracy, usual_ks
from .linear_probe import check_count, fit_linear_probe
from .reconstruction import ReconstructionError

__all__ = [
    'Features', 'Probe', 'ReconstructionError', 'check_count', 'check_settings', 'fit_linear_probe', 'frozen_features',
    'knn_accuracy', 'probe', 'usual_ks'
]
