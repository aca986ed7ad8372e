"""Files that are written whole or not at all, and folders that are left only if something is in them."""
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

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
        with open(unfinished, 'wb') as file:
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
