"""Whether the maps of a segmentation hold what the model is to learn, seen in the first batches as they pass."""
import logging

import mmengine.dist as dist
import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from coma_mm.datasets.encoded import open_image
from coma_mm.datasets.usage import listed, many
from coma_mm.engine.models import unwrap
from coma_mm.engine.optim.accumulation import batches_of
from coma_mm.errors import SharedError
from coma_mm.files import open_regular

SHOWN = 8
"""Classes whose share is said."""
MAPS = 8
"""Maps that are read again to say what is odd about them."""


@HOOKS.register_module()
class PixelHook(Hook):
    """Says which share of the pixels each class has, once the first iterations of training a segmenter are done.

    A batch in which no pixel has a class is named once. If no batch has such a pixel, the run ends: its loss would be 0.

    Args:
        iterations (int): How many are looked at; those of the first epoch at most. Defaults to 20.
    """

    def __init__(self, iterations: int = 20):
        self.iterations = iterations

    def before_train(self, runner: Runner) -> None:
        """Find the head, if the model is a segmenter."""
        head = getattr(unwrap(runner.model), 'decode_head', None)
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        self.num_classes, self.ignored = getattr(head, 'num_classes', None), getattr(head, 'ignore_index', 255)
        self.left = self.iterations if isinstance(self.num_classes, int) else 0
        # Pixels of each class, all pixels, images, batches.
        self.seen = torch.zeros((self.num_classes or 0) + 3, dtype=torch.int64)
        self.samples, self.warned = [], False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None) -> None:
        """Count the pixels of a batch, before they go to the device.

        Raises:
            UserError: If it is the last one to look at, and none of them had a pixel with a class.
        """
        if not self.left:
            return
        for batch in batches_of(data_batch):
            samples = [sample for sample in batch.get('data_samples') or () if hasattr(sample, 'gt_sem_seg')]
            if samples:
                self._count(samples, runner.iter)
        self.left -= 1
        if not self.left:
            self._tell(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Do not wait longer for more batches."""
        if self.left:
            self.left = 0
            self._tell(runner)

    def _count(self, samples: list[BaseDataElement], iteration: int) -> None:
        labels = torch.cat([sample.gt_sem_seg.data.flatten() for sample in samples]).cpu()
        known = labels[(labels >= 0) & (labels < self.num_classes) & (labels != self.ignored)]
        self.seen[:-3] += torch.bincount(known, minlength=self.num_classes)
        self.seen[-3:] += torch.tensor([len(labels), len(samples), 1])
        self.samples += samples[:MAPS - len(self.samples)]
        if not len(known) and not self.warned:
            self.warned = True
            print_log(f'no pixel in the batch of iteration {iteration + 1} has a class, so nothing is learnt from it: '
                      f'{listed(map(_path, samples))}', logger='current', level=logging.WARNING)

    def _tell(self, runner: Runner) -> None:
        dist.all_reduce(self.seen)
        *counts, pixels, images, batches = self.seen.tolist()
        samples, self.samples = self.samples, []
        if not pixels:
            return
        where = f'of the first {many(batches, "batch")} ({many(images, "image")})'
        reduced = bool(samples and samples[0].metainfo.get('reduce_zero_label'))
        if not sum(counts):
            expected = f'1 to {self.num_classes}, as reduce_zero_label=True makes 0 no class' if reduced else \
                f'0 to {self.num_classes - 1}'
            raise SharedError(f'no pixel {where} has a class, so nothing would be learnt: the maps hold '
                              f'{listed(_values(samples))} ({_path(samples[0])}); ' +
                              (_binary(samples, reduced) or f'expected class ids of {expected}'))
        names = (getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}).get('classes') or ()
        names = names if len(names) == len(counts) else [f'class {index}' for index in range(len(counts))]
        # Of maps that count from 0 this setting takes the first class away, and the last one is never seen.
        note = f' (reduce_zero_label=True: 0 in a map is no class, 1 is {names[0]})' if reduced and not counts[-1] else ''
        print_log(f'pixels {where}: {_shares(names, counts, pixels)}{note}', logger='current')
        if np.count_nonzero(counts) == 1 and len(counts) > 1 and sum(counts) < pixels and (
                line := _binary(samples, reduced)):
            print_log(f'the maps hold 0 and 255 alone ({_path(samples[0])}), and 255 is no class: {line}', logger='current',
                      level=logging.WARNING)


def _shares(names: list[str], counts: list[int], pixels: int) -> str:
    """The shares of the largest classes, and which classes have none."""
    order = sorted((index for index, count in enumerate(counts) if count), key=lambda index: -counts[index])
    line = ', '.join(f'{names[index]} {100 * counts[index] / pixels:.3g} %' for index in order[:SHOWN])
    if len(order) > SHOWN:
        line += f' and {len(order) - SHOWN} more'
    if rest := pixels - sum(counts):
        line += f'; without a class {100 * rest / pixels:.3g} %'
    if absent := [name for name, count in zip(names, counts, strict=True) if not count]:
        line += f'; no pixel of {many(len(absent), "class")}: {listed(absent)}'
    return line


def _path(sample: BaseDataElement) -> str:
    return sample.metainfo.get('seg_map_path') or sample.metainfo.get('img_path', '?')


def _values(samples: list[BaseDataElement]) -> list[int]:
    """The values in the map files of some samples, as far as they can be read."""
    values = set()
    for sample in samples:
        try:
            with open_regular(_path(sample)) as file, open_image(file) as image:
                values.update(np.unique(np.asarray(image)).tolist())
        except Exception:  # on what is no image Pillow's decoders raise many types
            continue
    return sorted(values)


def _binary(samples: list[BaseDataElement], reduced: bool) -> str | None:
    """What to do about maps of 0 and 255, if the samples' are such."""
    if not {255} <= set(_values(samples)) <= {0, 255}:
        return None
    return (f'{"set reduce_zero_label=False, and " if reduced else ""}write 1 in place of 255, or put '
            "dict(type='MapClassIds', ids={255: 1}) behind LoadAnnotations in all pipelines")
