"""A line of what was found, and how to get one whatever happens."""
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from coma_mm.errors import UserError, printable, shorten

OK, LOOK, BAD = 'ok', 'look', 'bad'


class Finding(NamedTuple):
    """What was found of one thing.

    Args:
        mark (str): `OK`; `LOOK`, it works and may be slow, or fail later; or `BAD`, it does not work.
        name (str): Of the thing.
        found (str): What was found of it.
        remedy (str): What to do. Defaults to nothing, for what is fine.
    """
    mark: str
    name: str
    found: str
    remedy: str = ''

    def __str__(self) -> str:
        remedy = f'; {self.remedy}' if self.remedy else ''
        return printable(shorten(f'{self.mark:4}  {self.name}: {self.found}{remedy}', 1000))


def examine(checks: Iterable[tuple[str, Callable[[], Finding]]]) -> Iterator[Finding]:
    """Do checks, and let none of them end the others.

    Args:
        checks (Iterable[tuple]): The name of each, and a function that gives what it finds.

    Yields:
        Finding: Of each check; a check that fails by itself is bad, with its error.
    """
    for name, check in checks:
        try:
            yield check()
        except UserError as error:
            yield Finding(BAD, name, str(error))
        except (Exception, SystemExit) as error:
            yield Finding(BAD, name, f'not to be found out: {one_line(error)}', 'mend what this names, or what is bad above')


def one_line(error: BaseException) -> str:
    """An error as a line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {shorten(text, 300)}' if text else type(error).__name__
