"""What is under a folder: `coma-mm runs`."""
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from .overview import Overview, overviews
from .tables import console, table
from .words import ended, hours, metric_name, number, point, progress
from .words import time as time_of

COLUMNS = ('Run', 'State', 'Done', 'Metric', 'Last', 'Best', 'Took', 'Left')
SKIPPED = 5  # folders that are named


def show(folder: str | Path, watch: float | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Print the runs under a folder.

    Args:
        folder (str | Path): Where to look, to any depth.
        watch (float, optional): Seconds after which they are printed anew, until Ctrl-C. Defaults to None: once.
        sleep (Callable): Waits for seconds. Defaults to `time.sleep`.

    Raises:
        UserError: If there is no such folder.
    """
    out = console()
    try:
        while True:
            runs, others = overviews(Path(folder))
            if watch and out.is_terminal:
                out.clear()
            _print(out, Path(folder), runs, others)
            if not watch:
                return
            out.print(f'{time.strftime("%H:%M:%S")}, every {watch:g} s; Ctrl-C ends it', style='dim')
            sleep(watch)
    except KeyboardInterrupt:
        return


def _print(out: Console, folder: Path, runs: list[Overview], others: list[tuple[str, str]]) -> None:
    if not runs:
        out.print(f'no run under {folder}; coma-mm train writes them to work_dirs/CONFIG_NAME', markup=False)
    else:
        out.print(table(COLUMNS, [_row(run) for run in runs], numbers=(4, 5, 6, 7)))
    for run in runs:
        if run.why:
            out.print(ended(run), markup=False, soft_wrap=True)
    for name, reason in others[:SKIPPED]:
        out.print(f'{name}: no run ({reason})', markup=False, style='dim', soft_wrap=True)
    if len(others) > SKIPPED:
        out.print(f'and {len(others) - SKIPPED} other folders that are none', style='dim')


def _row(run: Overview) -> list[str]:
    return [run.name, run.state, progress(run), metric_name(run.metric), number(run.last and run.last[1]), point(run.best),
            hours(run), time_of(run.left)]
