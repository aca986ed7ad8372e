"""What a run was built of."""
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import Dataset

from coma_mm.datasets.annotations import leaves
from coma_mm.engine.models import unwrap


@dataclass
class Split:
    """The data sets of a loop, and what evaluates it.

    Attributes:
        name (str): 'train', 'val' or 'test'.
        datasets (list[Dataset]): Without their wrappers.
        metrics (list[BaseMetric]): Of the evaluator.
        prefix (str): What the evaluator puts before the names of the metrics, with a slash.
    """
    name: str
    datasets: list[Dataset]
    metrics: list[BaseMetric] = field(default_factory=list)
    prefix: str = ''

    @property
    def loader(self) -> str:
        """Where the config has its data."""
        return f'{self.name}_dataloader'

    @property
    def evaluator(self) -> str:
        """Where the config has its metrics."""
        return f'{self.name}_evaluator'

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, if the data say them."""
        if not self.datasets:
            return None
        classes = (getattr(self.datasets[0], 'metainfo', None) or {}).get('classes')
        return tuple(classes) if isinstance(classes, (list, tuple)) else None

    def coco(self) -> list[Dataset]:
        """The data sets from COCO files."""
        return [one for one in self.datasets if hasattr(getattr(one, 'cat_ids', None), 'objects')]

    def metrics_of(self, *names: str) -> list[BaseMetric]:
        """The metrics of some classes; one that is derived from them may do anything else."""
        return [metric for metric in self.metrics if type(metric).__name__ in names]


@dataclass
class Parts:
    """What a run was built of.

    Attributes:
        model (nn.Module): Without its wrappers.
        splits (list[Split]): Of the loops that are about to run, training first; one for each data set that has metrics of
            its own.
        hooks (list[Hook]): All.
        schedules (list): Of the learning rate, ...
        where (str): Where the config has the data preprocessor.
        trained_on (tuple[str, ...] | None): The classes of the checkpoint to test, if it names them.
        model_cfg (dict): The model's config.
    """
    model: nn.Module
    splits: list[Split]
    hooks: list[Hook]
    schedules: list[Any]
    where: str
    trained_on: tuple[str, ...] | None = None
    model_cfg: dict[str, Any] = field(default_factory=dict)

    @property
    def train(self) -> Split | None:
        """The training data, if the run trains."""
        return next((split for split in self.splits if split.name == 'train'), None)

    @property
    def evaluated(self) -> list[Split]:
        """The splits that are not trained on."""
        return [split for split in self.splits if split.name != 'train']

    def monitors(self) -> Iterator[tuple[str, str]]:
        """Where a metric is asked for, and its name."""
        for hook in self.hooks:
            if isinstance(hook, CheckpointHook):
                yield from (('default_hooks.checkpoint.save_best', name) for name in hook.save_best or ())
            elif isinstance(hook, EarlyStoppingHook):
                yield 'EarlyStoppingHook.monitor', hook.monitor
        for schedule in self.schedules:
            if getattr(schedule, 'need_val_args', False):
                yield f'{type(schedule).__name__}.monitor', schedule.monitor


def parts_of(runner: Runner) -> Parts:
    """What a runner was built of.

    Args:
        runner (Runner): With the loops that are about to run, built.

    Returns:
        Parts: References, no copies.
    """
    splits = []
    for name in ('train', 'val', 'test'):
        loop = getattr(runner, f'_{name}_loop')
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        if isinstance(loop, BaseLoop) and dataset is not None:
            splits += splits_of(name, dataset, getattr(loop, 'evaluator', None))
    model = unwrap(runner.model)
    if isinstance(model, BaseTTAModel):
        model = model.module
    schedules = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    where = 'data_preprocessor' if 'data_preprocessor' in runner.cfg else 'model.data_preprocessor'
    meta = getattr(runner, 'trained_on', None)
    classes = meta.get('classes') if isinstance(meta, dict) else None
    trained_on = tuple(classes) if isinstance(classes, (list, tuple)) else None
    return Parts(model, splits, runner.hooks, schedules, where, trained_on, runner.cfg.get('model') or {})


def splits_of(name: str, dataset: Dataset, evaluator: Any) -> list[Split]:
    """The data sets of a loop and their metrics.

    Args:
        name (str): 'train', 'val' or 'test'.
        dataset (Dataset): Of the loop.
        evaluator (Evaluator | None): Of the loop.

    Returns:
        list[Split]: One, unless the evaluator has a metric for each part of a concatenation.
    """
    metrics, several = list(getattr(evaluator, 'metrics', ())), getattr(dataset, 'datasets', ())
    prefixes = getattr(evaluator, 'dataset_prefixes', None)
    if prefixes is None or not len(prefixes) == len(several) == len(metrics):
        return [Split(name, leaves(dataset), metrics)]
    # mmdetection's MultiDatasetsEvaluator: each metric is of one of the data sets.
    return [Split(name, leaves(one), [metric], f'{prefix}/')
            for prefix, one, metric in zip(prefixes, several, metrics, strict=True)]


def warn(line: str) -> None:
    """Say what may be meant so."""
    print_log(line, logger='current', level=logging.WARNING)
