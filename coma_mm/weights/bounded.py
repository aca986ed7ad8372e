"""Building a model from what a foreign file says of it, in no more memory than its weights are reason for."""
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from coma_mm.errors import UserError

MORE = 2**27
"""Numbers that a model may have beside its weights, in buffers that are not saved, say."""
EACH = 2**10
"""As so many numbers counts a tensor beside its own ones: a layer takes memory however few numbers it has."""


class Bounded(TorchFunctionMode):
    """A context in which tensors of a few times the numbers of some weights are made at most.

    A file may say that a model has a billion layers; what is built must find its weights in the file.

    Args:
        weights (Mapping[str, Any]): Of the file.
        path (str): The file, for the message.

    Raises:
        UserError: Where one more tensor is made.
    """

    def __init__(self, weights: Mapping[str, Any], path: str):
        super().__init__()
        self.path = path
        self.left = MORE + 4 * sum(EACH + value.numel() for value in weights.values() if isinstance(value, torch.Tensor))

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call a function of torch, and count what it makes of no other tensor."""
        found = function(*args, **(kwargs or {}))
        if not types and isinstance(found, torch.Tensor):
            self.left -= EACH + found.numel()
            if self.left < 0:
                raise UserError(f'{self.path}: what it says of its use is a model that is many times larger than its '
                                'weights; pass --config CONFIG, the config that it was trained with')
        return found
