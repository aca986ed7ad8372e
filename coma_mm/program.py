"""The start and the end of a process that is one of our commands, without Python's long looks at what the libraries define.

Half a million objects are there once torch and the OpenMMLab libraries are imported. Python's garbage collector goes through
all of them again and again while they are imported, then whenever it collects, and Python takes them apart at the end: that
was half of what `coma-mm` took to start and to end.
"""
import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_started = False
_code: int | None = None


def start() -> None:
    """Say that this process is a command; called before anything else is imported, so that it ends last."""
    global _started
    _started = True
    atexit.register(_end)


@contextmanager
def collect_no_garbage() -> Iterator[None]:
    """Within this block, which imports, no garbage is collected."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def keep_what_is_imported() -> None:
    """In a command, spare the garbage collector what is there by now, which stays until the end."""
    if _started:
        gc.freeze()
        atexit.register(gc.unfreeze)  # at the end libraries complain of what nobody has collected


def end_soon(code: int) -> None:
    """Have a command end with a code as soon as all is done that libraries do at the end, its work being whole.

    Args:
        code (int): The exit code.
    """
    global _code
    _code = code


def _end() -> None:
    """End this process, whose other handlers are done, without taking apart what the system takes back as a whole."""
    if _code is not None:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()  # an error here is shown, and Python ends as ever
        os._exit(_code)
