"""Watching the numbers: updates that are not finite are left out, and a run goes back before its loss went astray."""
import json
import logging
import os
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch.nn.utils import get_total_norm

from coma_mm.engine.optim.accumulation import batches_of
from coma_mm.errors import SharedError, UserError

from .checkpoint import running_statistics, saver_of
from .checks import unwrap


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

    A line in the log names the iterations and images; `skipped_updates.jsonl` in the work_dir names all of them.

    Args:
        max_skips (int): Updates in a row to leave out before the run stops. 1 stops at the first one. Defaults to 20.
        interval (int): Updates between two looks of the host, which are also the moments at which the run can stop.
            Defaults to 10.

    Raises:
        UserError: If an argument is no positive integer, or the run stops.
    """
    priority = 'HIGH'  # what EvaluationModelHook does at an update is to see whether it is left out

    def __init__(self, max_skips=20, interval=10):
        for name, value in dict(max_skips=max_skips, interval=interval).items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f'FiniteHook: {name}={value!r}: expected a number of updates, 1 or more')
        self.max_skips = max_skips
        self.interval = interval
        self.finite = []  # of each batch of this update: 1, or NaN for a loss that is not finite; on the device
        self.names = []  # of each batch of this update: its images
        self.skip = None  # whether this update is left out; on the device
        self.pending = []  # updates since the last look
        self.row = []  # updates left out, one after the other, up to the last look

    def before_train(self, runner):
        """Watch the optimiser."""
        self.saver = saver_of(runner)
        wrapper = runner.optim_wrapper
        scale_loss = wrapper.scale_loss
        wrapper.scale_loss = lambda loss: scale_loss(self.watch_loss(loss))
        self.statistics = list(running_statistics(unwrap(runner.model)).values())
        self.kept = [value.clone() for value in self.statistics]
        if hasattr(wrapper, 'loss_scaler'):
            return
        optimizer = wrapper.optimizer
        optimizer.register_step_pre_hook(self.before_step)
        if next(unwrap(runner.model).parameters()).is_cuda and not _is_fused(optimizer):
            print_log(f'FiniteHook: {type(optimizer).__name__} without fused=True: each update waits for the GPU to say '
                      'whether its gradient is finite', logger='current')

    def watch_loss(self, loss):
        """A loss -> the same; a gradient of NaN, on all processes, if it is not finite (0-dimensional both)."""
        finite = loss.detach() * 0 + 1
        self.finite.append(finite)
        return loss * finite

    def before_step(self, optimizer, args, kwargs):
        """Find out whether the gradients are finite, and have the optimiser leave the update out if they are not."""
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        self.skip = ~get_total_norm(gradients).isfinite()
        if _is_fused(optimizer):
            optimizer.found_inf = self.skip.float()
        elif self.skip:
            optimizer.zero_grad()  # optimisers pass over parameters without a gradient

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Note the names of the images, and what the running statistics are."""
        if not self.finite:
            self.names.clear()
            if self.statistics:
                torch._foreach_copy_(self.kept, self.statistics)
        self.names += [_image_names(batch) for batch in batches_of(data_batch)]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """After an update: restore the running statistics if it was left out; now and then, look."""
        if not runner.optim_wrapper.should_update():
            return
        finite = torch.stack(self.finite).flatten()
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
        self.finite, self.names, self.skip = [], [], None
        if len(self.pending) >= self.interval:
            self.look(runner)

    def before_checkpoint(self, runner):
        """Look: what is in a checkpoint will not be seen again, should the run end before the next look."""
        if self.pending:
            self.look(runner)

    after_train = before_checkpoint

    def after_load_checkpoint(self, runner, checkpoint):
        """Count anew: with other weights the next updates may be finite."""
        self.row = []

    def look(self, runner):
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
        path = os.path.join(runner.work_dir, 'skipped_updates.jsonl')
        if dist.is_main_process():
            with suppress(OSError), open(path, 'a') as file:  # a full disk is no reason to stop
                file.writelines(json.dumps(update) + '\n' for update in skipped)
        print_log(f'{len(skipped)} of {count} updates left out, as the loss or a gradient was not finite: '
                  f'{_listed(map(_in_words, skipped), "; ")}; all of them are in {path}; last checkpoint before: '
                  f'{skipped[0]["checkpoint"] or "none"}', logger='current', level=logging.WARNING)
        if len(self.row) >= self.max_skips:
            good = self.row[0]['checkpoint']
            if not good or not os.path.isfile(good):
                good = 'none is left from before'
            raise SharedError(
                f'stopped, as the last {len(self.row)} updates had a loss or gradient that was not finite, from '
                f'{_in_words(self.row[0])} on; last good checkpoint: {good}; look at the images, named in '
                f"{path}, lower the learning rate, or add dict(type='LossSpikeHook', action='rollback') to custom_hooks, "
                'and go on with --resume PATH of that checkpoint')


def _is_fused(optimizer):
    """bool: Whether an optimiser takes `found_inf`, and keeps its state unchanged then.

    (SGD's fused step leaves the momentum uninitialised if the first one is left out.)
    """
    return isinstance(optimizer, torch.optim.Adam) and all(group['fused'] for group in optimizer.param_groups)


def _image_names(batch):
    """list[str]: The images of a batch of any of the three libraries, as far as it names them."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    return [str(name) for sample in samples or () if (name := sample.get('img_path'))]


def _describe(update):
    """dict: What an update left out was, with the images of the batches whose loss was at fault, else of all batches."""
    finite = [value == 1 for value in update.finite.tolist()]
    shares = dist.all_gather_object((list(zip(finite, update.names, strict=False)), update.checkpoint))
    batches = sum([share for share, _ in shares], [])
    faulty = [names for finite, names in batches if not finite]
    images = sum(faulty or [names for _, names in batches], [])
    return dict(iteration=update.iteration, not_finite='loss' if faulty else 'gradient', images=images,
                checkpoint=shares[0][1])  # the first process writes


def _in_words(update):
    return f'iteration {update["iteration"]} ({update["not_finite"]}; images {_listed(update["images"]) or "not named"})'


def _listed(items, separator=', '):
    items = list(items)
    return separator.join(items[:3]) + (f'{separator}and {len(items) - 3} more' if len(items) > 3 else '')


@HOOKS.register_module()
class LossSpikeHook(Hook):
    """Notices that the loss has risen far above what it was, or is not finite, and can take the run back before that.

    There is a spike when the median of the last `interval` losses is more than `factor` times the median of the `window`
    losses before them; so single batches count for nothing. The losses are those that are logged, which are the same on
    all processes and come back with a checkpoint.

    Going back restores the weights, the evaluation model, the optimiser's state and a gradient scaler from the newest
    checkpoint after which at least `interval` iterations were in order. Iterations, schedules and data go on as if
    nothing had happened, so the batches of the spike do not come again, and the run keeps its length; the updates
    between that checkpoint and the spike are lost. (PaLM, Chowdhery et al. 2022, Section 5.1, restarts about 100 steps
    before a spike and leaves out 200 to 500 batches.) All of it is a function of the logged losses: a run that is
    stopped and resumed goes back at the same iteration to the same checkpoint.

    Args:
        factor (float): Defaults to 3.
        window (int): In iterations; before there are so many, nothing is a spike. Defaults to 500.
        interval (int): Iterations between two looks; with gradient accumulation, looks are after updates only. Defaults
            to 10.
        action (str): 'warn' logs a line at the start of a spike; 'rollback' goes back, too. Defaults to 'warn'.
        max_rollbacks (int): How often a run goes back; at the next spike it stops. Defaults to 3.

    Raises:
        UserError: If an argument is out of range, the checkpoint hook does not keep what is needed, or the run stops.
    """
    priority = 'LOW'  # after FiniteHook, which also finishes its work on the update

    def __init__(self, factor=3., window=500, interval=10, action='warn', max_rollbacks=3):
        if action not in ('warn', 'rollback'):
            raise UserError(f"LossSpikeHook: action={action!r}: expected 'warn' or 'rollback'")
        if factor <= 1 or min(window, interval) < 1:
            raise UserError(f'LossSpikeHook: factor={factor}, window={window}, interval={interval}: expected a factor above '
                            '1, and numbers of iterations')
        self.factor = factor
        self.window = window
        self.interval = interval
        self.action = action
        self.max_rollbacks = max_rollbacks
        self.spiking = False

    def before_train(self, runner):
        """Make sure that there will be checkpoints to go back to."""
        self.saver = saver_of(runner)
        if self.action == 'rollback' and not (
                self.saver and self.saver.save_optimizer and self.saver.max_keep_ckpts != 1):
            raise UserError("LossSpikeHook: action='rollback' needs default_hooks.checkpoint with save_optimizer=True and "
                            'max_keep_ckpts=2 or more: the newest checkpoint may be of the spike')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Look at the losses."""
        if not self.every_n_train_iters(runner, self.interval) or not runner.optim_wrapper.should_update():
            return
        hub = runner.message_hub
        losses = hub.get_scalar('train/loss').data[0][-self.window - self.interval:]
        before, latest = np.split(np.where(np.isfinite(losses), losses, np.inf), [-self.interval])
        if len(before) < self.window or np.median(latest) <= self.factor * np.median(before):
            self.spiking = False
            if self.action == 'rollback':
                self.note_good(hub)
            return
        line = (f'loss spike in iteration {runner.iter + 1}: the median loss is {np.median(latest):.4g}, it was '
                f'{np.median(before):.4g}')
        if self.action == 'rollback':
            self.go_back(runner, line)
        elif not self.spiking:
            print_log(line, logger='current', level=logging.WARNING)
        self.spiking = True

    def note_good(self, hub):
        """Note the good checkpoint: what was the newest one at the last look has stood the test since.

        Args:
            hub (MessageHub): The run's.
        """
        newest = hub.runtime_info.get('newest_at_look')
        if newest and newest != hub.runtime_info.get('good_ckpt'):
            self.saver.finish()
            if dist.all_gather_object(os.path.isfile(self._path(newest)))[0]:  # else it could not be written
                hub.update_info('good_ckpt', newest)
        hub.update_info('newest_at_look', hub.runtime_info.get('last_ckpt'))

    def _path(self, checkpoint):
        """str: The file of that name in our folder: in a resumed run, paths are what its checkpoint says."""
        return os.path.join(self.saver.out_dir, os.path.basename(checkpoint))

    def go_back(self, runner, line):
        """Restore what was learnt up to the last good checkpoint.

        Args:
            runner (Runner): The run.
            line (str): What happened, for the log.

        Raises:
            UserError: If there is no such checkpoint, or the run went back too often.
        """
        info = runner.message_hub.runtime_info
        rollbacks, good = info.get('rollbacks', 0), info.get('good_ckpt')
        if not good:
            raise SharedError(f'{line}; stopped, as there is no checkpoint from before; save more often '
                              '(default_hooks.checkpoint.interval), keep more of them (max_keep_ckpts), or lower the '
                              'learning rate')
        path = self._path(good)
        if rollbacks >= self.max_rollbacks:
            raise SharedError(f'{line}; stopped, as the run went back {rollbacks} times before (max_rollbacks); lower the '
                              f'learning rate and go on with --resume {path}')
        self.saver.finish()
        if not dist.all_gather_object(os.path.isfile(path))[0]:
            raise SharedError(f'{line}; stopped, as the last good checkpoint {path} is not there any more; keep more '
                              '(default_hooks.checkpoint.max_keep_ckpts)')
        schedule = {name: value for name, value in runner.optim_wrapper.state_dict().items()
                    if name in ('param_groups', 'base_param_settings')}
        checkpoint = runner.load_checkpoint(path)
        runner.optim_wrapper.load_state_dict({**checkpoint['optimizer'], **schedule})
        for key, value in dict(rollbacks=rollbacks + 1, newest_at_look=good, last_ckpt=good).items():
            runner.message_hub.update_info(key, value)
        self.saver.newest = path
        print_log(f'{line}; went back to the weights of {path}, {rollbacks + 1} of at most {self.max_rollbacks} times',
                  logger='current', level=logging.WARNING)
