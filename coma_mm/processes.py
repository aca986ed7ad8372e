"""Processes that end with the one that started them, and a pool of such processes."""
import ctypes
import multiprocessing
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from typing import Any, NoReturn

from coma_mm.errors import EXIT_STOPPED, UserError
from coma_mm.progress import track

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What stops a run: of clusters, of Slurm before a job's end, and of Ctrl-C."""


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """In a child process: ask Linux for a signal when the parent dies, however it dies."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def start_worker(worker_id: int, worker_init_fn: Callable[[int], None] | None = None) -> None:
    """Start a data loader's worker.

    A signal that is sent to the whole run (Ctrl-C, a scheduler's warning) is for the main process, which then ends its
    workers: by torch's design one that dies by itself makes the main process fail wherever it is, in the middle of an
    update too. So workers leave the run's process group, and die with the main process all the same.

    Args:
        worker_id (int): Number of the worker.
        worker_init_fn (Callable, optional): What else is to be done at its start. Defaults to None.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # Slurm's warning, which reaches every process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    if worker_init_fn:
        worker_init_fn(worker_id)


def start_pool_worker() -> None:
    """Leave Ctrl-C to the main process, and end when the main process is gone, however it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import cv2  # which only workers need here
    cv2.setNumThreads(0)

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def leave_when_told_to_stop() -> None:
    """Before training, there is nothing to save: end at once, and well, by a signal that stops a run.

    Nothing is raised, since what is imported or built meanwhile could catch it.
    """

    def leave(number: int, frame: types.FrameType | None) -> None:
        say_at_once(f'stopped by {signal.Signals(number).name}, not while training: there is nothing to save')
        os._exit(EXIT_STOPPED)  # without a note for torchrun, which also sends SIGTERM to those that it starts again

    listen(leave)


def listen(handler: Callable) -> dict[int, Any]:
    """Have a handler called for the signals that stop a run, but for those that are ignored, as nohup and a shell's & ask.

    Args:
        handler (Callable): Takes the number and the frame.

    Returns:
        dict[int, Any]: The handlers that were there.
    """
    return {number: signal.signal(number, handler) for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN}


def end_at_once(code: int, line: str) -> NoReturn:
    """End this process wherever it is, in a signal's handler for instance.

    Args:
        code (int): The exit code.
        line (str): Why, for the terminal; said by the job's first process.
    """
    say_at_once(line)
    note_exit_code(code)
    os._exit(code)


def say_at_once(line: str) -> None:
    """Print a line on stderr, once per job, wherever this process is."""
    if is_first_process():
        os.write(2, f'{line}\n'.encode())


def note_exit_code(code: int) -> None:
    """Under tools/torchrun.py, whose own exit code is 1 for any failure, leave it a note."""
    if note := os.environ.get('COMA_MM_EXIT_CODE'):
        with suppress(OSError), open(note, 'a', encoding='utf-8') as file:  # OSError: a full disk
            file.write(f'{code}\n')  # the first line, the first process's reason, is that of the run


def is_first_process() -> bool:
    """Whether this is the job's first process, also before the processes know of each other."""
    numbers = map(os.environ.get, ('RANK', 'OMPI_COMM_WORLD_RANK', 'SLURM_PROCID'))  # of torchrun, mpirun and srun
    return int(next(filter(None, numbers), 0)) == 0


def check_workers(name: str, number: int) -> None:
    """Refuse numbers of processes at which the machine would stand still before it says no.

    Args:
        name (str): Of the setting.
        number (int): Of processes.

    Raises:
        UserError: If it is larger than 256 and than eight times the number of cores.
    """
    cores = len(os.sched_getaffinity(0))
    if number > (most := max(256, 8 * cores)):
        raise UserError(f'{name}={number}: expected at most {most} processes on this machine of {cores} cores, and rarely '
                        'more than it has cores')


def pool_map(work: Callable, tasks: Sequence, workers: int, what: str, chunksize: int = 1, completed: int = 0,
             unit: str = '', disable: bool = False) -> Iterator:
    """Do work on tasks in several processes, and show how far it is.

    Args:
        work (Callable): What is done with a task. It can be pickled.
        tasks (Sequence): The tasks.
        workers (int): The number of processes. With 1, or a single task, this process does the work.
        what (str): What is done, for the progress.
        chunksize (int): Tasks that a process takes at a time. Defaults to 1.
        completed (int): Tasks that were done before, for the progress. Defaults to 0.
        unit (str): What the tasks are, for the progress. Defaults to nothing.
        disable (bool): Whether to show no progress. Defaults to False.

    Yields:
        Any: The results, in the order of the tasks.

    Raises:
        UserError: If a process was killed, or if there are too many.
    """
    with ExitStack() as stack:
        if workers == 1 or len(tasks) < 2:
            results = map(work, tasks)
        else:
            check_workers('--workers', workers)
            pool = ProcessPoolExecutor(min(workers, len(tasks)), initializer=start_pool_worker)
            stack.callback(pool.shutdown, cancel_futures=True)  # or Ctrl-C would wait for all that is queued
            results = pool.map(work, tasks, chunksize=chunksize)
        try:
            yield from track(results, what, completed + len(tasks), completed=completed, unit=unit, disable=disable)
        except BrokenProcessPool:
            raise UserError(f'{what}: a process was killed (out of memory?); run the same command again with fewer '
                            '--workers') from None
