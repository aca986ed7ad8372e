"""How good frozen features are, and how well patches are reconstructed; importing the package registers the metric."""
from .features import Features, Probe, frozen_features, probe
from .knn import knn_accuracy
from .linear_probe import fit_linear_probe
from .reconstruction import ReconstructionError

__all__ = [
    'Features', 'Probe', 'ReconstructionError', 'fit_linear_probe', 'frozen_features', 'knn_accuracy', 'probe'
]
