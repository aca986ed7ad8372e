"""Ending a run in good time: by a signal, or at its time limit."""
import math
import re
import signal
import threading
import time
from types import FrameType
from typing import NoReturn

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from coma_mm.errors import Stopped, UserError
from coma_mm.processes import end_at_once, listen, say_at_once

from .checkpoint import saver_of


def seconds(text: str | float) -> float:
    """A duration as people write it for Slurm -> seconds.

    Args:
        text (str | float): Seconds; or 'MM:SS', 'HH:MM:SS', 'D-HH:MM:SS'; or a number with a unit, '90s', '30m',
            '12h', '2d'.

    Raises:
        UserError: For anything else.
    """
    text = str(text)
    if match := re.fullmatch(r'(\d+(?:\.\d+)?)([smhd]?)', text):
        return float(match[1]) * dict(s=1, m=60, h=3600, d=86400)[match[2] or 's']
    if match := re.fullmatch(r'(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)', text):
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    raise UserError(f'cannot read the time {text!r}; expected seconds, HH:MM:SS, D-HH:MM:SS, or a number with s, m, h or d')


@HOOKS.register_module()
class StopHook(Hook):
    """Saves and ends the run at the next update after SIGTERM, SIGUSR1 or Ctrl-C, or when its time is over.

    Slurm sends such a signal before a job's time limit (`--signal=USR1@300`), clusters send SIGTERM before they take a
    machine away. The run leaves with `EXIT_STOPPED`, and resumes with `--resume` as if it had not been stopped. A second
    Ctrl-C ends it at once, with exit code 130.

    Args:
        max_time (str | float, optional): Time limit of this start of the run, see `seconds`. Defaults to None: none.
        interval (int): Updates between two agreements of several processes whether to stop, each of which waits for the
            device. Defaults to 10.
    """
    priority = 'LOWEST'  # after the checkpoint hook
    def __init__(self, max_time: str | float | None = None, interval: int = 10):
        self.max_time = None if max_time is None else seconds(max_time)
        self.interval = interval
        self.start = time.monotonic()
        self.reason = None
        self.noted = math.inf  # when a signal came
        self.when = ''  # it will stop, in words
        self.previous = {}  # the handlers of signals that were there

    def before_train(self, runner: Runner) -> None:
        """Start listening to the signals that stop a run."""
        if threading.current_thread() is threading.main_thread():
            self.when = 'after this update' if runner.world_size == 1 else f'within {self.interval} updates'
            self.previous = listen(self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and time.monotonic() - self.noted > 1:  # before, it may be the same one, passed on
            end_at_once(130, 'interrupted again: ends at once, and saves nothing more')
        if self.noted == math.inf:
            self.reason, self.noted = signal.Signals(number).name, time.monotonic()
            say_at_once(f'{self.reason}: stops {self.when} and saves (Ctrl-C now ends at once, without saving)')

    def release(self) -> None:
        """Stop listening to the signals."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None,
                         outputs: dict | None = None) -> None:
        """Stop after an update."""
        done = runner.iter + 1
        if not done % runner.iterations_per_update:
            self._stop_if_due(runner, dict(epoch=runner.epoch, iter=done))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None,
                       outputs: dict | None = None) -> None:
        """Stop in validation, which is no part of the training's state."""
        if runner.world_size == 1:  # the processes may see different numbers of batches here
            self._stop_if_due(runner, dict(epoch=runner.epoch, iter=runner.iter), validating=True)

    def _stop_if_due(self, runner: Runner, done: dict[str, int], validating: bool = False) -> None:
        if self.max_time is not None and time.monotonic() - self.start > self.max_time:
            self.reason = self.reason or 'the time limit'
        due = self.reason is not None
        if runner.world_size > 1:
            if done['iter'] // runner.iterations_per_update % self.interval:
                return
            due = torch.tensor(float(due), device=next(runner.model.parameters()).device)
            all_reduce(due, op='max')
        if due and (done['iter'] < runner.max_iters or validating):
            self.stop(runner, done)

    def stop(self, runner: Runner, done: dict[str, int]) -> NoReturn:
        """Save, and end the run.

        Args:
            runner (Runner): The run.
            done (dict): `epoch` and `iter`, what is done so far.

        Raises:
            Stopped: Always, or a UserError if it cannot be saved.
        """
        line = f'stopped by {self.reason or "another process"} after {done["iter"]} of {runner.max_iters} iterations'
        hook = saver_of(runner)
        if hook:
            # After the last update nothing would clear away what is saved here, and the last checkpoint may be there.
            last = done['iter'] == runner.max_iters and hook.saved == done
            path = hook.newest if last else hook.save_interrupted(runner, done)
            line += f'; saved in {path}; go on with --resume'
        raise Stopped(line)
