"""Forward passes on CUDA tensors that have a shape and a device and no content, so that no GPU is needed."""
from collections import Counter
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = ('_local_scalar_dense', 'nonzero', 'is_nonzero', 'equal', 'item')
"""Operators for whose result the host waits."""


class Trace(TorchDispatchMode):
    """The operators that run, and what there must not be among them.

    Attributes:
        kernels (Counter[str]): Operators by name.
        mixed (Counter[str]): Those with tensors of several devices.
        on_cpu (Counter[str]): Those on the CPU alone.
        waits (Counter[str]): Those for which the host waits.
        casts (list[tuple[int, ...]]): The shapes of what is cast to another dtype.
    """

    def __init__(self):
        super().__init__()
        self.kernels, self.mixed, self.on_cpu, self.waits, self.casts = Counter(), Counter(), Counter(), Counter(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Note an operator."""
        out = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        self.kernels[name] += 1
        self.mixed[name] += len(devices) > 1
        self.on_cpu[name] += devices == {'cpu'}
        self.waits[name] += name in WAITS
        if name == '_to_copy' and args[0].dtype != out.dtype:
            self.casts.append(tuple(out.shape))
        return out


@contextmanager
def fake_cuda():
    """Within this block tensors may be on the device 'cuda' without there being one, also under autocast.

    Attention is what a GPU takes in half precision: without a GPU torch would decompose it.

    Yields:
        FakeTensorMode: To enter where tensors are made.
    """

    def attention(query, key, value, **kwargs):
        assert not kwargs and query.dtype == torch.bfloat16
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]

    with ExitStack() as stack:
        for patch in (mock.patch('torch.cuda.amp.common.amp_definitely_not_available', lambda: False),
                      mock.patch('torch.cuda.is_bf16_supported', lambda *args, **kwargs: True),
                      mock.patch.object(F, 'scaled_dot_product_attention', attention),
                      mock.patch('mmpretrain.models.utils.attention.scaled_dot_product_attention', attention)):
            stack.enter_context(patch)
        yield FakeTensorMode()


def to_fake(module, mode):
    """The same module with fake CUDA tensors in place of its own."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    with mode:
                        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device='cuda')
                    tensors[name] = torch.nn.Parameter(fake, tensor.requires_grad) if isinstance(
                        tensor, torch.nn.Parameter) else fake
        if hasattr(part, '_device'):  # of mmengine's data preprocessors
            part._device = torch.device('cuda')
    return module
