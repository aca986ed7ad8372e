"""Noticing that the loss went astray, and taking the run back before that."""
import logging
import os

import numpy as np
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from coma_mm.errors import SharedError, UserError, choice
from coma_mm.ranges import above, whole

from .checkpoint import saver_of


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

    def __init__(self, factor: float = 3., window: int = 500, interval: int = 10, action: str = 'warn',
                 max_rollbacks: int = 3):
        choice('LossSpikeHook: action', action, ('warn', 'rollback'))
        self.factor = above(1).check('LossSpikeHook: factor', factor)
        self.window = whole(1).check('LossSpikeHook: window', window)
        self.interval = whole(1).check('LossSpikeHook: interval', interval)
        self.action = action
        self.max_rollbacks = whole(0).check('LossSpikeHook: max_rollbacks', max_rollbacks)
        self.spiking = False

    def before_train(self, runner: Runner) -> None:
        """Make sure that there will be checkpoints to go back to."""
        self.saver = saver_of(runner)
        if self.action == 'rollback' and not (
                self.saver and self.saver.save_optimizer and self.saver.max_keep_ckpts != 1):
            raise UserError("LossSpikeHook: action='rollback' needs default_hooks.checkpoint with save_optimizer=True and "
                            'max_keep_ckpts=2 or more: the newest checkpoint may be of the spike')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None,
                         outputs: dict | None = None) -> None:
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

    def note_good(self, hub: MessageHub) -> None:
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

    def _path(self, checkpoint: str) -> str:
        """The file of that name in our folder: in a resumed run, paths are what its checkpoint says."""
        return os.path.join(self.saver.out_dir, os.path.basename(str(checkpoint)))

    def go_back(self, runner: Runner, line: str) -> None:
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
