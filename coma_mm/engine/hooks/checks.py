"""What is wrong with the data, and what a batch is, said while a run goes on."""
import logging
from collections.abc import Iterator
from typing import Any

import mmengine.dist as dist
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from coma_mm.engine.batch_norm import warn_of_a_last_single_image
from coma_mm.engine.models import unwrap
from coma_mm.engine.optim.accumulation import batches_of, count, is_auto
from coma_mm.errors import UserError
from coma_mm.ranges import whole


@HOOKS.register_module()
class BatchSizeHook(Hook):
    """Says how many images make one update, and warns of accumulation over more than an epoch and of a last single image."""

    def before_train(self, runner: Runner) -> None:
        """Log one line, or two."""
        if not hasattr(runner, 'images_per_update'):
            return
        images, accumulated = runner.images_per_update, runner.accumulation
        batch_size = images // runner.world_size // accumulated
        auto = is_auto(runner.cfg)
        print_log(f'{images} images per update: {count(runner.world_size, "process")} × {batch_size} images × '
                  f'{count(accumulated, "batch")}' + (' (one iteration)' if auto else ''), logger='current')
        warn_of_a_last_single_image(runner)
        loader = runner.train_dataloader
        try:
            batches = len(getattr(loader, 'loader', loader))  # not of the lists of batches
        except TypeError:
            return
        if accumulated > batches:
            print_log(f'accumulative_counts={accumulated} is more than the {batches} batches of an epoch: ' +
                      ('updates see fewer images' if auto else 'there is less than one update per epoch'),
                      logger='current', level=logging.WARNING)


@HOOKS.register_module()
class BadImageHook(Hook):
    """Reports how many images were skipped so far: as unreadable (`on_bad_image='skip'`), or for want of data.

    Args:
        interval (int): Iterations between reports within an epoch, which iteration-based runs never finish. Defaults
            to 1000.
    """

    def __init__(self, interval: int = 1000):
        self.interval = whole(1).check('BadImageHook: interval', interval)
        self.reported = self.reported_empty = 0

    def after_train_epoch(self, runner: Runner) -> None:
        """Report."""
        dataset = runner.train_dataloader.dataset
        self.reported = self._report(dataset, 'bad_images', 'unreadable images skipped so far', self.reported)
        self.reported_empty = self._report(dataset, 'without_data', 'images had no data in a sample so far, and others were '
                                           'taken in its place', self.reported_empty)

    def _report(self, dataset: Any, flags: str, what: str, reported: int) -> int:
        """Say how many samples of a data set are flagged, if they are more than before."""
        find = getattr(dataset, flags, None)
        if find is None or not len(find()):
            return reported
        seen = torch.from_numpy(find().copy())
        dist.all_reduce(seen, op='max')  # a sample may be drawn by one process now, by another later
        count = int(seen.sum())
        if count > reported:
            print_log(f'{count} {what}, of {len(seen)}', logger='current', level=logging.WARNING)
        return count

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None,
                         outputs: dict | None = None) -> None:
        """Report every `interval` iterations."""
        if self.every_n_train_iters(runner, self.interval):
            self.after_train_epoch(runner)


@HOOKS.register_module()
class LabelCheckHook(Hook):
    """Stops a run at a class id that the model has no class for.

    In training a GPU reports it as a device-side assertion; in validation and testing it makes the metric wrong in silence.
    """

    unlabelled = None  # whether all maps of a validation are, so far

    def before_train(self, runner: Runner) -> None:
        """Find out how many classes the model has."""
        model = unwrap(runner.model)
        if isinstance(model, BaseTTAModel):
            model = model.module
        heads = [getattr(model, name, None) for name in ('head', 'decode_head', 'bbox_head')]
        heads.append(getattr(getattr(model, 'roi_head', None), 'bbox_head', None))
        counts = [getattr(head, 'num_classes', None) for head in heads]
        self.num_classes = next((count for count in counts if isinstance(count, int)), None)
        self.ignored = getattr(getattr(model, 'decode_head', None), 'ignore_index', 255)

    before_val = before_test = before_train

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None) -> None:
        """Check the labels of a batch, before they go to the device.

        Raises:
            UserError: Naming the image, the class id and the number of classes.
        """
        for sample in self._samples(data_batch):
            _check_map(sample)
            self._check(sample)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None) -> None:
        """Check the maps of a batch; a metric of detection compares with its own file.

        Raises:
            UserError: Naming the map, the class id and the number of classes.
        """
        for sample in self._samples(data_batch):
            if hasattr(sample, 'gt_sem_seg'):
                _check_map(sample, 'ori_shape')  # to whose size mmseg's metrics bring the prediction
                self._check(sample)
                self.unlabelled = self.unlabelled is not False and not (sample.gt_sem_seg.data != self.ignored).any()

    before_test_iter = before_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Warn if no pixel of any map has a class: the metric is NaN then."""
        if self.unlabelled:
            print_log(f'no pixel of the maps has a class: all are {self.ignored}, which is ignored; look at the maps, '
                      'and at reduce_zero_label', logger='current', level=logging.WARNING)
        self.unlabelled = None

    after_test_epoch = after_val_epoch

    def _samples(self, data_batch: dict | list | None) -> Iterator[BaseDataElement]:
        """The samples of an iteration; in test-time augmentation those of each augmentation."""
        for batch in batches_of(data_batch) if self.num_classes is not None else ():
            for sample in (batch.get('data_samples') or ()) if isinstance(batch, dict) else ():
                yield from sample if isinstance(sample, (list, tuple)) else [sample]

    def _check(self, sample: BaseDataElement) -> None:
        for labels in _labels(sample):
            wrong = labels[(labels != self.ignored) & ((labels < 0) | (labels >= self.num_classes))]
            if len(wrong):
                path = sample.metainfo.get('seg_map_path') or sample.metainfo.get('img_path', '?')
                value, hint = int(wrong[0]), ''
                if sample.metainfo.get('reduce_zero_label'):
                    value = f'{value} ({value + 1} in the file, reduce_zero_label=True)'
                elif hasattr(sample, 'gt_sem_seg') and value == int(wrong.max()) == self.num_classes:
                    hint = '; if 0 is no class, set reduce_zero_label=True in all data sets'
                raise UserError(f'class id {value} in the annotation of {path} is out of range: the model has '
                                f'num_classes={self.num_classes}, ids 0 to {self.num_classes - 1}{hint}')


def _check_map(sample: BaseDataElement, size: str = 'img_shape') -> None:
    """Raise a UserError if a segmentation map is not one class id for each pixel of the image, of the size in `size`."""
    if not hasattr(sample, 'gt_sem_seg'):
        return
    shape, expected = tuple(sample.gt_sem_seg.data.shape), (1, *sample.metainfo.get(size, (0, 0))[:2])
    if size in sample.metainfo and shape != expected:
        raise UserError(f'the segmentation map {sample.metainfo.get("seg_map_path", "?")} does not fit its image '
                        f'{sample.metainfo.get("img_path", "?")}: after the pipeline it has shape {shape}; expected '
                        f'{expected}, a grey PNG of the image\'s size with one class id per pixel')


def _labels(sample: BaseDataElement) -> list[torch.Tensor]:
    """The class ids of a sample of any of the three libraries."""
    found = []
    if isinstance(getattr(sample, 'gt_label', None), torch.Tensor):
        found.append(sample.gt_label)
    if hasattr(sample, 'gt_sem_seg'):
        found.append(sample.gt_sem_seg.data)
    if hasattr(sample, 'gt_instances') and 'labels' in sample.gt_instances:
        found.append(sample.gt_instances.labels)
    return found
