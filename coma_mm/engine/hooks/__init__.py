"""Hooks; importing the package registers them."""
from .checkpoint import WholeCheckpointHook
from .checks import BadImageHook, BatchSizeHook, IterationSeedHook, LabelCheckHook, MeanLossHook, ProvenanceHook
from .evaluation_model import EvaluationModelHook
from .finite import FiniteHook, LossSpikeHook
from .stop import StopHook

__all__ = [
    'BadImageHook', 'BatchSizeHook', 'EvaluationModelHook', 'FiniteHook', 'IterationSeedHook', 'LabelCheckHook',
    'LossSpikeHook', 'MeanLossHook', 'ProvenanceHook', 'StopHook', 'WholeCheckpointHook'
]
