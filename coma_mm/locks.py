"""One at a time in a folder, by a lock that the operating system opens again however its holder ends.

The lock is POSIX's on a byte range (`lockf`): it belongs to one process, so no data loader's worker that outlives a killed
run keeps it, and it works between machines on NFS. (The package filelock takes `flock`, which forked processes share, and
does not say who holds it.) What the file says counts only where a file system has no locks, see `_is_at_work`.
"""
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from coma_mm.errors import UserError
from coma_mm.files import made_folder

NAME = '.lock'
PATIENCE = 5
"""Seconds: a run that is started again at once may come before the system has cleared away the one that was killed."""
SIGN_OF_LIFE, STALE = 60, 600
"""Seconds between two changes of the file's time, and without one after which a holder on another machine counts as dead."""
SETTLE = 1
"""Seconds until all who write the file at once, where the system has no locks, see who was the last one."""
_BEGINNING = b'{"host": '
_HELD = {errno.EACCES, errno.EAGAIN}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_own: dict[Path, dict[str, Any]] = {}  # what this process holds: to the system all of its threads are one holder
_one_thread = threading.Lock()


@contextmanager
def locked(folder: str | Path, file: str | Path | None = None, wait: bool = False) -> Iterator[None]:
    """While it is entered, no other process enters it with the same folder.

    Args:
        folder (str | Path): The folder. If it was not there, it is made, and goes again at the end if it is empty then.
        file (str | Path, optional): The lock, which is removed at the end. Defaults to `NAME` in the folder.
        wait (bool): Whether to say who holds the lock and wait for it. Defaults to False: wait for `PATIENCE` seconds.

    Raises:
        UserError: If another one holds the lock, naming it, or the lock cannot be written or is a file of somebody else's.
    """
    path = Path(file or Path(folder, NAME)).absolute()
    path = Path(os.path.realpath(path.parent), path.name)
    with made_folder(path.parent):
        try:
            descriptor, of_system = _take(path, folder, wait)
        except OSError as error:
            raise UserError(f'cannot write {path}: {error.strerror or error}; choose another folder') from error
        over = threading.Event()
        if not of_system:
            threading.Thread(target=_show_life, args=(path, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            with suppress(OSError):  # of a disk that went away, say
                if _read(descriptor) in ({}, _own[path]):  # else another machine held us for dead
                    path.unlink()
            del _own[path]
            os.close(descriptor)


def _take(path: Path, folder: str | Path, wait: bool) -> tuple[int, bool]:
    """The open file of the lock once it is taken, and whether the system locks it."""
    end, said = time.monotonic() + PATIENCE, False
    while True:
        with _one_thread:
            found = _try(path)
        if isinstance(found, tuple):
            return found
        line = f'{folder} is in use: {_in_words(found)}'
        if wait and not said:
            print(f'{line}; waiting for it', flush=True)
            said = True
        if not wait and (time.monotonic() > end or path in _own):
            raise UserError(f'{line}; wait for its end, stop it, or choose another folder')
        time.sleep(.2)


def _try(path: Path) -> tuple[int, bool] | dict[str, Any]:
    """As `_take`, or what the lock's holder says of itself."""
    if path in _own:  # to open and close its file would open the lock
        return _own[path]
    path.parent.mkdir(parents=True, exist_ok=True)  # the last holder may have removed it
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        found = os.fstat(descriptor)
        # A second name of somebody's file is not ours either, even of an empty one: this would be written into it.
        if found.st_nlink > 1 or os.pread(descriptor, len(_BEGINNING), 0) != _BEGINNING[:found.st_size]:
            raise UserError(f'{path} is no lock of ours, and is left as it is: move it away, or choose another folder')
        with suppress(OSError):  # of another user, who was asked the same
            os.fchmod(descriptor, 0o666)
        of_system, free = True, True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD | _NO_LOCKS:
                raise
            of_system = error.errno in _HELD
            free = not of_system and not _is_at_work(_read(descriptor), os.fstat(descriptor).st_mtime)
        if not free:
            return _read(descriptor)
        own = _this_process()
        with suppress(OSError):  # on a full disk the lock itself is enough
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(own).encode(), 0)
        if not of_system:
            time.sleep(SETTLE)
        if not _is_at(path, descriptor) or not of_system and _read(descriptor) != own:
            return _read(descriptor)
        _own[path] = own
        taken, descriptor = descriptor, None
        return taken, of_system
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a file is still there under its name: the last holder removes it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> dict[str, Any]:
    """What a holder says of itself; nothing if it is just about to."""
    try:
        found = json.loads(os.pread(descriptor, 1 << 16, 0))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _this_process() -> dict[str, Any]:
    return dict(host=socket.gethostname(), pid=os.getpid(), started=_started(os.getpid()),
                since=time.strftime('%Y-%m-%d %H:%M:%S'), command=shlex.join(sys.argv), job=os.environ.get('SLURM_JOB_ID'),
                restarts=int(os.environ.get('SLURM_RESTART_COUNT', 0)))


def _started(pid: Any) -> str | None:
    """When a process of this machine was started, in the kernel's time; None if there is none."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]
    except (OSError, IndexError):
        return None


def is_held(folder: str | Path) -> bool:
    """Whether a process works in a folder, by the lock there; nothing is written or waited for."""
    path = Path(folder, NAME).absolute()
    path = Path(os.path.realpath(path.parent), path.name)
    if path in _own:  # to open and close its file would open the lock
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a moment, for which one that starts just now waits
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return _is_at_work(_read(descriptor), os.fstat(descriptor).st_mtime)
        return error.errno in _HELD
    finally:
        os.close(descriptor)


def _is_at_work(holder: dict[str, Any], sign_of_life: float) -> bool:
    """Where the system does not tell: whether the holder of a lock seems to be alive.

    Args:
        holder (dict): What it says of itself.
        sign_of_life (float): The time of its file.
    """
    this = _this_process()
    if holder.get('host') == this['host']:
        started = _started(holder.get('pid'))  # a process of the same number may be another one
        return started is not None and started == holder.get('started')
    if this['job'] and holder.get('job') == this['job'] and holder.get('restarts') != this['restarts']:
        return False  # our own job, before Slurm queued it again
    return bool(holder) and time.time() - sign_of_life < STALE


def _in_words(holder: dict[str, Any]) -> str:
    if not holder:
        return 'another process works there'
    command = textwrap.shorten(str(holder.get('command')), 100, placeholder=' …')
    return (f'`{command}` runs there since {holder.get("since")} (host {holder.get("host")}, process {holder.get("pid")})')


def _show_life(path: Path, over: threading.Event) -> None:
    while not over.wait(SIGN_OF_LIFE):
        with suppress(OSError):
            os.utime(path)
