"""The first lines of a run, and its last."""
import math
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from numbers import Real
from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from coma_mm.engine.summary import learning_line, length_line, model_line, next_lines, short, unread_weights
from coma_mm.notices import release
from coma_mm.runs.metrics import main_metric as main_of

from .checkpoint import saver_of
from .stop import StopHook


@HOOKS.register_module()
class SummaryHook(Hook):
    """Says in a few lines what a run is, before it starts, and what came out of it, when it has ended."""
    priority = 'LOWEST'  # when everything is ready, and when all is saved

    def __init__(self):
        self.last = None  # the latest validation: the metric's name, its value, and what was done by then
        self.start, self.done = 0., 0

    def before_train(self, runner: Runner) -> None:
        """Say what is trained and how; then what there is to be warned of."""
        self.start, self.done = time.monotonic(), runner.iter
        for line in (model_line(runner), learning_line(runner), length_line(runner, saver_of(runner))):
            runner.logger.info(line)
        if any(isinstance(hook, StopHook) for hook in runner.hooks):
            runner.logger.info('Ctrl-C or SIGTERM stops it and saves; the same command with --resume goes on')
        if unread := unread_weights(runner):
            runner.logger.warning(unread)
        release()

    def before_test(self, runner: Runner) -> None:
        """Say what is tested."""
        runner.logger.info(model_line(runner))
        release()

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Note the metric, and whether it is the best so far, for a run that goes on from a checkpoint, too."""
        name, higher = main_metric(runner, metrics or {})
        if name is None:
            return
        value, done = float(metrics[name]), runner.iter if _counts_iterations(runner) else runner.epoch
        self.last = name, value, done
        best = _best(runner)
        if higher is None or not math.isfinite(value):
            return
        if best is None or (value > best[0] if higher else value < best[0]):
            runner.message_hub.update_info('best_validation', [value, done])

    def after_train(self, runner: Runner) -> None:
        """Say what came out of it, where it is, and what can be done with it."""
        if self.last:
            runner.logger.info(self._result(runner))
        saver = saver_of(runner)
        newest, best = getattr(saver, 'newest', None), _best_checkpoint(saver)
        if newest:
            runner.logger.info(f'Checkpoint: {short(newest)}' + (f'; the best one: {short(best)}' if best else ''))
        seconds = timedelta(seconds=round(time.monotonic() - self.start))
        runner.logger.info(f'{runner.iter - self.done} iterations took {seconds}, with validating and saving')
        for line in next_lines(runner, best or newest) if newest else ():
            runner.logger.info(line)

    def _result(self, runner: Runner) -> str:
        unit = 'iteration' if _counts_iterations(runner) else 'epoch'
        name, value, done = self.last
        last = f'{value:.4g} at {unit} {done}'
        best = _best(runner)
        if best is None or best[1] == done:
            return f'{name}: {last}' + (', the best and the last' if best else '')
        return f'{name}: {best[0]:.4g} at {unit} {best[1]:.0f}, the best; {last}, the last'


def _best_checkpoint(saver: CheckpointHook | None) -> str | None:
    paths = [getattr(saver, 'best_ckpt_path', None), *getattr(saver, 'best_ckpt_path_dict', {}).values()]
    return next((path for path in paths if path and os.path.isfile(path)), None)


def _counts_iterations(runner: Runner) -> bool:
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def _best(runner: Runner) -> list | None:
    """[value, done]; what a checkpoint says of it is numbers, or nothing."""
    best = runner.message_hub.runtime_info.get('best_validation')
    fits = isinstance(best, list) and len(best) == 2 and all(isinstance(number, Real) for number in best)
    return best if fits else None


def main_metric(runner: Runner, metrics: Mapping[str, Any]) -> tuple[str | None, bool | None]:
    """The metric that a validation is judged by.

    It is that of the best checkpoint, if the config asks for one; else see `main_metric` of `coma_mm.runs.metrics`.

    Args:
        runner (Runner): The run.
        metrics (Mapping): Of a validation.

    Returns:
        tuple[str | None, bool | None]: Its name, None if there is no number among the metrics; and whether more of it is
        better, None if nobody knows.
    """
    numbers = [name for name, value in metrics.items() if isinstance(value, Real)]
    saver = saver_of(runner)
    chosen = dict(zip(getattr(saver, 'key_indicators', None) or (), getattr(saver, 'rules', None) or (), strict=False))
    return main_of(numbers, {name: rule == 'greater' for name, rule in chosen.items()})
