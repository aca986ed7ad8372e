"""Running: hooks, optimiser wrappers, loops and the runner; importing the package registers them."""
from . import naming
from .hooks import (
    BadImageHook,
    BatchSizeHook,
    EvaluationModelHook,
    FiniteHook,
    IterationSeedHook,
    LabelCheckHook,
    LossSpikeHook,
    MeanLossHook,
    ProvenanceHook,
    StopHook,
    SummaryHook,
    WholeCheckpointHook,
)
from .log_processor import ThroughputLogProcessor
from .loops import ResumableEpochLoop, TrainingPrecisionValLoop
from .models import build_model
from .optim import AutocastOptimWrapper, LayerDecayOptimWrapperConstructor
from .runner import ComaRunner

__all__ = [
    'AutocastOptimWrapper', 'BadImageHook', 'BatchSizeHook', 'ComaRunner', 'EvaluationModelHook', 'FiniteHook',
    'IterationSeedHook', 'LabelCheckHook', 'LayerDecayOptimWrapperConstructor', 'LossSpikeHook', 'MeanLossHook',
    'ProvenanceHook', 'ResumableEpochLoop', 'StopHook', 'SummaryHook', 'ThroughputLogProcessor',
    'TrainingPrecisionValLoop', 'WholeCheckpointHook', 'build_model'
]

naming.install()
