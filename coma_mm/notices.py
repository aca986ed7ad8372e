"""Warnings of a command's start, held back until it has said what it does: before that they would scroll away."""
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coma_mm.errors import printable
from coma_mm.processes import is_first_process

_held: dict[str, None] | None = None
_owner: int | None = None


def hold(line: str) -> bool:
    """Keep a warning for later, if warnings are held back.

    Args:
        line (str): The warning; it is shown once, however often it comes.

    Returns:
        bool: Whether it is kept; if not, it is to be shown now.
    """
    # A worker process has a copy of what is held, which nobody would ever show.
    if _held is None or os.getpid() != _owner:
        return False
    _held[printable(' '.join(line.split()))] = None
    return True


@contextmanager
def warnings_last(active: bool = True) -> Iterator[None]:
    """While it is entered: warnings, Python's too, wait for `release`, which its end calls as well.

    Args:
        active (bool): False changes nothing. Defaults to True.
    """
    global _held, _owner
    if not active:
        yield
        return
    show = warnings.showwarning

    def show_later(message: Warning, category: type, filename: str, lineno: int, *args: Any, **kwargs: Any) -> None:
        if not hold(f'{message} ({filename}:{lineno})'):
            show(message, category, filename, lineno, *args, **kwargs)

    _held, _owner, warnings.showwarning = {}, os.getpid(), show_later
    try:
        yield
    finally:
        release()
        warnings.showwarning = show


def release() -> None:
    """Show what was held back; from now on warnings are shown as they come."""
    global _held
    lines, _held = _held, None
    if is_first_process():
        for line in lines or ():
            print(f'warning: {line}', flush=True)
