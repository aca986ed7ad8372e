"""Errors that are the user's to mend; the tools print them as one line and exit with code 2."""
import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: a config, a path, a checkpoint or a data set that cannot be used as given.

    The message is one line and says what is wrong, where, what was expected and what to do. `tools/*.py` print it
    without a traceback and exit with code 2 (`COMA_MM_DEBUG=1` shows the traceback too).
    """


class SharedError(UserError):
    """An error that all processes of a run find alike, so one of them says it."""


class BadImageError(UserError):
    """An image file that cannot be decoded (truncated, empty, not an image)."""


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `names` that is spelt most like `name`, if any is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(names), n=1, cutoff=cutoff)), None)
