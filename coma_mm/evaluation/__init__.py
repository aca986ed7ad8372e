"""How good frozen features are, and how well patches are reconstructed; importing the package registers metric and hooks."""
from .box_features import box_features
from .class_folders import ClassFolders, choose_images
from .dense_probe import linear_segmentation, use_linear_head
from .features import Features, Probe, frozen_features, probe
from .knn import knn_accuracy
from .linear_probe import fit_linear_probe
from .online_probe import OnlineProbeHook
from .reconstruction import ReconstructionError
from .reconstruction_pictures import ReconstructionsHook
from .stages import rank_me, stage_features

__all__ = [
    'ClassFolders', 'Features', 'OnlineProbeHook', 'Probe', 'ReconstructionError', 'ReconstructionsHook', 'box_features',
    'choose_images', 'fit_linear_probe', 'frozen_features', 'knn_accuracy', 'linear_segmentation', 'probe', 'rank_me',
    'stage_features', 'use_linear_head'
]
