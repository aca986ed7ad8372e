"""Dynamic Multi-Window Self-Attention (DM-MSA): Section "Dynamic Multi-Window Self-Attention" of the CoMA paper."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule, constant_init
from torch import nn

from coma_mm.errors import choice

from .norm import SameDtypeLN


class WindowConv(nn.Module):
    """Strided convolution of keys and values, kernel = stride = window, inside each patch: Conv_k in Eq. 9.

    In Z-order the window's tokens are consecutive, so the depthwise convolution is a weighted sum over them. Keys and
    values have a kernel each. There is no bias: on the keys it would add the same number to all logits of a query, on
    the values it would be part of the output projection's bias, because softmax weights add up to one.

    Args:
        dims (int): Channels C of keys, and of values.
        window (int): Side k of the window in tokens.
        dense (bool): Mix channels too, as a plain convolution does (adds 2·k²·C² parameters). Defaults to False.
    """

    def __init__(self, dims: int, window: int, dense: bool = False):
        super().__init__()
        self.area = window * window
        # Starts as average pooling of the window.
        if dense:
            weight = torch.eye(dims).repeat(self.area, 1)  # k²·C, C
            self.weight = nn.Parameter(torch.stack([weight, weight]) / self.area)  # K or V, k²·C, C
        else:
            self.weight = nn.Parameter(torch.full((self.area, 2 * dims), 1 / self.area))
        self.dense = dense

    def forward(self, kv: torch.Tensor) -> torch.Tensor:
        """(B, N, 2·C), keys and values side by side -> (B, N/k², 2·C)."""
        B, N, C2 = kv.shape
        if not self.dense:
            weight = self.weight.to(kv.dtype)  # under autocast: else the product, of the size of kv, is float32
            return (kv.view(B, N // self.area, self.area, C2) * weight).sum(2)
        kv = kv.view(B, N // self.area, self.area, 2, C2 // 2).permute(3, 0, 1, 2, 4).flatten(3)  # K or V, B, N/k², k²C
        return torch.cat((kv[0] @ self.weight[0], kv[1] @ self.weight[1]), -1)


class MultiWindowAttention(BaseModule):
    """Every token attends to the windows of all patches, at several window sizes at once (Eq. 7 to 10).

    Args:
        dims (int): Channels C.
        num_heads (int): Attention heads; divides `dims`.
        windows (Sequence[int]): Window sides k in tokens. Empty: plain self-attention over all tokens. Defaults to ().
        dense_conv (bool): Dense instead of depthwise window convolutions. Defaults to False.
        reduce (str): 'sum' (Eq. 10) or 'mean' of the windows' outputs. Defaults to 'sum'.
    """

    def __init__(self,
                 dims: int,
                 num_heads: int,
                 windows: Sequence[int] = (),
                 dense_conv: bool = False,
                 reduce: str = 'sum',
                 init_cfg=None):
        super().__init__(init_cfg)
        if dims % num_heads:
            raise ValueError(f'num_heads={num_heads} does not divide the {dims} channels')
        choice(f'{type(self).__name__}: reduce', reduce, ('sum', 'mean'))
        self.num_heads = num_heads
        self.qkv = nn.Linear(dims, 3 * dims)
        self.windows = tuple(windows)
        self.convs = nn.ModuleList(WindowConv(dims, k, dense_conv) for k in self.windows)
        self.scale = 1 / len(self.windows) if reduce == 'mean' and self.windows else 1
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) tokens, patch by patch in Z-order -> (B, N, C)."""
        B, N, C = x.shape

        def heads(t):  # B, M, C -> B, heads, M, C/heads
            return t.view(B, t.shape[1], self.num_heads, -1).transpose(1, 2)

        qkv = self.qkv(x)
        if self.convs:
            q, kv = qkv.split((C, 2 * C), dim=-1)
            pairs = [conv(kv).chunk(2, dim=-1) for conv in self.convs]
        else:
            q, *pair = qkv.chunk(3, dim=-1)  # in one go, whose gradients are then laid side by side once
            pairs = [pair]
        q = heads(q)
        out, *others = (F.scaled_dot_product_attention(q, heads(k), heads(v)) for k, v in pairs)
        for other in others:  # not sum(), which would add the first to 0
            out = out + other
        out = out.transpose(1, 2).reshape(B, N, C)
        return self.proj(out * self.scale if self.scale != 1 else out)


class Block(BaseModule):
    """Pre-norm transformer block with `MultiWindowAttention`.

    Args:
        dims (int): Channels C.
        num_heads (int): Attention heads.
        windows (Sequence[int]): Windows of the attention; empty: plain attention. Defaults to ().
        mlp_ratio (float): Hidden channels of the MLP over C. Defaults to 4.
        drop_path (float): Stochastic depth rate. Defaults to 0.
        zero_init_residual (bool): `init_weights` sets the last layers of attention and MLP to zero, so that the block
            starts as the identity. Defaults to False.
        **attention: Further arguments of `MultiWindowAttention`.
    """

    def __init__(self,
                 dims: int,
                 num_heads: int,
                 windows: Sequence[int] = (),
                 mlp_ratio: float = 4.,
                 drop_path: float = 0.,
                 zero_init_residual: bool = False,
                 init_cfg=None,
                 **attention):
        super().__init__(init_cfg)
        self.zero_init_residual = zero_init_residual
        self.norm1 = SameDtypeLN(dims, eps=1e-6)
        self.attn = MultiWindowAttention(dims, num_heads, windows, **attention)
        self.norm2 = SameDtypeLN(dims, eps=1e-6)
        hidden = int(dims * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dims, hidden), nn.GELU(), nn.Linear(hidden, dims))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def init_weights(self) -> None:
        """Initialise by `init_cfg`, then zero what `zero_init_residual` says."""
        super().init_weights()
        if self.zero_init_residual:
            for layer in (self.attn.proj, self.mlp[2]):
                constant_init(layer, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
