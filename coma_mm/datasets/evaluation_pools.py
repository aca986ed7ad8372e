"""Pools of processes for the libraries' evaluation, which end although this process listens to the signals that end them."""
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import ForkContext, ForkProcess
from types import SimpleNamespace
from typing import Any

from mmdet.datasets.api_wrappers import cocoeval_mp
from mmdet.evaluation.functional import mean_ap, panoptic_utils

from coma_mm.errors import UserError
from coma_mm.processes import STOP_SIGNALS, end_with_parent


class _Process(ForkProcess):
    terminate = ForkProcess.kill


class _Context(ForkContext):
    Process = _Process


class EvaluationPool(ProcessPoolExecutor):
    """What mmdetection uses of `multiprocessing.Pool`.

    A child that is forked inherits the handlers by which a run notes SIGTERM instead of ending, and Python's own pool ends
    its children by SIGTERM: it would wait for them for ever, as it would for the work of a child that was killed.

    Args:
        processes (int): How many there are.
    """

    def __init__(self, processes: int):
        super().__init__(processes, _Context(), _leave_signals_to_parent)
        self.parts = 4 * processes

    def starmap(self, work: Callable, tasks: Iterable[tuple]) -> list[Any]:
        """The results of `work(*task)` for each task, in order; several go to a process at once, as one is short."""
        tasks = list(tasks)
        with _killed_is_said():
            return list(self.map(work, *zip(*tasks, strict=True), chunksize=math.ceil(len(tasks) / self.parts) or 1))

    def apply_async(self, work: Callable, task: tuple) -> SimpleNamespace:
        """Begin `work(*task)`; the result's `get` waits for it.

        Raises:
            UserError: By `get`, if a process was killed.
        """
        return SimpleNamespace(get=partial(_result, self.submit(work, *task)))

    def close(self) -> None:
        """Nothing more is to be done."""
        self.shutdown(wait=False)

    def join(self) -> None:
        """Wait for all that was begun."""
        self.shutdown()


def _leave_signals_to_parent() -> None:
    """In a child: what stops the run is noted by the parent, and without it there is nothing to do."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)


def _result(future: Future) -> Any:
    with _killed_is_said():
        return future.result()


@contextmanager
def _killed_is_said() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise UserError('a process of the evaluation was killed (out of memory?); evaluate in one process: leave out '
                        'use_mp_eval, or set nproc=1') from None


def use_pools() -> None:
    """Have mmdetection's evaluation of COCO, of VOC and of panoptic segmentation use `EvaluationPool`."""
    own = SimpleNamespace(Pool=EvaluationPool, cpu_count=multiprocessing.cpu_count)
    cocoeval_mp.mp = panoptic_utils.multiprocessing = own
    mean_ap.Pool = EvaluationPool
