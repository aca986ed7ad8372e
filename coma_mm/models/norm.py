"""LayerNorm that stays in its input's precision."""
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import nn


@MODELS.register_module()
class SameDtypeLN(nn.LayerNorm):
    """LayerNorm whose output has the dtype of its input, under autocast too; its statistics are float32.

    CUDA's autocast runs `layer_norm` in float32: it casts a bf16 input, writes a float32 output and casts that back for the
    linear layer that follows, which moves some 20 bytes for each element where 4 do, and saves twice the memory for the
    backward pass. The CUDA kernel computes in float32 inside whatever the dtype, so only the rounding of the scale and shift
    to bf16 is added, which is of the size of the output's own.

    Args:
        normalized_shape, **kwargs: As of `torch.nn.LayerNorm`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) -> the same shape and dtype."""
        if x.dtype not in (torch.bfloat16, torch.float16):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
