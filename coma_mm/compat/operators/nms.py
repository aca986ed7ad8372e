"""Non-maximum suppression: greedy, soft (https://arxiv.org/abs/1704.04503), and with what each box suppressed."""
import numpy as np
import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

from .precision import widen

_NAIVE, _LINEAR, _GAUSSIAN = range(3)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes (Tensor): (N, 4), x1, y1, x2, y2 in pixels.
        scores (Tensor): (N, ).
        iou_threshold (float): a box that overlaps a kept one by more than this is dropped.
        offset (int): 0 or 1; a box is x2 - x1 + offset wide.

    Returns:
        Tensor: (K, ), int64, indices of the boxes kept, by descending score.
    """
    boxes, scores = widen(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(boxes, scores, iou_threshold)


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float, sigma: float, min_score: float,
            method: int, offset: int) -> Tensor:
    """Lowers the scores of boxes that overlap a better one, and drops those whose score is low.

    Of equal scores the one that lies first wins. As in mmcv, a box that is dropped leaves its place to the last one,
    which decides the order of equal scores from then on.

    Args:
        boxes (Tensor): (N, 4), x1, y1, x2, y2 in pixels, on a CPU.
        scores (Tensor): (N, ), on a CPU.
        dets (Tensor): (N, 5), written to: the first K rows are the boxes kept and their new scores, in descending order.
        iou_threshold (float): boxes that overlap by at least this are in each other's way, unless `method` is 2.
        sigma (float): how far `method` 2 reaches.
        min_score (float): a box with less is dropped.
        method (int): 0 drops a box in the way, 1 multiplies its score by 1 - IoU, 2 by exp(-IoU² / sigma).
        offset (int): 0 or 1; a box is x2 - x1 + offset wide.

    Returns:
        Tensor: (K, ), int64, indices of the boxes kept.
    """
    table = np.concatenate([values.numpy(force=True) for values in widen(boxes, scores[:, None])], 1)
    index = np.arange(len(table))
    done = 0
    while done < len(table):
        best = done + table[done:, 4].argmax()
        table[[done, best]], index[[done, best]] = table[[best, done]], index[[best, done]]
        rest = table[done + 1:]
        iou = _iou(table[done], rest, offset)
        if method == _GAUSSIAN:
            rest[:, 4] *= np.exp(-iou * iou / iou.dtype.type(sigma))
        else:
            rest[:, 4] *= np.where(iou >= iou.dtype.type(iou_threshold), 0 if method == _NAIVE else 1 - iou, 1)
        done += 1
        order = done + _without_gaps(~(rest[:, 4] < table.dtype.type(min_score)))
        table, index = (np.concatenate([values[:done], values[order]]) for values in (table, index))
    dets[:len(table)] = torch.from_numpy(table).to(dets.dtype)
    return torch.from_numpy(index)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy non-maximum suppression that tells which boxes each one suppressed.

    Args:
        dets (Tensor): (N, 5), x1, y1, x2, y2 in pixels and the score, on a CPU.
        iou_threshold (float): a box that overlaps a kept one by at least this belongs to it.

    Returns:
        list[list[int]]: For each box kept, by descending score, its index and those of the boxes that belong to it.
    """
    table = widen(dets)[0].numpy(force=True)
    left = np.argsort(-table[:, 4], kind='stable')
    groups = []
    while len(left):
        best, others = left[0], left[1:]
        belong = _iou(table[best], table[others], 0) >= table.dtype.type(iou_threshold)
        groups.append([int(best), *others[belong].tolist()])
        left = others[~belong]
    return groups


def _iou(box: np.ndarray, boxes: np.ndarray, offset: int) -> np.ndarray:
    """(N, ): Intersection over union of one box and others, NaN where all of them have no area."""
    sides = (np.minimum(box[2:4], boxes[:, 2:4]) - np.maximum(box[:2], boxes[:, :2]) + offset).clip(0)
    shared = sides[:, 0] * sides[:, 1]
    area, areas = ((one[..., 2] - one[..., 0] + offset) * (one[..., 3] - one[..., 1] + offset) for one in (box, boxes))
    with np.errstate(divide='ignore', invalid='ignore'):
        return shared / (area + areas - shared)


def _without_gaps(kept: np.ndarray) -> np.ndarray:
    """Indices of what is kept when the last one moves into each gap, from the first gap on."""
    count = kept.sum()
    order = np.arange(count)
    order[~kept[:count]] = count + np.flatnonzero(kept[count:])[::-1]
    return order
