"""Whether every head of a model has as many classes as the data."""
from collections.abc import Iterator
from operator import attrgetter

from mmpretrain.models import BaseSelfSupervisor
from torch import nn

from coma_mm.errors import UserError, first_names

from .parts import Parts, Split, warn

HEADS = ('head', 'decode_head', 'auxiliary_head', 'bbox_head', 'mask_head', 'roi_head.bbox_head', 'roi_head.mask_head',
         'roi_head.mask_iou_head', 'roi_head.point_head', 'data_preprocessor')
"""Parts of models whose `num_classes` is the data's."""
KINDS = dict(head=('ClsHead', 'MultiLabelClsHead'))
"""Of some parts only those of a class count, or derived from it: a regression calls its outputs classes, too."""
OF_BOXES = ('bbox_head', 'mask_head', 'roi_head')
"""A detector's, whose predictions of a class that there is not end its evaluation; elsewhere such outputs are idle."""
OF_OTHER_CLASSES = ('STDCHead', 'GroundingDINOHead', 'ATSSVLFusionHead', 'YOLOWorldHead')
"""Heads of edges, and of words."""


def check_class_numbers(parts: Parts) -> None:
    """Compare the heads, and the metrics that have a number of classes, with the names of the data's classes.

    Args:
        parts (Parts): Of the run.

    Raises:
        UserError: With all that have another number, and what to set. A classifier's or a segmenter's head may have more
            classes than the data; that is a warning.
    """
    split = parts.splits[0] if parts.splits else None
    if split is None or split.classes is None or isinstance(parts.model, BaseSelfSupervisor):
        return
    number = len(split.classes)
    if any(getattr(one, 'return_classes', False) for one in split.datasets):  # of a detector that reads the names
        return
    wrong, fits = [], True
    classifier = getattr(getattr(parts.model, 'head', None), 'num_classes', None)
    for part, module in heads(parts.model):
        preprocessor = part == 'data_preprocessor'
        if preprocessor and not getattr(module, 'to_onehot', True):  # it does not use the number
            continue
        if not _fits(module, split, number):
            place = parts.where if preprocessor else f'model.{part}'
            wrong.append((f'{place}.num_classes', module.num_classes))
            fits &= module.num_classes > number and not part.startswith(OF_BOXES) and (
                not preprocessor or module.num_classes == classifier)
    for one in parts.evaluated:
        for metric in one.metrics_of('SingleLabelMetric'):
            if one.classes and metric.num_classes not in (None, len(one.classes)):
                wrong.append((f'{one.evaluator}.num_classes', metric.num_classes))
                fits = False
    if wrong:
        line = (f'{" and ".join(f"{place}={value}" for place, value in wrong)}, but the data have {number} classes '
                f'(metainfo.classes of {split.loader}: {first_names(split.classes)}); set '
                f'{" ".join(f"{place}={number}" for place, _ in wrong)}')
        if not fits:
            raise UserError(line)
        warn(f'{line}, or leave the further outputs idle')


def heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of all heads with a number of classes, of each of a list of them."""
    for part in HEADS:
        try:
            module = attrgetter(part)(model)
        except AttributeError:
            continue
        several = isinstance(module, (nn.ModuleList, list, tuple))
        for name, one in ((f'{part}.{number}', one) for number, one in enumerate(module)) if several else [(part, module)]:
            bases = [base.__name__ for base in type(one).__mro__]
            known = part not in KINDS or any(kind in bases for kind in KINDS[part])
            known &= not any(base in OF_OTHER_CLASSES for base in bases)
            if known and type(getattr(one, 'num_classes', None)) is int:
                yield name, one


def _fits(module: nn.Module, split: Split, number: int) -> bool:
    """Whether a head is right for data of a number of classes."""
    if module.num_classes == number or getattr(module, 'class_agnostic', False):
        return True
    if getattr(module, 'out_channels', None) == 1:  # mmseg's heads of two classes
        return number <= 2
    if module.num_classes < number and not hasattr(module, 'ignore_index'):
        # The names may be the library's own, and the data a part of them, e.g. the first 100 classes of ImageNet.
        highest = [_highest(one) for one in split.datasets]
        return None not in highest and max(highest) < module.num_classes
    return False


def _highest(dataset: object) -> int | None:
    """The highest label of a data set for classification."""
    try:
        return int(max(dataset.get_gt_labels()))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
