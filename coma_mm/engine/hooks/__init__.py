"""Hooks; importing the package registers them."""
from .checkpoint import WholeCheckpointHook
from .checks import BadImageHook, BatchSizeHook, LabelCheckHook
from .class_scores import ClassScoresHook
from .drawings import DrawingsHook
from .evaluation_model import EvaluationModelHook
from .finite import FiniteHook
from .iteration import IterationSeedHook, MeanLossHook
from .loss_spike import LossSpikeHook
from .missed_validation import MissedValidationHook
from .pixels import PixelHook
from .provenance import ProvenanceHook
from .runtime_info import LateRuntimeInfoHook
from .stop import StopHook
from .summary import SummaryHook

__all__ = [
    'BadImageHook', 'BatchSizeHook', 'ClassScoresHook', 'DrawingsHook', 'EvaluationModelHook', 'FiniteHook',
    'IterationSeedHook', 'LabelCheckHook', 'LateRuntimeInfoHook', 'LossSpikeHook', 'MeanLossHook', 'MissedValidationHook',
    'PixelHook', 'ProvenanceHook', 'StopHook', 'SummaryHook', 'WholeCheckpointHook'
]

RUN_HOOKS = tuple(
    dict(type=hook.__name__)
    for hook in (IterationSeedHook, ProvenanceHook, BatchSizeHook, MeanLossHook, BadImageHook, LabelCheckHook, PixelHook,
                 SummaryHook, ClassScoresHook, MissedValidationHook, FiniteHook, LossSpikeHook))
"""Configs of the hooks that training adds to every run."""

TEST_HOOKS = tuple(dict(type=hook.__name__) for hook in (LabelCheckHook, SummaryHook))
"""Configs of the hooks that testing adds."""
