"""Pooling of regions: RoIAlign (https://arxiv.org/abs/1703.06870), RoI pooling, and the deformable one."""
from collections.abc import Iterator

import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

from .precision import widen

_AVG = 1


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Pools each RoI into a fixed grid of bilinear samples and writes the result into `output`.

    Args:
        input (Tensor): (B, C, H, W) features.
        rois (Tensor): (N, 5), index in the batch, then x1, y1, x2, y2 in pixels of the image.
        output (Tensor): (N, C, aligned_height, aligned_width), written to.
        argmax_y (Tensor): of `output`'s shape, written to by maximum pooling: where the largest samples are.
        argmax_x (Tensor): as `argmax_y`.
        aligned_height (int): rows of the grid.
        aligned_width (int): columns of the grid.
        spatial_scale (float): from pixels of the image to those of the features.
        sampling_ratio (int): samples per bin and side; 0 takes as many as the bin has pixels.
        pool_mode (int): 1 for the mean over a bin's samples, 0 for their maximum.
        aligned (bool): whether pixel centres lie at half coordinates.
    """
    input, rois = widen(input, rois)
    if pool_mode == _AVG:
        output.copy_(
            torch.ops.torchvision.roi_align(
                input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned))
        return
    regions = _Regions(rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    for members, y, x in regions.samples():
        values, best = _bilinear(input, regions.index[members], y, x).max(1)
        output[members] = values.movedim(-1, 1).to(output.dtype)
        best = best.movedim(-1, 1)
        for found, place in ((argmax_y, y), (argmax_x, x)):
            place = place[:, :, None].expand(-1, -1, input.shape[1], -1, -1).gather(1, best[:, None])[:, 0]
            found[members] = place.to(found.dtype)


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Writes the gradient with respect to the features into `grad_input`, (B, C, H, W).

    The other arguments are those of `roi_align_forward`; `grad_output` has the shape of its `output`.
    """
    grad_output, rois, argmax_y, argmax_x = widen(grad_output, rois, argmax_y, argmax_x)
    if pool_mode == _AVG:
        grad_input.copy_(
            torch.ops.torchvision._roi_align_backward(
                grad_output, rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio,
                aligned))
        return
    found = grad_output.new_zeros(grad_input.shape)
    index = rois[:, 0].long()[:, None, None, None]
    channel = torch.arange(found.shape[1], device=found.device)[:, None, None]
    for row, column, weight in _corners(argmax_y, argmax_x, *found.shape[2:]):
        found.index_put_((index, channel, row, column), weight * grad_output, accumulate=True)
    grad_input.copy_(found)


def roi_pool_forward(input: Tensor, rois: Tensor, output: Tensor, argmax: Tensor, pooled_height: int, pooled_width: int,
                     spatial_scale: float) -> None:
    """Writes the largest value in each bin of each RoI into `output`; one bin after the other.

    Args:
        input (Tensor): (B, C, H, W) features.
        rois (Tensor): (N, 5), index in the batch, then x1, y1, x2, y2 in pixels of the image, the last ones included.
        output (Tensor): (N, C, pooled_height, pooled_width), written to; 0 in a bin without pixels.
        argmax (Tensor): of `output`'s shape, int32, written to: the pixels' numbers in their map, or -1.
        pooled_height (int): rows of the grid.
        pooled_width (int): columns of the grid.
        spatial_scale (float): from pixels of the image to those of the features.
    """
    height, width = input.shape[2:]
    rois, = widen(rois)
    start, end = rois[:, [2, 1]] * spatial_scale, (rois[:, [4, 3]] + 1) * spatial_scale
    output.zero_()
    argmax.fill_(-1)
    for n, (index, size) in enumerate(zip(rois[:, 0].long().tolist(), end - start, strict=True)):
        if not (size > 0).all():
            continue
        # Where each row and each column of bins begins and ends.
        edges = [(torch.arange(bins + 1, device=rois.device) * (size[axis] / bins) + start[n, axis])
                 for axis, bins in enumerate((pooled_height, pooled_width))]
        (tops, bottoms), (lefts, rights) = (
            (edge[:-1].floor().clamp(0, limit).long().tolist(), edge[1:].ceil().clamp(0, limit).long().tolist())
            for edge, limit in zip(edges, (height, width), strict=True))
        for row, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
            for column, (left, right) in enumerate(zip(lefts, rights, strict=True)):
                if top < bottom and left < right:
                    values, place = input[index, :, top:bottom, left:right].flatten(1).max(1)
                    output[n, :, row, column] = values
                    argmax[n, :, row, column] = (
                        (top + place // (right - left)) * width + left + place % (right - left)).to(argmax.dtype)


def roi_pool_backward(grad_output: Tensor, rois: Tensor, argmax: Tensor, grad_input: Tensor, pooled_height: int,
                      pooled_width: int, spatial_scale: float) -> None:
    """Writes the gradient with respect to the features into `grad_input`; see `roi_pool_forward`."""
    grad, = widen(grad_output)
    found = grad.new_zeros(grad_input.shape).flatten(2)
    index = rois[:, 0].long()[:, None, None]
    channel = torch.arange(found.shape[1], device=found.device)[:, None]
    place = argmax.flatten(2).long()
    found.index_put_((index, channel, place.clamp(min=0)), grad.flatten(2) * (place >= 0), accumulate=True)
    grad_input.copy_(found.view(grad_input.shape))


def deform_roi_pool_forward(input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, pooled_height: int,
                            pooled_width: int, spatial_scale: float, sampling_ratio: int, gamma: float) -> None:
    """Pools each RoI into a grid of bins, each moved by its offset, and writes the result into `output`.

    Args:
        input (Tensor): (B, C, H, W) features.
        rois (Tensor): (N, 5), index in the batch, then x1, y1, x2, y2 in pixels of the image.
        offset (Tensor): (N, 2, pooled_height, pooled_width), x and y of each bin in widths and heights of its RoI;
            empty for none.
        output (Tensor): (N, C, pooled_height, pooled_width), written to.
        pooled_height (int): rows of the grid.
        pooled_width (int): columns of the grid.
        spatial_scale (float): from pixels of the image to those of the features.
        sampling_ratio (int): samples per bin and side; 0 takes as many as the bin has pixels.
        gamma (float): what the offsets are multiplied by.
    """
    regions = _Regions(widen(rois, input)[0], (pooled_height, pooled_width), spatial_scale, sampling_ratio, aligned=True)
    output.copy_(_deformed(*widen(input, offset), regions, gamma))


def deform_roi_pool_backward(grad_output: Tensor, input: Tensor, rois: Tensor, offset: Tensor, grad_input: Tensor,
                             grad_offset: Tensor, pooled_height: int, pooled_width: int, spatial_scale: float,
                             sampling_ratio: int, gamma: float) -> None:
    """Writes the gradients with respect to `input` and `offset` into `grad_input` and `grad_offset`.

    A sample up to a pixel outside has the value at the border, so its offset has no gradient across it; mmcv continues
    the slope within. The other arguments are those of `deform_roi_pool_forward`; `grad_output` has the shape of its
    `output`.
    """
    regions = _Regions(widen(rois, input)[0], (pooled_height, pooled_width), spatial_scale, sampling_ratio, aligned=True)
    grad_output, *inputs = widen(grad_output, input, offset)
    with torch.enable_grad():
        inputs = [one.detach().requires_grad_() for one in inputs]
        output = _deformed(*inputs, regions, gamma)
        found = torch.autograd.grad(output, inputs, grad_output, allow_unused=True, materialize_grads=True)
    grad_input.copy_(found[0])
    grad_offset.copy_(found[1])


class _Regions:
    """RoIs on the features, and the samples in their bins.

    Args:
        rois (Tensor): (N, 5), index in the batch, then x1, y1, x2, y2 in pixels of the image.
        bins (tuple): rows and columns of bins.
        scale (float): from pixels of the image to those of the features.
        ratio (int): samples per bin and side; 0 takes as many as the bin has pixels.
        aligned (bool): whether pixel centres lie at half coordinates.
    """

    def __init__(self, rois: Tensor, bins: tuple[int, int], scale: float, ratio: int, aligned: bool):
        self.index = rois[:, 0].long()
        corners = rois[:, 1:] * scale - 0.5 * aligned
        self.start = corners[:, [1, 0]]
        self.sides = corners[:, 2:].flip(1) - self.start
        if not aligned:
            self.sides = self.sides.clamp(min=1)
        self.bins, self.ratio = bins, ratio

    def samples(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For RoIs with equally many samples: which they are, (K, ), and y and x of the samples, (K, S, *bins)."""
        bins = self.sides.new_tensor(self.bins)
        counts = (self.sides / bins).ceil().long() if not self.ratio else self.sides.new_full(self.sides.shape, self.ratio)
        for rows, columns in torch.unique(counts, dim=0).long().tolist():
            if rows <= 0 or columns <= 0:
                continue
            members = ((counts[:, 0] == rows) & (counts[:, 1] == columns)).nonzero()[:, 0]
            y, x = (self._places(members, axis, count) for axis, count in enumerate((rows, columns)))
            shape = len(members), rows, columns, *self.bins
            yield (members, y[:, :, None, :, None].expand(shape).flatten(1, 2),
                   x[:, None, :, None, :].expand(shape).flatten(1, 2))

    def _places(self, members: Tensor, axis: int, count: int) -> Tensor:
        # (K, count, bins of this axis)
        size = (self.sides[members, axis] / self.bins[axis])[:, None, None]
        bin = torch.arange(self.bins[axis], device=size.device)
        sample = (torch.arange(count, device=size.device) + 0.5)[:, None]
        return self.start[members, axis][:, None, None] + bin * size + sample * size / count


def _deformed(input: Tensor, offset: Tensor, regions: _Regions, gamma: float) -> Tensor:
    output = input.new_zeros(len(regions.index), input.shape[1], *regions.bins)
    for members, y, x in regions.samples():
        if offset.numel():
            moved = gamma * regions.sides[members].flip(1)[:, :, None, None] * offset[members]
            x, y = x + moved[:, None, 0], y + moved[:, None, 1]
        values = _bilinear(input, regions.index[members], y, x).mean(1)
        output = output.index_copy(0, members, values.movedim(-1, 1))
    return output


def _bilinear(features: Tensor, index: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """(N, ..., C): Samples of image `index`, (N, ), at y and x, (N, ...); 0 more than a pixel outside."""
    index = index.view(-1, *[1] * (y.dim() - 1))
    return sum(weight[..., None] * features[index, :, row, column]
               for row, column, weight in _corners(y, x, *features.shape[2:]))


def _corners(y: Tensor, x: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Row, column and weight of the four pixels around each place; the border reaches a pixel further out."""
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    sides = []
    for place, size in ((y, height), (x, width)):
        place = place.clamp(0, size - 1)
        low = place.detach().floor().long().clamp(0, size - 1)  # also of one that is no number
        share = place - low
        sides.append(((low, 1 - share), ((low + 1).clamp(max=size - 1), share)))
    for row, row_weight in sides[0]:
        for column, column_weight in sides[1]:
            yield row, column, row_weight * column_weight * inside
