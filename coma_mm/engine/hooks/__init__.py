"""Hooks; importing the package registers them."""
from .checkpoint import WholeCheckpointHook
from .checks import BadImageHook, BatchSizeHook, LabelCheckHook
from .evaluation_model import EvaluationModelHook
from .finite import FiniteHook
from .iteration import IterationSeedHook, MeanLossHook
from .loss_spike import LossSpikeHook
from .missed_validation import MissedValidationHook
from .provenance import ProvenanceHook
from .stop import StopHook
from .summary import SummaryHook

__all__ = [
    'BadImageHook', 'BatchSizeHook', 'EvaluationModelHook', 'FiniteHook', 'IterationSeedHook', 'LabelCheckHook',
    'LossSpikeHook', 'MeanLossHook', 'MissedValidationHook', 'ProvenanceHook', 'StopHook', 'SummaryHook',
    'WholeCheckpointHook'
]

RUN_HOOKS = tuple(
    dict(type=hook.__name__)
    for hook in (IterationSeedHook, ProvenanceHook, BatchSizeHook, MeanLossHook, BadImageHook, LabelCheckHook,
                 SummaryHook, MissedValidationHook, FiniteHook, LossSpikeHook))
"""Configs of the hooks that training adds to every run."""
