"""Hooks, optimiser wrappers, checkpoints and the runner; importing the package registers them.

It also makes mmengine read every checkpoint as weights only.
"""
from .checkpoint import load_backbone, load_weights_only, read_safely
from .checkpoint_hook import WholeCheckpointHook
from .evaluation_model_hook import EvaluationModelHook
from .hooks import (
    BadImageHook,
    BatchSizeHook,
    IterationSeedHook,
    LabelCheckHook,
    MeanLossHook,
    ProvenanceHook,
)
from .layer_decay import LayerDecayOptimWrapperConstructor
from .loops import ResumableEpochLoop
from .optim_wrapper import AutocastOptimWrapper
from .runner import ComaRunner
from .stop_hook import StopHook
from .watch_hook import FiniteHook, LossSpikeHook

__all__ = [
    'AutocastOptimWrapper', 'BadImageHook', 'BatchSizeHook', 'ComaRunner', 'EvaluationModelHook', 'FiniteHook',
    'IterationSeedHook', 'LabelCheckHook', 'LayerDecayOptimWrapperConstructor', 'LossSpikeHook', 'MeanLossHook',
    'ProvenanceHook', 'ResumableEpochLoop', 'StopHook', 'WholeCheckpointHook', 'load_backbone',
    'load_weights_only'
]

read_safely()
