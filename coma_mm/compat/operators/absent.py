"""Operators that are not there: who needs one is refused in one line, when it is built where that can be known."""
import functools
import inspect
import re
import sys
from collections.abc import Callable, Container
from types import ModuleType

import torch

from coma_mm.errors import UserError


class AbsentOperatorError(UserError, NotImplementedError):
    """An operator of mmcv that is neither compiled nor one of ours."""

    def __init__(self, operator: str):
        super().__init__(
            f'mmcv operator {operator} is not available: mmcv has no compiled operators, and coma_mm has others in their '
            'place (docs/heads.md). Use a model without it, or compile mmcv in an environment with PyTorch 2.13 '
            '(docs/install.md, "Compiled mmcv operators")')


def refusal(operator: str) -> Callable:
    """A function in the place of an operator that is not there, which raises an error with its name."""

    def refuse(*args, **kwargs):
        raise AbsentOperatorError(operator)

    return refuse


def refuse_modules(ops: ModuleType, present: Container[str]) -> None:
    """Let the modules of `mmcv.ops` that need an operator that is not there refuse to be built.

    Args:
        ops (ModuleType): `mmcv.ops`, imported.
        present (Container[str]): Names of the operators that are there.
    """
    for value in vars(ops).values():
        if isinstance(value, type) and issubclass(value, torch.nn.Module):
            # What its file calls as `ext_module.…`.
            called = re.findall(r'\bext_module\.(\w+)', inspect.getsource(sys.modules[value.__module__]))
            if absent := [name for name in called if name not in present]:
                value.__init__ = functools.wraps(value.__init__)(refusal(absent[0]))
