"""Updates of a fixed number of images, for any number of processes: `optim_wrapper.accumulative_counts='auto'`.

mmengine's accumulation counts batches as iterations, so schedules, intervals and `max_iters` would change their meaning
with the number of batches that make an update. Here an iteration *is* an update: the data loader yields the batches of
one update as a list, and `update` trains on them. A config counts updates, and a run may be resumed with another number
of processes.
"""
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from coma_mm.errors import UserError


def count(number: int, noun: str) -> str:
    """'1 batch', '2 batches'."""
    return f'{number} {noun}' if number == 1 else f'{number} {noun}es'


def is_auto(cfg: Config) -> bool:
    """Whether a config leaves the number of accumulated batches to the runner."""
    return (cfg.get('optim_wrapper') or {}).get('accumulative_counts') == 'auto'


def batches_per_update(cfg: Config, processes: int) -> int:
    """How many batches of each process make one update.

    Args:
        cfg (Config): Of a run, with `auto_scale_lr.base_batch_size` and `train_dataloader.batch_size`.
        processes (int): How many there are.

    Returns:
        int: base_batch_size / (processes × batch_size).

    Raises:
        UserError: If there is no base batch size, or the division leaves a remainder.
    """
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base:
        raise UserError("optim_wrapper.accumulative_counts='auto' needs auto_scale_lr=dict(base_batch_size=...) in the "
                        'config: the images of one update')
    batch_size = cfg.train_dataloader.batch_size
    if base % (processes * batch_size) == 0:
        return base // (processes * batch_size)
    line = (f"accumulative_counts='auto': {count(processes, 'process')} × train_dataloader.batch_size={batch_size} "
            f'cannot share out the {base} images of one update (auto_scale_lr.base_batch_size)')
    share, rest = divmod(base, processes)
    if rest:
        fitting = max(n for n in range(1, processes) if base % n == 0)
        raise UserError(f'{line}, nor would any other batch_size; take another number of processes, for instance {fitting}')
    fitting = [n for n in range(min(batch_size, share), 0, -1) if share % n == 0]
    raise UserError(f'{line}; take a batch_size of {" or ".join(map(str, fitting[:3]))}')


def smaller_update(cfg: Config, processes: int, share: int) -> str:
    """What to do where the data have no update of as many images as a config asks for.

    Args:
        cfg (Config): Of a run.
        processes (int): How many there are.
        share (int): Images of the data set that each of them sees in an epoch.

    Returns:
        str: The largest update there is, as options of the command line, with the learning rate scaled to it.
    """
    batch_size = cfg.train_dataloader.batch_size
    more = -(-share // batch_size) if is_auto(cfg) else 1  # batches, smaller ones, or as many as there are of this size
    size, batches = max((batch_size, share // batch_size), (share // more, more), key=math.prod)
    images, new = processes * size * batches, {}
    if size != batch_size:
        new['train_dataloader.batch_size'] = size
    scaling = cfg.get('auto_scale_lr') or {}
    base, rate, scaled = scaling.get('base_batch_size'), (cfg.optim_wrapper.get('optimizer') or {}).get('lr'), ''
    if is_auto(cfg):
        new['auto_scale_lr.base_batch_size'] = images
        if isinstance(rate, (int, float)):
            new['optim_wrapper.optimizer.lr'] = f'{rate * images / base:.3g}'
            scaled = f', by which the learning rate, {rate:.4g} for {base}, is scaled by {images}/{base}'
    elif base and not scaling.get('enable'):
        scaled = ', with --auto-scale-lr, which scales the learning rate with it'
    options = ' '.join(f'{key}={value}' for key, value in new.items())
    return f'take an update of at most {images} images (--cfg-options {options}){scaled}, or more data'


def wrappers_of(runner: Runner) -> list[OptimWrapper]:
    """The optimiser wrappers of a run: a single one, or those of an `OptimWrapperDict`."""
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def batches_of(data_batch: Any) -> list:
    """The batches of an iteration: of one update, as `BatchGroups` yields them, or a single one."""
    several = isinstance(data_batch, list) and isinstance(data_batch[0], dict)
    return data_batch if several else [data_batch]


class BatchGroups:
    """A data loader that yields the batches of another one as lists; in everything else it is that one.

    The last list of an epoch may be shorter; it is left out if the loader drops its last batch.

    Args:
        loader (DataLoader): Yields batches.
        size (int): Batches in a list.
    """

    def __init__(self, loader: DataLoader, size: int):
        vars(self).update(loader=loader, size=size)

    @property
    def batch_size(self) -> int | None:
        """Samples in a list; None where a batch sampler decides, as for any data loader."""
        return self.loader.batch_size and self.loader.batch_size * self.size

    def __len__(self) -> int:
        return len(self.loader) // self.size if self.loader.drop_last else -(-len(self.loader) // self.size)

    def __iter__(self) -> Iterator[list]:
        batches = iter(self.loader)
        while group := list(islice(batches, self.size)):
            if len(group) == self.size or not self.loader.drop_last:
                yield group

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.loader, name, value)


def update(train_step: Callable[[Any, OptimWrapper], dict[str, torch.Tensor]], batches: list,
           optim_wrapper: OptimWrapper) -> dict[str, torch.Tensor]:
    """Make one update with the mean of several batches' gradients; a smaller last batch of an epoch counts as much.

    Args:
        train_step (Callable): The model's: takes a batch and the optimiser wrapper.
        batches (list): At least one.
        optim_wrapper (OptimWrapper): mmengine's, whose own counting starts anew here.

    Returns:
        dict[str, Tensor]: What `train_step` logs, averaged over the batches.
    """
    vars(optim_wrapper).update(_accumulative_counts=len(batches), _inner_count=0, _max_counts=-1)
    logs = [train_step(batch, optim_wrapper) for batch in batches]
    return {name: sum(log[name] for log in logs) / len(logs) for name in logs[0]}
