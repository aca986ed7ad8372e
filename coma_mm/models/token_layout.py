"""The order of tokens: patch by patch, and inside a patch in Z-order (Morton order).

In this order every aligned k×k window of a patch (k a power of two) is k² *consecutive* tokens. So dropping patches is
one gather on (B, num_patches, tokens per patch, C), pooling 2×2 is `view` and `amax`, and a convolution whose kernel
equals its stride is a weighted sum over consecutive tokens. Nothing outside this module permutes tokens. The idea is
Hiera's `Unroll` (Ryali et al. 2023), with windows consecutive.
"""
import math

import torch


def _bits(side: int) -> int:
    bits = side.bit_length() - 1
    if side != 2**bits:
        raise ValueError(f'the side of a patch must be a power of two tokens, got {side}')
    return bits


def grid_to_tokens(x: torch.Tensor, side: int) -> torch.Tensor:
    """Lay a feature map out patch by patch, in Z-order inside each patch.

    Args:
        x (Tensor): Feature map, (B, C, rows·side, columns·side).
        side (int): Tokens along a patch's side, a power of two.

    Returns:
        Tensor: (B, rows·columns, side², C); patches in raster order.
    """
    bits = _bits(side)
    B, C, H, W = x.shape
    twos = (2, ) * bits
    x = x.reshape(B, C, H // side, *twos, W // side, *twos)  # B C rows (y bits) columns (x bits)
    y_bits = range(3, 3 + bits)
    x_bits = range(4 + bits, 4 + 2 * bits)
    z_order = [axis for pair in zip(y_bits, x_bits, strict=True) for axis in pair]
    x = x.permute(0, 2, 3 + bits, *z_order, 1)  # B rows columns (y bit, x bit)… C
    return x.reshape(B, (H // side) * (W // side), side * side, C)


def tokens_to_grid(tokens: torch.Tensor, grid: tuple[int, int], side: int) -> torch.Tensor:
    """Put tokens back on the grid: the inverse of `grid_to_tokens`.

    Args:
        tokens (Tensor): (B, rows·columns·side², C), or with the patch axis apart.
        grid (tuple[int, int]): Rows and columns of patches.
        side (int): Tokens along a patch's side, a power of two.

    Returns:
        Tensor: (B, C, rows·side, columns·side).
    """
    bits = _bits(side)
    B, C = tokens.shape[0], tokens.shape[-1]
    x = tokens.reshape(B, *grid, *(2, ) * (2 * bits), C)  # B rows columns (y bit, x bit)… C
    y_bits = range(3, 3 + 2 * bits, 2)
    x_bits = range(4, 4 + 2 * bits, 2)
    x = x.permute(0, 3 + 2 * bits, 1, *y_bits, 2, *x_bits)  # B C rows (y bits) columns (x bits)
    return x.reshape(B, C, grid[0] * side, grid[1] * side)


def gather_patches(x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Keep some patches of each image.

    Args:
        x (Tensor): (B, num_patches, ...).
        ids (Tensor): int64 indices in [0, num_patches), (B, K).

    Returns:
        Tensor: (B, K, ...).
    """
    index = ids.reshape(*ids.shape, *(1, ) * (x.dim() - 2)).expand(*ids.shape, *x.shape[2:])
    return x.gather(1, index)


def sincos_position(grid: tuple[int, int], dims: int, device: torch.device | None = None) -> torch.Tensor:
    """2-D sine-cosine position embedding as in MAE (He et al. 2022), for a grid of any shape.

    Args:
        grid (tuple[int, int]): Rows and columns.
        dims (int): Channels, a multiple of 4: the first half encodes the row, the second the column.
        device (torch.device, optional): Where to make it. Defaults to the CPU.

    Returns:
        Tensor: (1, dims, rows, columns), float32.
    """
    if dims % 4:
        raise ValueError(f'sine-cosine position embedding needs channels divisible by 4, got {dims}')
    quarter = dims // 4
    frequency = torch.exp(torch.arange(quarter, device=device) * (-math.log(10000.) / quarter))
    rows, columns = grid
    return torch.cat([
        _encode(rows, frequency)[:, :, None].expand(-1, -1, columns),
        _encode(columns, frequency)[:, None, :].expand(-1, rows, -1),
    ])[None]


def _encode(length: int, frequency: torch.Tensor) -> torch.Tensor:
    angle = frequency[:, None] * torch.arange(length, device=frequency.device)
    return torch.cat([angle.sin(), angle.cos()])  # dims/2, length
