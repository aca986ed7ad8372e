"""What the libraries do for tensors on a GPU, done on a CPU."""
from contextlib import ExitStack
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode


def _on_cpu(value):
    return 'cpu' if isinstance(value, (str, torch.device)) and str(value).startswith('cuda') else value


class CudaBranches(TorchFunctionMode):
    """While it is entered, every tensor says that it is on a GPU, PyTorch that there is one, and all stays on the CPU.

    Libraries that ask `tensor.is_cuda` or `torch.cuda.is_available()` so take the branches that they have for a GPU.
    """

    def __init__(self):
        super().__init__()
        self.patches = ExitStack()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func == torch.Tensor.is_cuda.__get__:
            return True
        if func is torch.Tensor.cuda:
            return args[0]
        return func(*map(_on_cpu, args), **{name: _on_cpu(value) for name, value in kwargs.items()})

    def __enter__(self):
        from mmcv.ops import multi_scale_deform_attn
        for patch in (mock.patch('torch.cuda.is_available', lambda: True),
                      mock.patch('torch.cuda.current_device', lambda: 'cpu'),
                      mock.patch.object(multi_scale_deform_attn, 'IS_CUDA_AVAILABLE', True)):
            self.patches.enter_context(patch)
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.close()
        return super().__exit__(*error)
