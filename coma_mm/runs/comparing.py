"""Runs side by side: `coma-mm compare`."""
from collections.abc import Sequence
from os.path import commonpath
from pathlib import Path

from coma_mm.errors import UserError, printable

from .overview import Overview, differing, run_of
from .tables import console, table
from .words import NOTHING, hours, metric_name, number, point, progress, setting, time

ROWS = 24
"""Validations that are shown; of more, some evenly spread, and the last."""


def show(paths: Sequence[str], metric: str | None = None) -> None:
    """Print two or more runs side by side.

    Args:
        paths (Sequence[str]): Work_dirs, or checkpoints in them.
        metric (str, optional): The metric whose curve is shown. Defaults to that which the first run is judged by.

    Raises:
        UserError: If there is one path alone, one is no run, or none has such a metric.
    """
    if len(paths) < 2:
        raise UserError(f'compare needs two runs or more, and {printable(" ".join(map(str, paths)))} is one; name another')
    found = [run_of(path) for path in paths]
    runs, marks = [run for run, _ in found], [mark for _, mark in found]
    names = short_names(paths)
    name, curves = curves_of(runs, metric)
    out = console()
    out.print(table(['', *names], facts(runs)))
    rows = [[key, *(setting(value, 40) for value in values)] for key, values in differing(runs).items()]
    if rows:
        out.print('', table(['Setting', *names], rows, title='Settings that differ'))
    else:
        out.print('\nNo setting differs.')
    units = {run.unit for run, curve in zip(runs, curves, strict=True) if curve}
    if len(units) > 1:
        out.print('One counts epochs and another iterations, so there is no table of their curves.')
    elif units:
        unit = units.pop()
        out.print('', table([unit.capitalize(), *names], by_step(curves, marks),
                        numbers=range(len(names) + 1), title=f'{metric_name(name)} by {unit}'))
    lacking = [label for label, curve in zip(names, curves, strict=True) if not curve]
    if lacking and name:
        out.print(f'No {metric_name(name)} of {", ".join(lacking)}.', markup=False)


def short_names(paths: Sequence[str]) -> list[str]:
    """The paths without the folders that all of them are in."""
    absolute = [Path(path).absolute() for path in paths]
    shared = commonpath([path.parent for path in absolute])
    names = [printable(str(path.relative_to(shared))) for path in absolute]
    return [name if names.count(name) == 1 else f'{name} ({number})' for number, name in enumerate(names, 1)]


def facts(runs: Sequence[Overview]) -> list[list[str]]:
    """What is said of each run, a row to a fact."""
    lines = {
        'State': [run.state for run in runs],
        'Task': [run.task or NOTHING for run in runs],
        'Data': [run.data or NOTHING for run in runs],
        'Metric': [metric_name(run.metric) for run in runs],
        'Best': [point(run.best) for run in runs],
        'Last': [point(run.last) for run in runs],
        'Done': [progress(run) for run in runs],
        'Took': [hours(run) for run in runs],
        'Left': [time(run.left) for run in runs],
        'Images/s': [number(run.images_per_s) for run in runs],
        'GPU memory, GiB': [number(run.run and run.run.peak_memory_gb) for run in runs],
        'Why': [run.why or NOTHING for run in runs],
    }
    return [[name, *values] for name, values in lines.items() if {*values} != {NOTHING}]


def curves_of(runs: Sequence[Overview], metric: str | None = None) -> tuple[str | None, list[list[tuple[int, float]]]]:
    """The curves of one metric.

    Raises:
        UserError: If no run has the one that is asked for.
    """
    if metric is None:
        metric = next((run.metric for run in runs if run.curves), None)
    elif not any(metric in run.curves for run in runs):
        there = dict.fromkeys(name for run in runs for name in run.curves)
        raise UserError(f'--metric={metric}: these runs have none of that name; they have {", ".join(there) or "none"}')
    return metric, [run.curves.get(metric, []) for run in runs]


def by_step(curves: Sequence[list[tuple[int, float]]], marks: Sequence[int | None] = ()) -> list[list[str]]:
    """A row for each time at which there was a validation, the same times in the same row, and a mark at checkpoints."""
    values = [dict(curve) for curve in curves]
    steps = sorted({step for curve in values for step in curve})
    marked = {mark for mark in marks if mark is not None}
    if len(steps) > ROWS:
        shared = [step for step in steps if all(step in curve for curve in values if curve)] or steps
        kept = {shared[round(place * (len(shared) - 1) / (ROWS - 1))] for place in range(ROWS)}
        steps = [step for step in steps if step in kept | marked | {curve[-1][0] for curve in curves if curve}]
    marks = [*marks, *[None] * (len(curves) - len(marks))]
    return [[str(step), *(number(curve.get(step)) + (' ←' if mark == step else '')
                          for curve, mark in zip(values, marks, strict=True))] for step in steps]
