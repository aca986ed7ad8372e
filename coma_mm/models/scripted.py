"""DyViT as `torch.jit.script` can compile it, with copies of its weights: for images, in evaluation mode.

TorchScript knows a part of Python alone, without modules whose names are made up, or results of any number. `DyViT` itself
is written for training.
"""
import copy

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Block, MultiWindowAttention
from .token_layout import sincos_position


class ScriptedAttention(nn.Module):
    """`MultiWindowAttention`.

    Args:
        attention (MultiWindowAttention): What it is to compute.
    """

    def __init__(self, attention: MultiWindowAttention):
        super().__init__()
        self.num_heads: int = attention.num_heads
        self.scale: float = float(attention.scale)
        self.qkv, self.proj = attention.qkv, attention.proj
        self.convs = nn.ModuleList(attention.convs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, N, C)."""
        B, N, C = x.shape
        qkv = self.qkv(x)
        q, kv = self._heads(qkv[..., :C]), qkv[..., C:]
        if len(self.convs) == 0:
            k, v = kv.chunk(2, dim=-1)
            out = F.scaled_dot_product_attention(q, self._heads(k), self._heads(v))
        else:
            out = torch.zeros_like(q)
            for conv in self.convs:
                k, v = conv(kv).chunk(2, dim=-1)
                out = out + F.scaled_dot_product_attention(q, self._heads(k), self._heads(v))
        return self.proj(out.transpose(1, 2).reshape(B, N, C) * self.scale)

    def _heads(self, t: torch.Tensor) -> torch.Tensor:
        return t.reshape(t.shape[0], t.shape[1], self.num_heads, -1).transpose(1, 2)


class ScriptedBlock(nn.Module):
    """`Block`.

    Args:
        block (Block): What it is to compute.
    """

    def __init__(self, block: Block):
        super().__init__()
        self.norm1, self.norm2 = _plain_norm(block.norm1), _plain_norm(block.norm2)
        self.attn, self.mlp = ScriptedAttention(block.attn), block.mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ScriptedDyViT(nn.Module):
    """`DyViT`, for images of any size.

    Args:
        backbone (DyViT): What it is to compute. It is copied.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        backbone = copy.deepcopy(backbone).eval()
        self.patch_size: int = backbone.patch_size
        self.dims: int = backbone.dims[0]
        self.pos_scale: float = backbone.pos_scale
        self.pos_embed = backbone.pos_embed
        self.out_type: str = backbone.out_type
        self.strides: list[int] = list(backbone.strides)
        self.sides: list[int] = list(backbone.sides)
        self.padding: int = backbone.stem.kernel_size[0] - backbone.stem.stride[0]
        self.stem = backbone.stem
        self.downsamples, self.stages, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for stage, (downsample, *blocks) in enumerate(backbone.stages):
            if hasattr(downsample, 'norm'):
                downsample.norm = _plain_norm(downsample.norm)
            self.downsamples.append(downsample)
            self.stages.append(nn.Sequential(*map(ScriptedBlock, blocks)))
            self.norms.append(_plain_norm(getattr(backbone, f'norm{stage}', None)))
        self.out_indices: list[int] = list(backbone.out_indices)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_channels, H, W) -> a tensor for each of `out_indices`, as of DyViT."""
        H, W = x.shape[-2:]
        P = self.patch_size
        rows, columns = (H + P - 1) // P, (W + P - 1) // P
        x = F.pad(x, [self.padding, columns * P - W, self.padding, rows * P - H])
        x = _to_tokens(self.stem(x), self.sides[0])
        x = (x + _to_tokens(self._position(rows, columns, x.device), self.sides[0])).flatten(1, 2)
        outs: list[torch.Tensor] = []
        for stage, (downsample, blocks, norm) in enumerate(zip(self.downsamples, self.stages, self.norms)):  # noqa: B905
            x = blocks(downsample(x))
            if stage in self.out_indices:
                out = norm(x)
                if self.out_type != 'raw':
                    stride = self.strides[stage]
                    out = _to_grid(out, rows, columns, self.sides[stage])
                    out = out[:, :, :(H + stride - 1) // stride, :(W + stride - 1) // stride].contiguous()
                    if self.out_type == 'avg_featmap':
                        out = out.mean([2, 3])
                outs.append(out)
        return outs

    def _position(self, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        rows, columns = rows * self.sides[0], columns * self.sides[0]
        embedding = self.pos_embed
        if embedding is None:
            return sincos_position((rows, columns), self.dims, device) * self.pos_scale
        return F.interpolate(embedding, [rows, columns], mode='bicubic', align_corners=False)


def _plain_norm(norm: nn.LayerNorm | None) -> nn.Module:
    """A LayerNorm with the weights of one of ours; nothing of nothing."""
    if norm is None:
        return nn.Identity()
    plain = nn.LayerNorm(norm.normalized_shape, eps=norm.eps)
    plain.weight, plain.bias = norm.weight, norm.bias
    return plain


def _to_tokens(x: torch.Tensor, side: int) -> torch.Tensor:
    """`grid_to_tokens`, halving by halving: the coarser bit of y, of x, and so on."""
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // side, side, W // side, side).permute(0, 2, 4, 3, 5, 1).flatten(1, 2)  # B n side side C
    x = x[:, :, None]
    while side > 1:
        side = side // 2
        n, z = x.shape[1], x.shape[2]
        x = x.reshape(B, n, z, 2, side, 2, side, C).permute(0, 1, 2, 3, 5, 4, 6, 7).reshape(B, n, z * 4, side, side, C)
    return x.reshape(B, -1, x.shape[2], C)


def _to_grid(tokens: torch.Tensor, rows: int, columns: int, side: int) -> torch.Tensor:
    """`tokens_to_grid`: the inverse of `_to_tokens`."""
    B, C, n = tokens.shape[0], tokens.shape[-1], rows * columns
    x = tokens.reshape(B, n, -1, 1, 1, C)
    while x.shape[2] > 1:
        z, half = x.shape[2] // 4, x.shape[3]
        x = x.reshape(B, n, z, 2, 2, half, half, C).permute(0, 1, 2, 3, 5, 4, 6, 7).reshape(B, n, z, 2 * half, 2 * half, C)
    return x.reshape(B, rows, columns, side, side, C).permute(0, 5, 1, 3, 2, 4).reshape(B, C, rows * side, columns * side)
