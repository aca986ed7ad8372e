"""One line for what a machine has run out of: memory, shared memory, room on a disk, open files, processes."""
import errno
import re

import torch

from coma_mm.files import is_full

_WORKERS = 'fewer workers (train_dataloader.num_workers, and those of val_dataloader and test_dataloader)'
_SHARED = ("the shared memory (/dev/shm), through which a data loader's workers hand over their batches, is full; give it "
           f'more room (docker run --shm-size=16g, or --ipc=host), or take {_WORKERS} or a smaller batch_size')
_FILES = f'too many files are open at once; raise the limit (ulimit -n 65536), or take {_WORKERS}'
_PROCESSES = f'the machine gives no more processes or threads; raise the limit (ulimit -u), or take {_WORKERS}'
_MEMORY = f"the machine's memory is full; take {_WORKERS} or a smaller batch_size, or end what else uses it"
_TORCH = (  # what torch says, in the order in which to look
    (r'Bus error|unable to .*(shared memory|/torch_).*(No space left|Cannot allocate)|shm_open|shm_unlink', _SHARED),
    (r'Too many open files|received \d+ items of ancdata', _FILES),
    (r"can't start new thread", _PROCESSES),
    (r"can't allocate memory|Cannot allocate memory|not enough memory", _MEMORY))


def explain_shortage(error: BaseException) -> str | None:
    """One line for an error by which a machine, not the input, fails a run; started again, it may well go on.

    Args:
        error (Exception): From anywhere below a tool.

    Returns:
        str | None: The line; None for any other error.
    """
    text = ' '.join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full; take a smaller train_dataloader.batch_size, or --amp"
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError):
        return _of_system(error)
    if not isinstance(error, RuntimeError):
        return None
    if line := next((line for said, line in _TORCH if re.search(said, text)), None):
        return line
    killed = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited unexp)', text)
    return killed and _of_worker(killed[1], killed[2])


def _of_system(error: OSError) -> str | None:
    name = error.filename if isinstance(error.filename, str) else ''
    if error.errno is None and (said := re.search(r'\[Errno (\d+)\]', str(error))):  # a worker's error, as a text
        error = OSError(int(said[1]), '')
    if is_full(error):
        what = {errno.EFBIG: 'the limit of a file\'s size is reached', errno.EDQUOT: 'the quota is used up'}.get(
            error.errno, 'no space is left on the disk')
        return f'{what}{name and f" ({name})"}; make room, or choose another --work-dir or --out'
    return {errno.EMFILE: _FILES, errno.ENFILE: _FILES, errno.ENOMEM: _MEMORY, errno.EAGAIN: _PROCESSES}.get(error.errno)


def _of_worker(number: str, signal: str | None) -> str:
    if signal and signal.strip() not in ('Killed', 'Terminated'):
        return (f"a data loader's worker (process {number}) crashed: {signal.strip()}; a library cannot bear one of the "
                'files: train_dataloader.num_workers=0 shows where')
    how = 'was killed' if signal else 'ended'
    return (f"a data loader's worker (process {number}) {how}, most likely since the memory was full (dmesg says so); take "
            f'{_WORKERS} or a smaller batch_size; a training then goes on with --resume')
