"""How many processes load data, where a config leaves that open: `train_dataloader.num_workers='auto'`."""
import os

MOST = 16
"""Twice of what one GPU needs at 565 images/s a core (docs/performance.md); each holds two batches in memory."""


def loader_workers() -> tuple[int, str]:
    """As many as this process has cores of its machine, without one for itself; one at least, `MOST` at most.

    The cores are those that it may use, as far as its launcher says how many are its own: Slurm by SLURM_CPUS_PER_TASK,
    torchrun and mpirun by the number of processes that share the machine.

    Returns:
        tuple[int, str]: The number, and of what it was found.
    """
    cores = min(len(os.sched_getaffinity(0)), _number('SLURM_CPUS_PER_TASK') or os.cpu_count())
    processes = _number('LOCAL_WORLD_SIZE') or _number('OMPI_COMM_WORLD_LOCAL_SIZE') or 1
    found = f'{cores} {"core" if cores == 1 else "cores"}'
    if processes > 1:
        found += f' for {processes} processes'
    return min(max(cores // processes - 1, 1), MOST), found


def _number(variable: str) -> int:
    value = os.environ.get(variable, '')
    return int(value) if value.isdecimal() else 0
