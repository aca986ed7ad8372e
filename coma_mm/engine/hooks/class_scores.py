"""The last validation by class, which the metrics themselves only print, or do not say at all."""
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from pycocotools.cocoeval import COCOeval

from coma_mm.errors import printable
from coma_mm.files import write_whole
from coma_mm.runs.reading import CLASSES

MOST_CONFUSED = 60
"""Classes up to which the confusion is noted; of more, nobody could see it."""


@HOOKS.register_module()
class ClassScoresHook(Hook):
    """Notes how a validation went by class, beside the run's scalars, for `coma-mm report`.

    It looks on while mmpretrain's `Accuracy`, mmsegmentation's `IoUMetric` and mmdetection's `CocoMetric` compute what they
    compute anyway; their metrics, their log, and the training stay as they are. The file `classes.json` has the last
    validation alone: 'step', by epochs or iterations, 'classes', 'values' by the name of the metric, and, of a classifier of
    up to `MOST_CONFUSED` classes, 'confusion': how many images of each class (rows) were taken for each.
    """

    def __init__(self):
        self.found, self.failed = {}, False

    def before_val_epoch(self, runner: Runner) -> None:
        """Look on from here."""
        self.found = {}
        for metric in _metrics(runner):
            if read := next((READERS[kind.__name__] for kind in type(metric).__mro__ if kind.__name__ in READERS), None):
                metric.compute_metrics = partial(self._compute, runner, metric, read)

    def _compute(self, runner: Runner, metric: BaseMetric, read: Callable, results: list) -> dict[str, Any]:
        with read(metric, results) as noted:
            metrics = type(metric).compute_metrics(metric, results)
        try:
            found = noted()
            if found and self.found.get('classes', found['classes']) == found['classes']:
                found['values'] = self.found.get('values', {}) | found['values']
                self.found |= found
        except Exception as error:  # what is noted beside the results is no reason to lose them
            if not self.failed:
                why = printable(f'{type(error).__name__}: {error}')
                runner.logger.warning(f'cannot note the validation by class ({why}); the run goes on without')
            self.failed = True
        return metrics

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Write what was seen."""
        for metric in _metrics(runner):
            vars(metric).pop('compute_metrics', None)
        if not self.found or self.failed or not is_main_process():
            return
        done = runner.iter if isinstance(runner.train_loop, IterBasedTrainLoop) else runner.epoch
        values = {name: [round(float(one), 6) if math.isfinite(one) else None for one in found]
                  for name, found in self.found['values'].items()}
        write_whole(Path(runner.log_dir, CLASSES), json.dumps(dict(step=done, **self.found) | dict(values=values)))


def _metrics(runner: Runner) -> Sequence[BaseMetric]:
    return getattr(getattr(runner.val_loop, 'evaluator', None), 'metrics', ())


@contextmanager
def _accuracy(metric: BaseMetric, results: list) -> Iterator[Callable]:
    """The share of each class's images that are taken for it, and for which others."""

    def noted() -> dict[str, Any] | None:
        truth = torch.cat([one['gt_label'].reshape(-1) for one in results])
        taken = [one['pred_score'].argmax().reshape(1) if 'pred_score' in one else one['pred_label'].reshape(-1)
                 for one in results]
        taken = torch.cat(taken)
        names = (metric.dataset_meta or {}).get('classes')
        number = len(names) if names else int(max(truth.max(), taken.max())) + 1
        if len(truth) != len(taken) or max(truth.max(), taken.max()) >= number or truth.min() < 0:
            return None  # of several labels to an image, say
        confusion = np.bincount((truth * number + taken).numpy(), minlength=number**2).reshape(number, number)
        with np.errstate(invalid='ignore'):
            recall = 100 * confusion.diagonal() / confusion.sum(1)
        return dict(classes=_texts(names or range(number)), values={'top-1': recall},
                    **(dict(confusion=confusion.tolist()) if number <= MOST_CONFUSED else {}))

    yield noted


@contextmanager
def _iou(metric: BaseMetric, results: list) -> Iterator[Callable]:
    """IoU, and the share of each class's pixels that are found."""

    def noted() -> dict[str, Any] | None:
        if metric.format_only or not results:
            return None
        common, union, _, truth = (sum(areas).double().numpy() for areas in zip(*results, strict=True))
        with np.errstate(invalid='ignore', divide='ignore'):
            return dict(classes=_texts(metric.dataset_meta['classes']),
                        values={'IoU': 100 * common / union, 'recall': 100 * common / truth})

    yield noted


@contextmanager
def _coco(metric: BaseMetric, results: list) -> Iterator[Callable]:
    """COCO's AP of boxes and masks, of objects of any size."""
    seen, accumulate = [], COCOeval.accumulate

    def look_on(self: COCOeval, *args: Any) -> None:
        accumulate(self, *args)
        seen.append(self)

    def noted() -> dict[str, Any] | None:
        classes, values = None, {}
        for one in seen:
            names = dict(bbox='box AP', segm='mask AP')
            if not one.params.useCats or one.params.iouType not in names:
                continue
            ids = getattr(one, '_asked', one.params.catIds)  # in the order of the results
            classes = _texts(category['name'] for category in one.cocoGt.loadCats(list(ids)))
            precisions = one.eval['precision'][:, :, :, 0, -1]  # of all sizes, of up to 100 objects to an image
            counts = [precisions[:, :, number][precisions[:, :, number] > -1] for number in range(precisions.shape[2])]
            values[names[one.params.iouType]] = [100 * found.mean() if found.size else math.nan for found in counts]
        return dict(classes=classes, values=values) if values else None

    with mock.patch.object(COCOeval, 'accumulate', look_on):
        yield noted


def _texts(names: Any) -> list[str]:
    return [str(name) for name in names]


READERS = dict(Accuracy=_accuracy, IoUMetric=_iou, CocoMetric=_coco)
"""By the name of a metric's class: a context in which it computes, which gives what then says what was found."""
