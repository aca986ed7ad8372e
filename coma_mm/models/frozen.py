"""A backbone that is used as it is: nothing of it is trained."""
from typing import Any

from mmengine.registry import MODELS as CURRENT
from mmpretrain.registry import MODELS
from torch import nn


class _Frozen:
    """Stays in evaluation mode, whatever the model around it is in."""

    def train(self, mode: bool = True) -> Any:
        """Set evaluation mode."""
        super().train(False)
        return self


@MODELS.register_module('FrozenBackbone')
def frozen_backbone(backbone: dict) -> nn.Module:
    """Build a backbone of the model's library whose weights, statistics and mode stay as they are, for a linear probe.

    Its tensors have the names that they have without, and its own `init_cfg` loads them.

    Args:
        backbone (dict): Config of the backbone.

    Returns:
        nn.Module: The backbone, of a subclass of its class.
    """
    module = CURRENT.build(backbone)
    module.requires_grad_(False)
    kind = type(module)
    module.__class__ = type(kind.__name__, (_Frozen, kind), {})
    return module.train()
