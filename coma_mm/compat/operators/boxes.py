"""Overlaps of boxes."""
import torch
from torch import Tensor

from .precision import widen

_IOU = 0


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Writes how much of two sets of boxes overlap.

    Args:
        bboxes1 (Tensor): (N, 4), x1, y1, x2, y2 in pixels.
        bboxes2 (Tensor): (M, 4), or (N, 4) if `aligned`.
        ious (Tensor): (N, M), or (N, ) if `aligned`, written to.
        mode (int): 0 to divide by the union, 1 by the area of the first box.
        aligned (bool): whether each box meets the one of the same index alone.
        offset (int): 0 or 1; a box is x2 - x1 + offset wide.
    """
    first, second = widen(bboxes1, bboxes2)
    area, other = ((one[:, 2:] - one[:, :2] + offset).prod(1) for one in (first, second))
    if not aligned:
        first, area = first[:, None], area[:, None]
    sides = torch.minimum(first[..., 2:], second[:, 2:]) - torch.maximum(first[..., :2], second[:, :2]) + offset
    shared = sides.clamp(min=0).prod(-1)
    whole = area + other - shared if mode == _IOU else area.expand_as(shared)
    ious.copy_(shared / whole.clamp(min=offset))
