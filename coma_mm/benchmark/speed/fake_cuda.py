"""CUDA tensors that have a shape and a device and no content: what a GPU would do, without one."""
import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

WAITS = ('_local_scalar_dense', 'nonzero', 'is_nonzero', 'equal', 'item')
"""Operators for whose result the host waits."""

# The backward pass asks for a thread of the device, and that for a driver. This has the one question that it asks answered
# with "no context yet", by a copy of the table of functions that torch asks.
_PATCH = """
#include <ATen/detail/CUDAHooksInterface.h>
#include <cstdint>
#include <cstring>
static bool no_context(void*, signed char) { return false; }
extern "C" int patch() {
  const at::CUDAHooksInterface& hooks = at::detail::getCUDAHooks();
  bool (at::CUDAHooksInterface::*asked)(c10::DeviceIndex) const = &at::CUDAHooksInterface::hasPrimaryContext;
  std::intptr_t place; std::memcpy(&place, &asked, sizeof place);
  void** object = (void**)(void*)&hooks;
  static void* table[300];
  std::memcpy(table, (void**)object[0] - 2, 102 * sizeof(void*));
  table[2 + (place - 1) / sizeof(void*)] = (void*)&no_context;
  object[0] = (void*)(table + 2);
  return 0;
}
"""


@dataclass
class Kernel:
    """An operator that ran.

    Args:
        phase (str): When.
        name (str): Of the operator.
        traffic (int): Bytes that it reads and writes.
        flops (int): Operations of products, two for a multiplication with its addition.
    """
    phase: str
    name: str
    traffic: int
    flops: int


class Trace(TorchDispatchMode):
    """The operators that run, and what there should not be among them.

    Attributes:
        phase (str): What the next ones are noted as.
        kernels (list[Kernel]): Operators that are no views and do not only make room.
        mixed (Counter[str]): Those with tensors of several devices, by name.
        on_cpu (Counter[str]): Those on the CPU alone.
        waits (Counter[str]): Those for which the host waits.
        casts (list[tuple[int, ...]]): The shapes of what is cast to another dtype.
    """

    def __init__(self):
        super().__init__()
        self.phase = 'forward'
        self.kernels, self.casts = [], []
        self.mixed, self.on_cpu, self.waits = Counter(), Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator, and note it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._overloadpacket.__name__
        ins, outs = ([leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
                     for tree in ((args, kwargs), out))
        devices = {tensor.device.type for tensor in ins + outs if tensor.dim()}
        self.mixed[name] += len(devices) > 1
        self.on_cpu[name] += devices == {'cpu'}
        self.waits[name] += name in WAITS
        if name == '_to_copy' and args[0].dtype != out.dtype:
            self.casts.append(tuple(out.shape))
        own = {tensor.untyped_storage()._cdata for tensor in ins}
        is_view = not name.endswith('_') and outs and all(one.untyped_storage()._cdata in own for one in outs)
        if devices and not is_view and 'empty' not in name and func.namespace != 'prim':
            count = flop_registry.get(func._overloadpacket)
            self.kernels.append(Kernel(
                self.phase, name, sum(map(_bytes, ins + outs)), count(*args, **kwargs, out_val=out) if count else 0))
        return out


def _bytes(tensor):
    """int: Of a tensor's elements, those counted once that are repeated by a stride of 0."""
    sides = (side for side, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return tensor.element_size() * prod(sides) if tensor.numel() else 0


@contextmanager
def fake_cuda():
    """Within this block tensors may be on the device 'cuda' without there being one, also under autocast.

    Attention is the kernel that a GPU takes: without one torch would take it apart.

    Yields:
        FakeTensorMode: To enter where tensors are made.
    """

    def attention(query, key, value, attn_mask=None, dropout_p=0., is_causal=False, scale=None):
        aten = torch.ops.aten
        if attn_mask is not None or query.dtype == torch.float32:
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]
        return aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]

    with ExitStack() as stack:
        for patch in (mock.patch('torch.cuda.amp.common.amp_definitely_not_available', lambda: False),
                      mock.patch('torch.cuda.is_bf16_supported', lambda *args, **kwargs: True),
                      mock.patch.object(F, 'scaled_dot_product_attention', attention),
                      mock.patch('mmpretrain.models.utils.attention.scaled_dot_product_attention', attention)):
            stack.enter_context(patch)
        yield FakeTensorMode()


def to_fake(module, mode):
    """nn.Module: The same module with fake CUDA tensors in place of its own."""
    fakes = {}
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in fakes:
                    fake = fake_like(tensor, mode)
                    fakes[id(tensor)] = tensor, torch.nn.Parameter(fake, tensor.requires_grad) if isinstance(
                        tensor, torch.nn.Parameter) else fake
                tensors[name] = fakes[id(tensor)][1]
        if hasattr(part, '_device'):  # of mmengine's data preprocessors
            part._device = torch.device('cuda')
    return module


def fake_like(values, mode):
    """The same nested dicts and lists with fake CUDA tensors."""
    def fake(tensor):
        with mode:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device='cuda')

    return tree_map_only(torch.Tensor, fake, values)


def allow_backward():
    """bool: Whether backward passes run on fake CUDA tensors from now on, for which a C++ compiler is needed.

    To be called before the first backward pass of a process, and with no real GPU's work in it.
    """
    if torch.cuda.is_available():
        return True
    compiler, home = shutil.which('g++'), Path(torch.__file__).parent
    if not compiler or sys.platform != 'linux':
        return False
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, 'patch.cpp'), Path(folder, 'patch.so')
        source.write_text(_PATCH)
        done = subprocess.run(
            [compiler, '-w', '-std=c++20', '-shared', '-fPIC', '-o', library, source, f'-I{home}/include',
             f'-L{home}/lib', '-ltorch_cpu', '-lc10'], capture_output=True)
        return done.returncode == 0 and ctypes.CDLL(str(library)).patch() == 0
