"""What validations do beside the training of a run: which share of the time it takes, and that it leaves no trace."""
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn


class TimeShare:
    """Counts what is done beside the training of a run, and says when once more would be too much.

    Attributes:
        seconds (float): What it has taken so far, from `begin` on.
        cost (float): What the latest whole one took.
    """

    def __init__(self):
        self.start, self.first, self.seconds, self.cost = 0., 0, 0., 0.

    def begin(self, runner: Runner) -> None:
        """Count the run's time from now on."""
        self.start, self.first = time.monotonic(), runner.iter

    @contextmanager
    def timed(self, whole: bool = True) -> Iterator[None]:
        """Count what is done inside.

        Args:
            whole (bool): Whether the next ones will cost as much; False for a part, and what is done once. Defaults to True.
        """
        start = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - start
            self.seconds += took
            self.cost = took if whole else self.cost

    def of_run(self) -> float:
        """The share of the run's time so far, 0 to 1."""
        return self.seconds / max(time.monotonic() - self.start, 1e-9)

    def so_far(self) -> float:
        """The share of the time up to now, if it is done now, and with what the one at the run's end will cost."""
        return (self.seconds + 2 * self.cost) / max(time.monotonic() - self.start + self.cost, 1e-9)

    def by_the_end(self, runner: Runner, part: float = 1.) -> float:
        """The share of the whole run's time, as its pace tells, if it is done now and at the end, but not in between.

        Args:
            runner (Runner): Of the run.
            part (float): Of what a whole one costs, for the one now. Defaults to 1.
        """
        done = (runner.iter - self.first) / max(1, runner.max_iters - self.first)
        training = (time.monotonic() - self.start - self.seconds) / max(done, 1e-9)
        seconds = self.seconds + (part + 1) * self.cost
        return seconds / max(training + seconds, 1e-9)


def ends_here(runner: Runner) -> bool:
    """Whether the validation of a run that trains is the last one."""
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        return runner.epoch >= runner.max_epochs
    return runner.iter >= runner.max_iters


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Afterwards every part of the model is in the mode that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
