"""Mixed precision without a gradient scaler, on CPU as well as GPU."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from coma_mm.errors import UserError


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """An optimiser wrapper whose forward pass runs under bf16 autocast, on whichever device the model is.

    bf16 has float32's range, so the gradients need no scaling; mmengine's `AmpOptimWrapper` always scales, and insists
    on a GPU.

    Args:
        dtype (str): 'bfloat16', the default and only one: fp16 needs the gradient scaler of `AmpOptimWrapper`.
        **kwargs: Arguments of mmengine's `OptimWrapper`.

    Raises:
        UserError: If `dtype` is another one.
    """

    def __init__(self, dtype: str | torch.dtype = 'bfloat16', **kwargs: Any):
        if dtype not in ('bfloat16', torch.bfloat16):
            raise UserError(f'AutocastOptimWrapper: dtype {dtype!r}; expected bfloat16 (for float16 take '
                            'AmpOptimWrapper)')
        super().__init__(**kwargs)
        self.cast_dtype = torch.bfloat16

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast inside the library's own context (gradient accumulation without synchronisation)."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=self.cast_dtype):
            yield
