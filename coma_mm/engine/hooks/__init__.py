"""Hooks; importing the package registers them."""
from .checkpoint import WholeCheckpointHook
from .checks import BadImageHook, BatchSizeHook, LabelCheckHook
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

__all__ = [
    'BadImageHook', 'BatchSizeHook', 'DrawingsHook', 'EvaluationModelHook', 'FiniteHook', 'IterationSeedHook',
    'LabelCheckHook', 'LateRuntimeInfoHook', 'LossSpikeHook', 'MeanLossHook', 'MissedValidationHook', 'PixelHook',
    'ProvenanceHook', 'StopHook', 'WholeCheckpointHook'
]

RUN_HOOKS = tuple(
    dict(type=hook.__name__)
    for hook in (IterationSeedHook, ProvenanceHook, BatchSizeHook, MeanLossHook, BadImageHook, LabelCheckHook, PixelHook,
                 MissedValidationHook, FiniteHook, LossSpikeHook))
"""Configs of the hooks that training adds to every run."""

TEST_HOOKS = (dict(type=LabelCheckHook.__name__), )
"""Configs of the hooks that testing adds."""
