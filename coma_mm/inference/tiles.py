"""Images that are too large for a model at once, by overlapping tiles."""
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.utils.large_image import merge_results_by_nms
from mmengine.structures import InstanceData

from coma_mm.errors import UserError

from .load import Usable
from .results import CutMask, listed, map_of_logits

Box = tuple[int, int, int, int]


def slice_boxes(height: int, width: int, tile: int, overlap: int) -> list[Box]:
    """Where the tiles of an image are, by sahi: the last ones of a row and column begin earlier, so that all are whole.

    Args:
        height (int): Of the image, in px.
        width (int): Of the image, in px.
        tile (int): Sides of a tile, in px.
        overlap (int): Of neighbours, in px, less than `tile`.

    Returns:
        list[tuple]: Left, top, right and bottom, row by row.

    Raises:
        UserError: If sahi is not installed.
    """
    try:
        from sahi.slicing import get_slice_bboxes
    except ImportError as error:
        raise UserError("--tile needs the package sahi, which is not installed: pip install 'coma-mm[predict]', or pip "
                        'install sahi') from error
    ratio = (overlap + .5) / tile if overlap else 0.  # sahi rounds the product down
    found = get_slice_bboxes(height, width, tile, tile, False, ratio, ratio)
    return list(dict.fromkeys(map(tuple, found)))


def segment_tiles(usable: Usable, image: np.ndarray, tile: int, overlap: int, batch_size: int = 1,
                  threshold: float = 0.) -> np.ndarray:
    """Segment an image by tiles, whose logits are blended where they overlap.

    Logits are kept of what is overlapped alone, until the last tile over it is done: they would take gigabytes of the whole.

    Args:
        usable (Usable): A segmentor.
        image (ndarray): uint8 (H, W, 3), BGR.
        tile (int): Sides of a tile, in px. Each goes through the pipeline like an image of its own.
        overlap (int): Of neighbours, in px.
        batch_size (int): The most tiles at a time. Defaults to 1.
        threshold (float): See `class_map`. Defaults to 0.

    Returns:
        ndarray: As of `class_map`.
    """
    boxes = slice_boxes(*image.shape[:2], tile, overlap)
    parts = _parts(boxes, overlap)
    blend = _Blend(parts, image.shape[:2], threshold)
    for box, part, result in zip(boxes, parts, _results(usable, image, boxes, batch_size), strict=True):
        rows, columns = slice(part[1] - box[1], part[3] - box[1]), slice(part[0] - box[0], part[2] - box[0])
        blend.add(part, result.seg_logits.data[:, rows, columns])
    return blend.labels


def _parts(boxes: Sequence[Box], overlap: int) -> list[Box]:
    """The middles of tiles, so that none overlaps the next by more than `overlap`, as the last ones do."""
    kept = []
    for axis in (0, 1):
        spans = sorted({(one[axis], one[axis + 2]) for one in boxes})
        inner = [list(span) for span in spans]
        for number in range(1, len(spans)):
            surplus = max(0, spans[number - 1][1] - spans[number][0] - overlap)
            inner[number - 1][1] -= surplus // 2
            inner[number][0] += surplus - surplus // 2
        kept.append(dict(zip(spans, inner, strict=True)))
    return [(x[0], y[0], x[1], y[1]) for x, y in ((kept[0][one[0], one[2]], kept[1][one[1], one[3]]) for one in boxes)]


class _Blend:
    """Collects logits cell by cell; the edges of all tiles part the image into cells that each tile covers whole or not.

    A tile counts less towards its edges inside the image, in a linear ramp over what the next tile overlaps.
    """

    def __init__(self, boxes: Sequence[Box], shape: tuple[int, int], threshold: float):
        self.shape, self.threshold, self.labels = shape, threshold, None
        self.edges = [sorted({one[axis] for one in boxes} | {one[axis + 2] for one in boxes}) for axis in (1, 0)]
        self.spans = [sorted({(one[axis], one[axis + 2]) for one in boxes}) for axis in (1, 0)]
        self.waiting = {}  # by cell: how many tiles are still to come, of those that cover it
        for box in boxes:
            for cell in self._cells(box):
                self.waiting[cell] = self.waiting.get(cell, 0) + 1
        self.covered = dict(self.waiting)
        self.sums = {}

    def _cells(self, box: Box) -> Iterator[tuple[slice, slice]]:
        parts = []
        for edges, start, end in zip(self.edges, (box[1], box[0]), (box[3], box[2]), strict=True):
            inner = [edge for edge in edges if start <= edge <= end]
            parts.append([(low, high) for low, high in zip(inner, inner[1:], strict=False)])
        return product(*parts)

    def _ramp(self, axis: int, start: int, end: int) -> torch.Tensor:
        """How much each pixel of a tile counts along an axis."""
        spans = self.spans[axis]
        number = spans.index((start, end))
        weight = torch.ones(end - start)
        if number:
            length = spans[number - 1][1] - start
            weight[:length] = (torch.arange(length) + .5) / length
        if number + 1 < len(spans):
            length = end - spans[number + 1][0]
            weight[len(weight) - length:] *= 1 - (torch.arange(length) + .5) / length
        return weight

    def add(self, box: Box, logits: torch.Tensor) -> None:
        """Add the logits (C, h, w) of a tile."""
        weight = self._ramp(0, box[1], box[3])[:, None] * self._ramp(1, box[0], box[2])
        for cell in self._cells(box):
            (top, bottom), (left, right) = cell
            inside = np.s_[..., top - box[1]:bottom - box[1], left - box[0]:right - box[0]]
            part = logits[inside]
            if self.covered[cell] > 1:
                own = weight[inside]
                sums, weights = self.sums.get(cell, (0, 0))
                self.sums[cell] = sums + part.float() * own, weights + own
            self.waiting[cell] -= 1
            if not self.waiting[cell]:
                if cell in self.sums:
                    sums, weights = self.sums.pop(cell)
                    part = sums / weights
                self._finish(np.s_[top:bottom, left:right], part)

    def _finish(self, where: tuple[slice, slice], logits: torch.Tensor) -> None:
        if len(logits) == 1:  # mmsegmentation has made probabilities of what is one class or not
            logits = torch.cat([1 - logits, logits]).log()
        found = map_of_logits(logits, self.threshold)
        if self.labels is None:
            self.labels = np.empty(self.shape, found.dtype)
        self.labels[where] = found


def detect_tiles(usable: Usable, image: np.ndarray, tile: int, overlap: int, batch_size: int = 1, threshold: float = 0.,
                 top_k: int | None = None) -> list[dict[str, Any]]:
    """Find objects in an image by tiles.

    Of an object that several tiles see, the one counts in whose own part its centre is, where the parts meet in the middle
    of the overlap; then mmdetection merges what is left by non-maximum suppression. So objects up to the size of the
    overlap are found once and whole, and larger ones may be cut.

    Args:
        usable (Usable): A detector.
        image (ndarray): uint8 (H, W, 3), BGR.
        tile (int): Sides of a tile, in px. Each goes through the pipeline like an image of its own.
        overlap (int): Of neighbours, in px.
        batch_size (int): The most tiles at a time. Defaults to 1.
        threshold (float): Objects with lower scores are left out. Defaults to 0.
        top_k (int, optional): At most so many objects. Defaults to all.

    Returns:
        list[dict]: See `objects`.
    """
    shape = image.shape[:2]
    boxes = slice_boxes(*shape, tile, overlap)
    middles = [_middles(boxes, axis) for axis in (0, 1)]
    merged, masks = [], []
    for box, result in zip(boxes, _results(usable, image, boxes, batch_size), strict=True):
        found = result.pred_instances
        found = found[found.scores >= threshold]
        own = torch.ones(len(found), dtype=torch.bool)
        for axis in (0, 1):
            centres = (found.bboxes[:, axis] + found.bboxes[:, axis + 2]) / 2 + box[axis]
            own &= torch.tensor([bisect_right(middles[axis][1], float(one)) for one in centres], dtype=torch.long) == \
                middles[axis][0].index(box[axis])
        found = found[own]
        kept = InstanceData(bboxes=found.bboxes.float(), scores=found.scores.float(), labels=found.labels,
                            mask=torch.arange(len(masks), len(masks) + len(found)))
        if 'masks' in found:
            masks += [CutMask.of(np.asarray(one), box[1], box[0]) for one in found.masks]
        merged.append(DetDataSample(pred_instances=kept))
    if not any(len(one.pred_instances) for one in merged):  # mmcv's suppression fails of none
        return []
    found = merge_results_by_nms(merged, [box[:2] for box in boxes], shape, _nms(usable.model)).pred_instances
    found = found[found.scores.argsort(descending=True, stable=True)[:top_k]]
    return listed(found, [masks[number] for number in found.mask.tolist()] if masks else None, shape)


def _results(usable: Usable, image: np.ndarray, boxes: Sequence[Box], batch_size: int) -> Iterator[Any]:
    crops = (np.ascontiguousarray(image[top:bottom, left:right]) for left, top, right, bottom in boxes)
    return usable.predict(crops, batch_size)


def _middles(boxes: Sequence[Box], axis: int) -> tuple[list[int], list[float]]:
    """Where tiles begin along an axis, and the middles of their overlaps."""
    spans = sorted({(one[axis], one[axis + 2]) for one in boxes})
    return ([start for start, _ in spans],
            [(end + start) / 2 for (_, end), (start, _) in zip(spans, spans[1:], strict=False)])


def _nms(model: torch.nn.Module) -> dict[str, Any]:
    """The non-maximum suppression of the model's own results, or else the usual one."""
    cfg = getattr(model, 'test_cfg', None) or {}
    cfg = cfg.get('rcnn') or cfg
    return dict(cfg.get('nms') or dict(type='nms', iou_threshold=.5))
