"""Whether the metrics that a run is steered by are among those that its validation gives."""
from collections.abc import Callable, Iterable

from mmengine.evaluator import BaseMetric

from coma_mm.errors import UserError, choice, nearest

from .parts import Parts


def check_metric_names(parts: Parts) -> None:
    """Compare what `save_best`, early stopping and schedules ask for with what the evaluator of validation and hooks give.

    Args:
        parts (Parts): Of the run.

    Raises:
        UserError: If there will be no metric of the name; with the one that is spelt most like it.
    """
    splits = [split for split in parts.splits if split.name == 'val']
    metrics = [(split, metric) for split in splits for metric in split.metrics]
    if not metrics:
        return
    names, split = [], splits[0]
    for one, metric in metrics:
        found = names_of(metric, one.classes or ())
        if found is None:
            return
        names += [f'{one.prefix}{name}' for name in found]
    if not names and not any(getattr(metric, 'format_only', False) for _, metric in metrics):
        raise UserError(f'{split.evaluator} measures nothing: its list of metrics is empty; name one, or leave out '
                        'validation (--no-validate)')
    for hook in parts.hooks:
        names += hook.metric_names(parts.model) if hasattr(hook, 'metric_names') else ()
    for where, name in parts.monitors():
        if name != 'auto' and name not in names:
            close = nearest(name, names)
            shown = [one for one in names if not one.endswith('_precision') or len(names) < 10]
            raise UserError(f'{where}={name!r} is no metric of {split.evaluator}, which gives {", ".join(shown) or "none"}' +
                            (f'; did you mean {close!r}?' if close else '; set one of these'))


def names_of(metric: BaseMetric, classes: Iterable[str]) -> list[str] | None:
    """The names of what a metric gives, or None if it is not one of `NAMES`.

    Args:
        metric (BaseMetric): Of an evaluator.
        classes (Iterable[str]): The names of the data's classes.
    """
    kind = type(metric)
    library = kind.__module__.partition('.')[0]
    if (library, kind.__name__) not in NAMES:
        return None
    names = NAMES[library, kind.__name__](metric, classes)
    return [f'{metric.prefix}/{name}' for name in names] if metric.prefix else list(names)


def _thresholds(metric: BaseMetric) -> list[str]:
    """What mmpretrain adds to names where there are several thresholds."""
    return ['_no-thr' if thr is None else f'_thr-{thr:.2f}' for thr in metric.thrs] if len(metric.thrs) > 1 else ['']


def _average(metric: BaseMetric) -> str:
    return '_classwise' if metric.average is None else '' if metric.average == 'macro' else f'_{metric.average}'


def _accuracy(metric: BaseMetric, classes: Iterable[str]) -> list[str]:
    return [f'top{k}{thr}' for k in metric.topk for thr in _thresholds(metric)]


def _single_label(metric: BaseMetric, classes: Iterable[str]) -> list[str]:
    return [f'{item}{thr}{_average(metric)}' for item in metric.items for thr in _thresholds(metric)]


def _multi_label(metric: BaseMetric, classes: Iterable[str]) -> list[str]:
    suffix = f'_top{metric.topk}' if not metric.thr else '' if metric.thr == 0.5 else f'_thr-{metric.thr:.2f}'
    return [f'{item}{suffix}{_average(metric)}' for item in metric.items]


def _average_precision(metric: BaseMetric, classes: Iterable[str]) -> list[str]:
    return ['AP_classwise' if metric.average is None else 'mAP']


def _iou(metric: BaseMetric, classes: Iterable[str]) -> list[str]:
    kinds = dict(mIoU=('mIoU', 'mAcc'), mDice=('mDice', 'mAcc'), mFscore=('mFscore', 'mPrecision', 'mRecall'))
    asked = [metric.metrics] if isinstance(metric.metrics, str) else metric.metrics
    for one in asked:
        choice('IoUMetric: iou_metrics', one, kinds)
    return [] if metric.format_only else ['aAcc', *dict.fromkeys(name for one in asked for name in kinds[one])]


def _coco(metric: BaseMetric, classes: Iterable[str]) -> list[str]:
    names = []
    for kind in () if metric.format_only else metric.metrics:
        if kind == 'proposal_fast':
            names += [f'AR@{number}' for number in metric.proposal_nums]
        elif kind == 'proposal':
            names += metric.metric_items or [
                'AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000']
        else:
            items = metric.metric_items or ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']
            names += [f'{kind}_{item}' for item in items]
            names += [f'{name}_precision' for name in classes if metric.classwise]
    return names


NAMES: dict[tuple[str, str], Callable[[BaseMetric, Iterable[str]], list[str]]] = {
    ('mmpretrain', 'Accuracy'): _accuracy,
    ('mmpretrain', 'SingleLabelMetric'): _single_label,
    ('mmpretrain', 'MultiLabelMetric'): _multi_label,
    ('mmpretrain', 'AveragePrecision'): _average_precision,
    ('mmpretrain', 'ConfusionMatrix'): lambda metric, classes: ['result'],
    ('mmseg', 'IoUMetric'): _iou,
    ('mmdet', 'CocoMetric'): _coco,
    ('mmengine', 'DumpResults'): lambda metric, classes: [],
    ('coma_mm', 'ReconstructionError'): lambda metric, classes: ['masked', 'complement', 'assembled'],
}
"""By library and class of a metric: the function that says what it gives, without the prefix."""
