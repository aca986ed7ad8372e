"""Libraries that only some files need."""
from importlib import import_module
from types import ModuleType


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
