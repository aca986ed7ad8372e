"""Tables of runs for a terminal, or for a file or a pipe, where they are as wide as they need."""
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

COLORS = dict(running='green', finished='default', stopped='yellow', failed='red', starting='green')
WIDE = 10_000


def console() -> Console:
    """Standard output."""
    return Console(file=sys.stdout, highlight=False, **({} if sys.stdout.isatty() else dict(width=WIDE)))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), title: str = '') -> Table:
    """A table.

    Args:
        columns (Sequence[str]): Heads.
        rows (Sequence[Sequence[str]]): Cells.
        numbers (Sequence[int]): Which columns are aligned at the right. Defaults to none.
        title (str): Above it. Defaults to ''.

    Returns:
        Table: To be printed by `console`.
    """
    made = Table(box=box.SIMPLE_HEAD, title=Text(title, style='bold') if title else None, title_justify='left',
                 pad_edge=False, show_edge=False)
    for place, name in enumerate(columns):
        made.add_column(Text(name), justify='right' if place in numbers else 'left', overflow='fold')
    for row in rows:
        made.add_row(*(Text(cell, style=COLORS.get(cell, '')) for cell in row))
    return made
