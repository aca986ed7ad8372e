"""Multi-scale deformable attention, as https://arxiv.org/abs/2010.04159 defines it."""
import torch
from torch import Tensor

from .precision import widen

_BILINEAR = _ZEROS = 0
"""Numbers that `grid_sampler_2d` has for these."""


@torch.library.custom_op('coma_mm::ms_deform_attn', mutates_args=())
def _forward(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    output = 0
    for maps, grid, weight in _levels(value, shapes, locations, weights):
        output = output + (_sample(maps, grid) * weight).sum(-1)
    batch, _, heads, channels = value.shape
    return output.view(batch, heads * channels, -1).transpose(1, 2).contiguous()


@_forward.register_fake
def _(value, shapes, locations, weights):
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.custom_op('coma_mm::ms_deform_attn_backward', mutates_args=())
def _backward(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor,
              grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, keys, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grad = grad.view(batch, queries, heads, channels).permute(0, 2, 3, 1).reshape(batch * heads, channels, queries, 1)
    of_value, of_locations, of_weights = [], [], []
    for maps, grid, weight in _levels(value, shapes, locations, weights):
        of_weights.append((grad * _sample(maps, grid)).sum(1))
        of_maps, of_grid = torch.ops.aten.grid_sampler_2d_backward(
            grad * weight, maps, grid, _BILINEAR, _ZEROS, False, (True, True))
        of_value.append(of_maps.flatten(2))
        of_locations.append(2 * of_grid)
    return (torch.cat(of_value, 2).view(batch, heads, channels, keys).permute(0, 3, 1, 2).contiguous(),
            torch.stack(of_locations, 2).view(batch, heads, queries, -1, points, 2).transpose(1, 2).contiguous(),
            torch.stack(of_weights, 2).view(batch, heads, queries, -1, points).transpose(1, 2).contiguous())


@_backward.register_fake
def _(value, shapes, locations, weights, grad):
    return tuple(torch.empty_like(one, memory_format=torch.contiguous_format) for one in (value, locations, weights))


def ms_deform_attn_forward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor, sampling_loc: Tensor,
                           attn_weight: Tensor, im2col_step: int) -> Tensor:
    """For each query and head, a weighted sum of bilinear samples of the head's maps at each level.

    Args:
        value (Tensor): (B, K, M, D), the pixels of all levels, for M heads of D channels.
        spatial_shapes (Tensor): (L, 2), int64, rows and columns of each level.
        level_start_index (Tensor): (L, ), int64; not needed, as the levels follow each other.
        sampling_loc (Tensor): (B, Q, M, L, P, 2), x and y of the samples; a map reaches from 0 to 1.
        attn_weight (Tensor): (B, Q, M, L, P).
        im2col_step (int): not needed.

    Returns:
        Tensor: (B, Q, M * D), of `value`'s type.
    """
    found = _forward(*_wide(value, spatial_shapes, sampling_loc, attn_weight))
    return found.to(value.dtype)


def ms_deform_attn_backward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor, sampling_loc: Tensor,
                            attn_weight: Tensor, grad_output: Tensor, grad_value: Tensor, grad_sampling_loc: Tensor,
                            grad_attn_weight: Tensor, im2col_step: int) -> None:
    """Writes the gradients with respect to `value`, `sampling_loc` and `attn_weight` into the tensors of these names.

    The other arguments are those of `ms_deform_attn_forward`; `grad_output` has the shape of its result.
    """
    wide, shapes, locations, weights = _wide(value, spatial_shapes, sampling_loc, attn_weight)
    found = _backward(wide, shapes, locations, weights, grad_output.to(wide.dtype))
    for output, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), found, strict=True):
        output.copy_(gradient)


def _wide(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    value, locations, weights = widen(value, locations, weights)
    return value, shapes, locations, weights


def _levels(value, shapes, locations, weights):
    # For each level its maps (B * M, D, H, W), the grid (B * M, Q, P, 2) and the weights (B * M, 1, Q, P).
    batch, _, heads, channels = value.shape
    sizes = shapes.tolist()
    locations = locations.transpose(1, 2).flatten(0, 1)
    weights = weights.transpose(1, 2).flatten(0, 1)
    for level, (pixels, size) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes, strict=True)):
        maps = pixels.permute(0, 2, 3, 1).reshape(batch * heads, channels, *size)
        # A sample a whole pixel outside is none: its value is 0, and so is mmcv's gradient, where that of
        # grid_sample has the slope on the side of the map.
        places = locations[:, :, level]
        x, y = (places[..., axis] * size[1 - axis] - 0.5 for axis in range(2))
        inside = (x > -1) & (x < size[1]) & (y > -1) & (y < size[0])
        yield maps, torch.where(inside[..., None], 2 * places - 1, 3), weights[:, None, :, level]


def _sample(maps, grid):
    return torch.ops.aten.grid_sampler_2d(maps, grid, _BILINEAR, _ZEROS, False)
