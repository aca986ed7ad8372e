"""Libraries that only some files need."""
import logging
from importlib import import_module
from types import ModuleType
from typing import Any, BinaryIO


def need(module: str, package: str, extra: str, what: str) -> ModuleType:
    """Import a library that only some files need.

    Raises:
        ImportError: If it is not installed; with the command that does it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'reading {what} needs the library {package} ({error}): pip install {package}, or '
                          f"pip install 'coma-mm[{extra}]'") from None


def open_tiff(file: str | BinaryIO) -> Any:
    """tifffile's `TiffFile`, without what it logs: what it finds wrong it raises, or it does not matter."""
    import tifffile  # which takes its time, and few data sets need it
    logging.getLogger('tifffile').addFilter(_silent)
    return tifffile.TiffFile(file)


def _silent(_: logging.LogRecord) -> bool:
    return False
