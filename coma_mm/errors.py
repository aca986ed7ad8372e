"""Errors that are the user's to mend; the tools print them as one line and exit with code 2."""
import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Bad input: a config, a path, a checkpoint or a data set that cannot be used as given.

    The message is one line and says what is wrong, where, what was expected and what to do. `tools/*.py` print it
    without a traceback and exit with code 2 (`COMA_MM_DEBUG=1` shows the traceback too).
    """


class MissingFileError(UserError, FileNotFoundError):
    """A file that is not there, which others who read it expect as Python's own error."""


class SharedError(UserError):
    """An error that all processes of a run find alike, so one of them says it."""


class BadImageError(UserError):
    """An image file that cannot be decoded (truncated, empty, not an image)."""


class NoDataError(BadImageError):
    """A sample that is mostly without data: training takes another in its place."""


EXIT_STOPPED = 75
"""Exit code of a run that was asked to stop and can be resumed: EX_TEMPFAIL of sysexits.h, "try again later"."""


class Stopped(Exception):
    """A run ended before its time, with all of it saved."""


def printable(text: str) -> str:
    """A text without control characters, whatever a file's name or content brought into it."""
    return ''.join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def first_names(names: Iterable[str]) -> str:
    """The first three of some names."""
    names = list(names)
    return ', '.join(map(printable, names[:3])) + (', …' if len(names) > 3 else '')


def shorten(text: str, limit: int = 2000) -> str:
    """The beginning and the end of a text that is longer than a line should be."""
    return text if len(text) <= limit else f'{text[:limit // 2]} … {text[-limit // 2:]}'


def choice(what: str, value: Any, names: Iterable[str]) -> Any:
    """Check a choice among names.

    Args:
        what (str): What is chosen, and whose setting it is, e.g. 'DyViT: arch'.
        value (Any): What was chosen.
        names (Iterable[str]): The names there are.

    Returns:
        str: The value.

    Raises:
        UserError: If it is none of the names; with the one that is spelt most like it.
    """
    names = list(names)
    if value in names:
        return value
    close = nearest(str(value), names)
    hint = f'; did you mean {close!r}?' if close else ''
    raise UserError(f'{what}={value!r}: expected one of {", ".join(names)}{hint}')


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `names` that is spelt most like `name`, if any is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(names), n=1, cutoff=cutoff)), None)
