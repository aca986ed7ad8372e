"""Files that are written whole or not at all, and read if they are files; folders that go again if they are empty."""
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from coma_mm.errors import UserError

PACKAGE = Path(__file__).resolve().parent
MIM = PACKAGE / '.mim'
"""Where OpenMMLab's tools expect configs, launchers and model-index.yml inside a package."""
CONFIGS = MIM / 'configs'
"""The configs, in a checkout and in an installation; `coma_mm::NAME` in a config or on a command line is CONFIGS/NAME."""
CHECKOUT = PACKAGE.parent
"""Where README.md and docs/ are, in a checkout alone."""


def write_whole(path: str | Path, content: bytes | memoryview | str) -> None:
    """Write a file so that at any moment, also after a power failure, `path` holds the old content or the new.

    Args:
        path (str | Path): The file. Its folder exists.
        content (bytes-like | str): Text is written as UTF-8.

    Raises:
        OSError: If it cannot be written; what was at `path` is still there, and nothing else is left.
    """
    data = content.encode() if isinstance(content, str) else content
    unfinished = Path(f'{path}.tmp')
    try:
        unfinished.unlink(missing_ok=True)  # of a run that was killed; or a link or a pipe, which are not to be written to
        with open(unfinished, 'xb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        folder = os.open(unfinished.parent, os.O_RDONLY)  # the renaming, too, is to be on the disk
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def open_regular(path: str | Path, buffering: int = -1) -> BinaryIO:
    """Open a file for reading, if it is a regular one or a link to one.

    Reading a pipe waits for a writer, perhaps for ever, and some devices have no end.

    Args:
        path (str | Path): The file.
        buffering (int): As of Python's `open`. Defaults to a buffer.

    Returns:
        BinaryIO: Open, at its beginning.

    Raises:
        OSError: If it cannot be opened; `strerror` says what it is if it is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, 'rb', buffering)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    kind = 'a pipe' if stat.S_ISFIFO(mode) else 'a device'
    raise PermissionError(errno.EPERM, f'It is {kind}, not a file', os.fspath(path))


def read_regular(path: str | Path) -> bytes:
    """The content of a file, if it is a regular one; see `open_regular`."""
    with open_regular(path, buffering=0) as file:
        return file.read()


def read_text(path: str | Path, limit: int = 2**28) -> str:
    """The text of a file that somebody else may have written.

    Args:
        path (str | Path): The file.
        limit (int): How many bytes it may have. Defaults to 256 MiB.

    Returns:
        str: As UTF-8; what is none is replaced.

    Raises:
        OSError: If it cannot be opened, is no regular file, or is larger.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), os.fspath(path))
        return file.read(limit).decode(errors='replace')


def write_metrics(metrics: dict[str, Any], path: str | Path) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        metrics (dict): Of what JSON knows, and numbers of any type.
        path (str): The file; its folder is made.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(metrics, indent=2, default=float) + '\n')


def check_writable(path: str | Path | None) -> None:
    """Look, before hours of work, whether a file can be written at their end; nothing is made.

    Args:
        path (str | Path, optional): The file; its folder may be yet to be made. None is well.

    Raises:
        UserError: If it cannot.
    """
    if path is None:
        return
    file = Path(path).absolute()
    there = next(one for one in (file, *file.parents) if os.path.lexists(one))
    reason = None
    if there == file and file.exists() and not file.is_file():
        reason = 'it is a folder' if file.is_dir() else 'it is no regular file'
    elif there != file and not there.is_dir():
        reason = f'{there} is not a folder'
    elif not os.access(file.parent if there == file else there, os.W_OK | os.X_OK):
        reason = f'no permission to write in {file.parent if there == file else there}'
    if reason:
        raise UserError(f'cannot write {path}: {reason}; expected the name of a file in a folder that can be written to')


@contextmanager
def made_folder(folder: str | Path) -> Iterator[None]:
    """Make a folder; at the end those that were made, its parents too, go again if they are empty.

    Args:
        folder (str | Path): The folder.

    Raises:
        UserError: If it cannot be made.
    """
    path = Path(folder).absolute()
    new = list(takewhile(lambda one: not one.exists(), (path, *path.parents)))
    try:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = 'Not a directory' if isinstance(error, FileExistsError) else error.strerror or error
            raise UserError(f'cannot make the folder {folder}: {reason}; choose another folder') from error
        yield
    finally:
        remove_empty(new)


def remove_empty(folders: Iterable[str | Path]) -> None:
    """Remove those of some folders in which nothing is; inner ones come first."""
    for folder in folders:
        with suppress(OSError):
            os.rmdir(folder)
