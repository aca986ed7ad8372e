"""Half precision (float16, bfloat16) is computed in float32; writing the result rounds it once."""
import torch
from torch import Tensor


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of floating point in the widest type among them, and in float32 at least; an empty one stands for none."""
    dtype = torch.float32
    for tensor in tensors:
        if tensor.numel():
            dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)
