"""Whether all parts of a run for semantic segmentation read the values of a map alike."""
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from coma_mm.datasets.annotations import pipeline_steps
from coma_mm.errors import UserError, choice

from .class_numbers import heads
from .parts import Parts, Split, warn

NO_CLASS = 255
"""What mmseg's loader writes where `reduce_zero_label` or a list of some of the classes leave a pixel without one."""


def check_maps(parts: Parts) -> None:
    """Compare `reduce_zero_label` of the data sets, and `ignore_index` of heads, losses, loaders and metrics.

    Args:
        parts (Parts): Of the run.

    Raises:
        UserError: If a pixel would be another class in one place than in another, or be counted that is to be ignored.
    """
    datasets = [(split, one) for split in parts.splits for one in split.datasets if hasattr(one, 'reduce_zero_label')]
    if not datasets:
        return
    _check_inference(getattr(parts.model, 'test_cfg', None))
    _check_zero(datasets)
    ignored = list(_ignored(parts.model))
    if not ignored:
        return
    (first, value), *others = ignored
    for place, other in others:
        if other != value:
            raise _other_pixels(first, value, place, other)
    for split, one in datasets:
        left_out = NO_CLASS in (getattr(one, 'label_map', None) or {}).values() and 'metainfo.classes leaves some out'
        if value != NO_CLASS and (reason := one.reduce_zero_label and 'reduce_zero_label=True' or left_out):
            raise UserError(f'the loader of {split.loader} gives pixels without a class the label {NO_CLASS} ({reason}), '
                            f'and {first}={value} does not ignore it; set {first}={NO_CLASS}')
    _check_losses(parts.model, first, value)
    number = len(parts.splits[0].classes or ())
    _check_padding(parts, first, value, number)
    for split in parts.evaluated:
        for metric in split.metrics_of('IoUMetric'):
            _check_metric(split, metric.ignore_index, first, value, number)


def _check_inference(test_cfg: Any) -> None:
    """How whole images are segmented, which mmsegmentation looks up in the first validation."""
    if not isinstance(test_cfg, dict) or 'mode' not in test_cfg:
        return
    mode = choice('model.test_cfg.mode', test_cfg['mode'], ('whole', 'slide'))
    lacking = [key for key in ('crop_size', 'stride') if mode == 'slide' and not test_cfg.get(key)]
    if lacking:
        raise UserError(f"model.test_cfg.mode='slide' needs {' and '.join(lacking)}, in px, e.g. "
                        'model.test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341))')


def _check_zero(datasets: list[tuple[Split, Dataset]]) -> None:
    (first, expected), *_ = datasets
    for split, one in datasets:
        if one.reduce_zero_label != expected.reduce_zero_label:
            raise UserError(f'reduce_zero_label={expected.reduce_zero_label} in {first.loader} and '
                            f'{one.reduce_zero_label} in {split.loader}: the '
                            'labels of all classes would differ by one; set the same for both')
        for step in pipeline_steps(one):
            own = getattr(step, 'reduce_zero_label', None)
            if own is not None and own != one.reduce_zero_label:
                raise UserError(f'{split.loader}: {type(step).__name__} has reduce_zero_label={own} and its data set '
                                f'{one.reduce_zero_label}; leave it out of the pipeline')


def _ignored(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Where the heads of a model say which label is ignored, and the label."""
    for name, head in heads(model):
        if type(getattr(head, 'ignore_index', None)) is int:
            yield f'model.{name}.ignore_index', head.ignore_index


def _check_losses(model: nn.Module, first: str, ignored: int) -> None:
    """Compare what losses ignore with the heads, which ignore the same.

    A loss may leave a class out, background say, that the others learn.
    """
    for name, head in heads(model):
        modules = getattr(head, 'loss_decode', None)
        several = isinstance(modules, nn.ModuleList)
        for number, loss in enumerate(modules if several else [modules]):
            value = getattr(loss, 'ignore_index', None)
            if type(value) is not int or value == ignored or 0 <= value < head.num_classes:
                continue
            place = f'model.{name}.loss_decode{f".{number}" if several else ""}.ignore_index'
            if not 0 <= ignored < head.num_classes:
                raise _other_pixels(first, ignored, place, value)
            warn(f'{first}={ignored} and {place}={value}: this loss learns the class {ignored}, which the head leaves out')


def _other_pixels(first: str, value: int, place: str, other: int) -> UserError:
    return UserError(f'{first}={value} and {place}={other}: the same pixels have to be ignored by all of them; set '
                     f'{place}={value}')


def _check_padding(parts: Parts, place: str, ignored: int, number: int) -> None:
    padding = getattr(getattr(parts.model, 'data_preprocessor', None), 'seg_pad_val', ignored)
    if parts.train and padding != ignored and not 0 <= padding < number:
        warn(f'{parts.where}.seg_pad_val={padding} is no class and is not ignored ({place}={ignored}): the run fails at the '
             f'first image that is padded; set {parts.where}.seg_pad_val={ignored}')


def _check_metric(split: Split, value: int, place: str, ignored: int, number: int) -> None:
    if value == ignored:
        return
    line = f'{split.evaluator}.ignore_index={value} and {place}={ignored}'
    if 0 <= value < number:
        warn(f'{line}: the metric leaves out the class {value}, and counts the predictions on pixels of {ignored} as wrong')
    else:
        raise UserError(f'{line}: the metric would count pixels that the model was not trained on; set '
                        f'{split.evaluator}.ignore_index={ignored}')
