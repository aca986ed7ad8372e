"""Hooks, optimiser wrappers, checkpoints and the runner; importing the package registers them.

It also makes mmengine read every checkpoint as weights only.
"""
from .checkpoint import load_backbone, load_weights_only, read_safely
from .evaluation_model_hook import EvaluationModelHook
from .hooks import BadImageHook, BatchSizeHook, LabelCheckHook, MeanLossHook, PolygonCheckHook, ProvenanceHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .optim_wrapper import AutocastOptimWrapper
from .runner import ComaRunner

__all__ = [
    'AutocastOptimWrapper', 'BadImageHook', 'BatchSizeHook', 'ComaRunner', 'EvaluationModelHook', 'LabelCheckHook',
    'LayerDecayOptimWrapperConstructor', 'MeanLossHook', 'PolygonCheckHook', 'ProvenanceHook', 'load_backbone',
    'load_weights_only'
]

read_safely()
