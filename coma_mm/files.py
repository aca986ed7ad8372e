"""Files that are written whole or not at all, and read if they are files; folders that go again if they are empty."""
import codecs
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from coma_mm.errors import MissingFileError, UserError, shorten

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


def check_writable(path: str, is_folder: bool = False) -> None:
    """See, before the work is done, whether its results can be written. Nothing is left at the path.

    Args:
        path (str): A file, or a folder; neither it nor the folders around it need to be there.
        is_folder (bool): Whether it is a folder. Defaults to False.

    Raises:
        UserError: If it cannot be made there.
    """
    full = Path(path).absolute()
    there = next(one for one in (full, *full.parents) if os.path.lexists(one))
    try:
        (full if is_folder else full.with_name(f'{full.name}.tmp')).exists()  # OSError: a name is too long
        if there == full and not is_folder:
            if full.is_dir() or path.endswith('/'):
                raise IsADirectoryError(errno.EISDIR, 'it is a folder, and a file is expected')
            if full.exists() and not full.is_file():
                raise OSError(errno.EPERM, 'it is no file, but a pipe or a device')
            there = full.parent
        elif not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f'{there} is no folder')
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise UserError(f'cannot write {shorten(path)}: {error.strerror or error}; choose another place') from error


def check_folder(folder: str | Path, expected: str, what: str = '') -> None:
    """Check that there is a folder to read from.

    Args:
        folder (str | Path): The folder.
        expected (str): What it should be, for the message: 'a folder of images'.
        what (str): The option or setting that names it, in front of it. Defaults to none.

    Raises:
        MissingFileError: If there is nothing.
        UserError: If it is no folder.
    """
    if not os.path.isdir(folder):
        kind, state = (UserError, 'is not a folder') if os.path.exists(folder) else (MissingFileError, 'does not exist')
        raise kind(f'{what} {folder} {state}; expected {expected}'.lstrip())


def is_full(error: OSError) -> bool:
    """Whether there is no room for what was to be written: on the disk, in a quota, or by a limit of the file's size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def looks_like(start: bytes) -> str:
    """What a file is by its first bytes, for messages about one that is not what its name says.

    Args:
        start (bytes): A thousand of them are plenty.

    Returns:
        str: For example 'a JPEG image'; 'data of an unknown kind' for what is none of the usual ones.
    """
    if not start.strip():
        return 'blank' if start else 'empty'
    for beginning, kind in _BEGINNINGS:
        if re.match(beginning, start, re.DOTALL):
            return kind
    try:
        text, _ = codecs.utf_8_decode(start, 'strict', False)  # its last letter may be cut
    except UnicodeDecodeError:
        text = '\0'
    is_text = all(letter.isprintable() or letter.isspace() for letter in text)
    return 'a text' if is_text else 'data of an unknown kind'


_BEGINNINGS = (
    (rb'\xff\xd8\xff', 'a JPEG image'), (rb'\x89PNG', 'a PNG image'), (rb'II\*\0|MM\0\*|II\+\0|MM\0\+', 'a TIFF image'),
    (rb'GIF8', 'a GIF image'), (rb'BM.{4}\0{4}', 'a BMP image'), (rb'RIFF.{4}WEBP', 'a WebP image'),
    (rb'.{4}ftyp(avif|avis)', 'an AVIF image'), (rb'.{4}ftyp(hei|hev|mif|msf)', 'a HEIC image'), (rb'.{4}ftyp', 'a video'),
    (rb'\0\0\0\x0cjP  |\xff\x4f\xff\x51', 'a JPEG 2000 image'), (rb'8BPS', 'a Photoshop file'), (rb'%PDF', 'a PDF'),
    (rb'%!PS', 'a PostScript file'), (rb'\x89HDF', 'an HDF5 file'), (rb'\x93NUMPY', 'an array of NumPy'),
    (rb'PK\x03\x04|PK\x05\x06', 'a zip archive'), (rb'\x1f\x8b', 'a gzip archive'), (rb'7z\xbc\xaf', 'a 7-Zip archive'),
    (rb'.{257}ustar', 'a tar archive'), (rb'.{6}\0\0\{"', 'a .safetensors file'), (rb'\x80[\x02-\x05]', 'a pickle'),
    (rb'version https://git-lfs', 'a pointer of Git LFS, which `git lfs pull` exchanges for the file itself'),
    (rb'\s*<(!doctype html|!DOCTYPE html|!DOCTYPE HTML|html|HTML)', 'a page of the web, as a failed download leaves it'),
    (rb'\s*<', 'XML'), (rb'\s*[{\[]\s*["{\[\d]', 'JSON'))
"""How files of the kinds begin that people mistake for others."""


def write_metrics(metrics: dict[str, Any], path: str | Path) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        metrics (dict): Of what JSON knows, and numbers of any type.
        path (str): The file; its folder is made.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(metrics, indent=2, default=float) + '\n')


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
