"""Small models and random input for the tests of the models."""
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from coma_mm.datasets import masking
from coma_mm.datasets.mask_samplers import ColorNoiseMaskSampler
from coma_mm.models import CoMA, DyViT, MaskedAutoencoder

ARCH = dict(dims=(8, 16, 32, 64), depths=(1, 1, 1, 1), num_heads=(2, 2, 4, 4))
# All there are.
SAMPLERS = [dict(type='UniformMaskSampler'), dict(type='BlockMaskSampler'),
            *(dict(type='ColorNoiseMaskSampler', color=color) for color in ColorNoiseMaskSampler.COLORS)]
# PyTorch's fused attention on a CPU, forth and back.
FLASH = {f'aten::_scaled_dot_product_flash_attention_for_cpu{end}' for end in ('', '_backward')}


def randomise(module, seed=0, std=0.3):
    """Random numbers in every parameter, also those that start at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            scale = std * 3 / p[0].numel()**.5 if p.dim() > 1 else std
            p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))
            if 'norm' in name and name.endswith('weight'):
                p.add_(1)
    return module


def small_dyvit(**kwargs):
    """A DyViT of 8 to 64 channels with random weights, in float64."""
    kwargs.setdefault('arch', ARCH)
    return randomise(DyViT(**kwargs)).double().eval()


def giga_macs(model, x, ids_keep=None):
    """GMACs in convolutions and linear layers, and in attention's products."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(x, ids_keep)
    counts = {str(op): flops / 2e9 for op, flops in counter.get_flop_counts()['Global'].items()}
    layers = sum(v for op, v in counts.items() if 'convolution' in op or 'mm' in op and 'bmm' not in op)
    return layers, sum(counts.values()) - layers


def draw_masks(batch, grid, ratio=0.6, seed=0):
    """ids_keep and ids_rest of a batch."""
    samples = [(seed, 0, index) for index in range(batch)]
    return masking.draw_masks(grid, samples, dict(type='UniformMaskSampler', ratio=ratio), patch_size=1)


def model_settings(**backbone):
    """Arguments of a small MaskedAutoencoder or CoMA."""
    return dict(
        backbone=dict(type='DyViT', arch=ARCH, out_indices=(0, 1, 2, 3), out_type='raw', **backbone),
        neck=dict(type='MultiScaleFusion', in_channels=ARCH['dims']),
        decoder=dict(type='ViTDecoder', in_channels=64, embed_dims=16, depth=1, num_heads=2),
        head=dict(type='PixelHead'))


def small_mae(seed=0, **kwargs):
    """A small MaskedAutoencoder with random weights, in float64 and training mode."""
    return randomise(MaskedAutoencoder(**model_settings(**kwargs)), seed).double().train()


def small_coma(complement='frozen', seed=0, momentum=0., **kwargs):
    """A small CoMA with the weights of `small_mae(seed)`, the evaluation model equal, in float64 and training mode."""
    model = randomise(CoMA(**model_settings(**kwargs), complement=complement, momentum=momentum), seed).double()
    model.load_state_dict(small_mae(seed, **kwargs).state_dict(), strict=False)
    model.sync_evaluation()
    return model.train()


def small_batch(batch=3, grid=(2, 2), ratio=0.5, seed=0):
    """Images and masks, as keyword arguments of a model's forward."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 3, grid[0] * 32, grid[1] * 32, generator=generator, dtype=torch.float64)
    ids_keep, ids_rest = draw_masks(batch, grid, ratio, seed)
    return dict(inputs=images, ids_keep=ids_keep, ids_rest=ids_rest)


class Recorder(TorchDispatchMode):
    """Names of the operators called, and the bytes of the largest tensor made."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.add(func.name())
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out

    def attention(self):
        """Names of attention's kernels, of which none builds a matrix of weights (PyTorch's plain one does, by `bmm`)."""
        assert not self.names & {'aten::bmm', 'aten::_softmax', 'aten::_safe_softmax'}
        return {name for name in self.names if 'scaled_dot_product' in name}
