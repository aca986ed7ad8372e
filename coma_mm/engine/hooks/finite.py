"""Updates whose loss or gradient is not finite are left out."""
import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.nn.utils import get_total_norm

from coma_mm.engine.models import unwrap
from coma_mm.engine.optim.accumulation import batches_of
from coma_mm.engine.replay import gradients_sha256, leave
from coma_mm.errors import SharedError, UserError

from .checkpoint import running_statistics, saver_of


@HOOKS.register_module()
class FiniteHook(Hook):
    """Leaves an update out if its loss or its gradient is NaN or infinite, and stops the run if that goes on.

    Weights, the optimiser's state and running statistics of normalisation are then, bit for bit, what they were before
    the update; schedules and data go on. The update of several accumulated batches, and of all processes, is left out
    as a whole. A gradient whose sum of squares overflows float32 counts as infinite: Adam's second moment would be.

    Whether to leave an update out is decided on the device: `Adam` and `AdamW` with `fused=True` take the answer there,
    as they do from a gradient scaler. For other optimisers the host asks before each update, which on a GPU is a wait
    for the backward pass. With a gradient scaler (`AmpOptimWrapper`) the gradients are left to it, since it leaves
    updates out to find its scale; losses are still watched.

    A line in the log names the iterations and images; `skipped_updates.jsonl` in the work_dir names all of them. The first
    one leaves `replay_iter_*.pt` in the work_dir: its batches, seeds, weights and config, with which `coma-mm replay` runs
    it again. (With a fused optimiser on a GPU it is the first one after the host has seen that there are any.)

    Args:
        max_skips (int): Updates in a row to leave out before the run stops. 1 stops at the first one. Defaults to 20.
        interval (int): Updates between two looks of the host, which are also the moments at which the run can stop.
            Defaults to 10.

    Raises:
        UserError: If an argument is no positive integer, or the run stops.
    """
    priority = 'HIGH'  # what EvaluationModelHook does at an update is to see whether it is left out

    def __init__(self, max_skips: int = 20, interval: int = 10):
        for name, value in dict(max_skips=max_skips, interval=interval).items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f'FiniteHook: {name}={value!r}: expected a number of updates, 1 or more')
        self.max_skips = max_skips
        self.interval = interval
        self.losses = []  # of each batch of this update; on the device
        self.batches = []  # of this update, with their iterations
        self.gradients = None  # check sum of those of an update that is left out
        self.replay = None  # the file of the first update that was left out
        self.waits = False  # whether the host asks at each update
        self.names = []  # of each batch of this update: its images
        self.skip = None  # whether this update is left out; on the device
        self.pending = []  # updates since the last look
        self.row = []  # updates left out, one after the other, up to the last look

    def before_train(self, runner: Runner) -> None:
        """Watch the optimiser."""
        self.saver = saver_of(runner)
        wrapper = runner.optim_wrapper
        scale_loss = wrapper.scale_loss
        wrapper.scale_loss = lambda loss: scale_loss(self.watch_loss(loss))
        self.statistics = list(running_statistics(unwrap(runner.model)).values())
        self.kept = [value.clone() for value in self.statistics]
        self.model, self.alone = unwrap(runner.model), dist.get_world_size() == 1
        self.replay = next(map(str, Path(runner.work_dir).glob('replay_*.pt')), None)
        device = next(self.model.parameters()).device.type
        self.waits = device == 'cpu'
        if hasattr(wrapper, 'loss_scaler'):
            return
        optimizer = wrapper.optimizer
        optimizer.register_step_pre_hook(self.before_step)
        if device == 'cuda' and not _is_fused(optimizer):
            self.waits = True
            print_log(f'FiniteHook: {type(optimizer).__name__} without fused=True: each update waits for the GPU to say '
                      'whether its gradient is finite', logger='current')

    def watch_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss -> the same; a gradient of NaN, on all processes, if it is not finite (0-dimensional both)."""
        self.losses.append(loss.detach())
        return loss * _one_if_finite(self.losses[-1])

    def before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict[str, Any]) -> None:
        """Find out whether the gradients are finite, and have the optimiser leave the update out if they are not."""
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        self.skip = ~get_total_norm(gradients).isfinite()
        if _is_fused(optimizer):
            optimizer.found_inf = self.skip.float()
        if self.waits and not self.replay and self.alone and self.skip:
            self.gradients = gradients_sha256(self.model)
        if not _is_fused(optimizer) and self.skip:
            optimizer.zero_grad()  # optimisers pass over parameters without a gradient

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None) -> None:
        """Note the names of the images, and what the running statistics are."""
        if not self.losses:
            self.names.clear()
            self.batches.clear()
            if self.statistics:
                torch._foreach_copy_(self.kept, self.statistics)
        self.names += [_image_names(batch) for batch in batches_of(data_batch)]
        self.batches += [(runner.iter, batch) for batch in batches_of(data_batch)]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None,
                         outputs: dict | None = None) -> None:
        """After an update: restore the running statistics if it was left out; now and then, look."""
        if not runner.optim_wrapper.should_update():
            return
        losses = torch.stack(self.losses).flatten()
        finite = _one_if_finite(losses)
        skip = self.skip
        if skip is None:  # with a gradient scaler
            skip = finite.isnan().any().float()
            dist.all_reduce(skip, 'max')  # one process's loss spoils the gradient of all
            skip = skip.bool()
        for value, kept in zip(self.statistics, self.kept, strict=True):
            value.copy_(torch.where(skip, kept, value))
        self.pending.append(SimpleNamespace(
            iteration=runner.iter + 1, skip=skip, finite=finite, names=self.names,
            checkpoint=self.saver and self.saver.newest))
        if self.waits and not self.replay and skip:
            self._leave_replay(runner, losses, finite)
        self.losses, self.names, self.skip = [], [], None
        if len(self.pending) >= self.interval:
            self.look(runner)

    def _leave_replay(self, runner: Runner, losses: torch.Tensor, finite: torch.Tensor) -> None:
        """Leave the file of the first update that was left out, while the weights are those from before it."""
        at_fault = finite.isnan().any().float()
        anywhere = at_fault.clone()
        dist.all_reduce(anywhere, 'max')
        self.replay = 'left by another process'
        if at_fault or not anywhere:
            try:
                self.replay = leave(runner, self.batches, losses, self.gradients, sum(self.names, []))
            except OSError as error:
                self.replay = f'not written ({error.strerror or error})'

    def before_checkpoint(self, runner: Runner) -> None:
        """Look: what is in a checkpoint will not be seen again, should the run end before the next look."""
        if self.pending:
            self.look(runner)

    after_train = before_checkpoint

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Count anew: with other weights the next updates may be finite."""
        self.row = []

    def look(self, runner: Runner) -> None:
        """Report which of the pending updates were left out, on all processes.

        Raises:
            UserError: If the last `max_skips` were.
        """
        skips = torch.stack([update.skip for update in self.pending]).float()
        dist.all_reduce(skips, 'max')
        skipped = []
        for update, skip in zip(self.pending, skips.tolist(), strict=True):  # the wait for the device
            if not skip:
                self.row = []
                continue
            skipped.append(_describe(update))
            self.row.append(skipped[-1])
        count, self.pending = len(self.pending), []
        if not skipped:
            return
        self.waits = self.waits or not self.replay  # the next one is seen while the weights are still the same
        path = os.path.join(runner.work_dir, 'skipped_updates.jsonl')
        if dist.is_main_process():
            with suppress(OSError), open(path, 'a') as file:  # a full disk is no reason to stop
                file.writelines(json.dumps(update) + '\n' for update in skipped)
        print_log(f'{len(skipped)} of {count} updates left out, as the loss or a gradient was not finite: '
                  f'{_listed(map(_in_words, skipped), "; ")}; all of them are in {path}; to run again: '
                  f'{self.replay or "the next one"}; last checkpoint before: {skipped[0]["checkpoint"] or "none"}',
                  logger='current', level=logging.WARNING)
        if len(self.row) >= self.max_skips:
            good = self.row[0]['checkpoint']
            if not good or not os.path.isfile(good):
                good = 'none is left from before'
            raise SharedError(
                f'stopped, as the last {len(self.row)} updates had a loss or gradient that was not finite, from '
                f'{_in_words(self.row[0])} on; last good checkpoint: {good}; look at the images, named in '
                f"{path}, lower the learning rate, or add dict(type='LossSpikeHook', action='rollback') to custom_hooks, "
                'and go on with --resume PATH of that checkpoint')


def _one_if_finite(losses: torch.Tensor) -> torch.Tensor:
    """1, or NaN for what is not finite."""
    return losses * 0 + 1


def _is_fused(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimiser takes `found_inf`, and keeps its state unchanged then.

    (SGD's fused step leaves the momentum uninitialised if the first one is left out.)
    """
    return isinstance(optimizer, torch.optim.Adam) and all(group['fused'] for group in optimizer.param_groups)


def _image_names(batch: Any) -> list[str]:
    """The images of a batch of any of the three libraries, as far as it names them."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    return [str(name) for sample in samples or () if (name := sample.get('img_path'))]


def _describe(update: SimpleNamespace) -> dict[str, Any]:
    """What an update left out was, with the images of the batches whose loss was at fault, else of all batches."""
    finite = [value == 1 for value in update.finite.tolist()]
    shares = dist.all_gather_object((list(zip(finite, update.names, strict=False)), update.checkpoint))
    batches = sum([share for share, _ in shares], [])
    faulty = [names for finite, names in batches if not finite]
    images = sum(faulty or [names for _, names in batches], [])
    return dict(iteration=update.iteration, not_finite='loss' if faulty else 'gradient', images=images,
                checkpoint=shares[0][1])  # the first process writes


def _in_words(update: dict[str, Any]) -> str:
    return f'iteration {update["iteration"]} ({update["not_finite"]}; images {_listed(update["images"]) or "not named"})'


def _listed(items: Iterable[str], separator: str = ', ') -> str:
    items = list(items)
    return separator.join(items[:3]) + (f'{separator}and {len(items) - 3} more' if len(items) > 3 else '')
