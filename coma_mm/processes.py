"""Processes that end with the one that started them."""
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable


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
