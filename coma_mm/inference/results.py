"""What a model found in an image, as JSON and as a map of classes."""
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData
from pycocotools import mask as coco_mask

from coma_mm.errors import UserError

UNSURE = 255
"""In a map of 255 classes at most: pixels below the threshold."""


def class_name(classes: Sequence[str] | None, label: int) -> str:
    """The name of a class, or its number where it has none."""
    return classes[label] if classes is not None and label < len(classes) else str(label)


def scores(result: BaseDataElement, classes: Sequence[str] | None, threshold: float, top_k: int | None) -> dict[str, Any]:
    """What a classifier found.

    Args:
        result (BaseDataElement): mmpretrain's `DataSample`.
        classes (Sequence[str] | None): Their names.
        threshold (float): Classes with lower scores are left out, but for the first.
        top_k (int | None): At most so many classes; None for 5.

    Returns:
        dict: 'scores' by class, the highest first.

    Raises:
        UserError: If it found no scores.
    """
    if 'pred_score' not in result:
        raise UserError(f'the model gives no scores of classes, but {", ".join(result.keys()) or "nothing"}; expected a '
                        'classifier')
    values = result.pred_score.float()
    best = values.argsort(descending=True)[:top_k or 5].tolist()
    kept = [label for number, label in enumerate(best) if not number or values[label] >= threshold]
    return dict(scores={class_name(classes, label): round(float(values[label]), 5) for label in kept})


def class_map(result: BaseDataElement, threshold: float = 0.) -> np.ndarray:
    """The classes of an image's pixels.

    Args:
        result (BaseDataElement): mmsegmentation's `SegDataSample`.
        threshold (float): Pixels whose class is less probable are of none. Defaults to 0.

    Returns:
        ndarray: (H, W), uint8, or uint16 if there are more than 255 classes; `UNSURE`, or 65535, for none.
    """
    labels = result.pred_sem_seg.data
    logits = result.seg_logits.data if 'seg_logits' in result else None
    labels = labels.reshape(labels.shape[-2:])
    return _map(labels, logits if threshold > 0 else None, threshold, len(logits) if logits is not None else 0)


def _map(labels: torch.Tensor, logits: torch.Tensor | None, threshold: float, classes: int) -> np.ndarray:
    kind = np.uint8 if classes <= UNSURE and int(labels.max()) < UNSURE else np.uint16
    found = labels.numpy().astype(kind)
    if logits is not None:
        found[(certainty(logits) < threshold).numpy()] = np.iinfo(kind).max
    return found


def map_of_logits(logits: torch.Tensor, threshold: float) -> np.ndarray:
    """The same as `class_map`, of logits (C, H, W), of which there are two at least."""
    labels = logits.argmax(0)
    return _map(labels, logits if threshold > 0 else None, threshold, len(logits))


def certainty(logits: torch.Tensor) -> torch.Tensor:
    """How probable the most probable class is, (C, H, W) -> (H, W)."""
    if len(logits) == 1:  # which mmsegmentation has made probabilities of
        return torch.maximum(logits[0], 1 - logits[0]).float()
    return logits.float().softmax(0).amax(0)


def shares(labels: np.ndarray, classes: Sequence[str] | None, top_k: int | None) -> dict[str, Any]:
    """How much of an image its classes take.

    Args:
        labels (ndarray): From `class_map`.
        classes (Sequence[str] | None): Their names.
        top_k (int | None): At most so many; None for all.

    Returns:
        dict: 'shares' by class, the largest first, and 'unsure', the share of pixels of none.
    """
    none = np.iinfo(labels.dtype).max
    counts = np.bincount(labels.ravel(), minlength=int(none) + 1) / labels.size
    unsure, counts = counts[none], counts[:none]
    order = [int(label) for label in np.argsort(-counts, kind='stable')[:top_k] if counts[label] > 0]
    return dict(shares={class_name(classes, label): round(float(counts[label]), 6) for label in order},
                unsure=round(float(unsure), 6))


def objects(found: InstanceData, threshold: float, top_k: int | None) -> list[dict[str, Any]]:
    """What a detector found, the most certain first.

    Args:
        found (InstanceData): mmdetection's `pred_instances`, in the scale of the image.
        threshold (float): Objects with lower scores are left out.
        top_k (int | None): At most so many; None for all.

    Returns:
        list[dict]: 'label', 'score', 'bbox' (x, y, width, height in px) and, if the model has masks, 'segmentation', COCO's
        compressed run lengths, and 'mask', a `CutMask`, which is for drawing and not for JSON.
    """
    found = found[found.scores >= threshold]
    found = found[found.scores.argsort(descending=True)[:top_k]]
    masks = [CutMask.of(np.asarray(one)) for one in found.masks] if 'masks' in found else None
    return listed(found, masks, found.masks.shape[-2:] if masks else ())


def listed(found: InstanceData, masks: Sequence['CutMask'] | None, shape: Sequence[int]) -> list[dict[str, Any]]:
    """Objects as `objects` gives them.

    Args:
        found (InstanceData): With 'bboxes', 'scores' and 'labels'.
        masks (Sequence[CutMask] | None): Of each, if there are any.
        shape (Sequence[int]): Height and width of the image, for the masks.

    Returns:
        list[dict]: In the order of `found`.
    """
    boxes = found.bboxes.tensor if hasattr(found.bboxes, 'tensor') else found.bboxes
    entries = []
    for label, score, (left, top, right, bottom) in zip(
            found.labels.tolist(), found.scores.float().tolist(), boxes.float().tolist(), strict=True):
        entries.append(dict(label=label, score=round(score, 5),
                            bbox=[round(value, 2) for value in (left, top, right - left, bottom - top)]))
    for entry, mask in zip(entries, masks or (), strict=bool(masks)):
        entry.update(segmentation=mask.runs(shape), mask=mask)
    return entries


class CutMask(NamedTuple):
    """The part of a mask in which something is set: whole masks of a large image are large.

    Args:
        top (int): Where it is in the image, in px.
        left (int): Likewise.
        part (ndarray): bool (h, w).
    """
    top: int
    left: int
    part: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, top: int = 0, left: int = 0) -> 'CutMask':
        """Cut a mask (H, W), whose corner is somewhere in the image."""
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        if not len(rows):
            return cls(top, left, np.zeros((0, 0), bool))
        part = mask[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        return cls(top + int(rows[0]), left + int(columns[0]), part.astype(bool))

    def runs(self, shape: Sequence[int]) -> dict[str, Any]:
        """COCO's compressed run lengths, column by column, of the mask of an image of some height and width."""
        height, width = map(int, shape)
        columns = np.pad(self.part.T, ((0, 0), (1, 1))).astype(np.int8)
        column, row = np.diff(columns, axis=1).nonzero()  # where runs begin, and end: in turns
        edges = (self.left + column) * height + self.top + row
        same = (edges[1:] == edges[:-1]).nonzero()[0]  # one ends at the bottom, and the next begins at the top
        edges = np.delete(edges, np.concatenate([same, same + 1]))
        end = [height * width] if edges[-1:].tolist() != [height * width] else []
        counts = np.diff(np.concatenate([[0], edges, end]))
        encoded = coco_mask.frPyObjects(dict(size=[height, width], counts=counts.tolist()), height, width)
        return dict(size=[height, width], counts=encoded['counts'].decode())


def predictions_json(task: str, records: Sequence[Mapping[str, Any]], classes: Sequence[str] | None) -> str:
    """The text of predictions.json.

    Args:
        task (str): 'classification', 'segmentation' or 'detection'.
        records (Sequence[Mapping]): Of all images.
        classes (Sequence[str] | None): Their names.

    Returns:
        str: A list, with one entry a line: COCO's results for detection, where images and categories count from 1 and are
        named too; one entry an image else.
    """
    if task != 'detection':
        field = dict(classification='scores', segmentation='shares')[task]
        keys = ('file_name', 'width', 'height', field, *(('unsure', 'map') if task == 'segmentation' else ()))
        return _lines({key: one[key] for key in keys} for one in records)
    return _lines(
        dict(image_id=one['id'], file_name=one['file_name'], category_id=found['label'] + 1,
             category=class_name(classes, found['label']),
             **{key: found[key] for key in ('bbox', 'score', 'segmentation') if key in found})
        for one in records for found in one['objects'])


def coco_json(records: Sequence[Mapping[str, Any]], classes: Sequence[str] | None) -> str:
    """The text of coco.json: images and categories as `COCO(…).loadRes('predictions.json')` wants them."""
    labels = range(len(classes)) if classes is not None else sorted(
        {found['label'] for one in records for found in one['objects']})
    return json.dumps(dict(
        info=dict(description='What predictions.json is about'),
        images=[dict(id=one['id'], **{key: one[key] for key in ('file_name', 'width', 'height')}) for one in records],
        categories=[dict(id=label + 1, name=class_name(classes, label)) for label in labels], annotations=[])) + '\n'


def _lines(entries: Any) -> str:
    return '[\n' + ',\n'.join(map(json.dumps, entries)) + '\n]\n'
