"""A page about one's own runs: how good they are, how they went and differ, by class, in pictures."""
import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from mmengine.config import Config
from pandas import DataFrame

from coma_mm import visualization
from coma_mm.benchmark.paper.collect import collect
from coma_mm.benchmark.paper.probes import probes_of
from coma_mm.benchmark.paper.tables import EXPLANATION, build
from coma_mm.datasets.usage import many
from coma_mm.engine.explain import explain
from coma_mm.errors import UserError, printable
from coma_mm.evaluation.reconstruction_pictures import NAME as RECONSTRUCTIONS
from coma_mm.evaluation.reconstruction_pictures import pictures_in
from coma_mm.runs.comparing import short_names
from coma_mm.runs.overview import Overview, differing, overviews
from coma_mm.runs.reading import starts_in
from coma_mm.runs.words import NOTHING, ended, hours, metric_name, number, point, progress, setting
from coma_mm.visualization import Cell, Picture, Section, Table
from coma_mm.visualization.judged import judge
from coma_mm.visualization.results import class_figure, confusion_figure, lines_figure

TITLE = 'Your runs'
LINES = 8
"""Runs in a figure of curves, the best ones."""
BARS = 3
"""Runs in a figure of bars."""
SETTINGS = 40
DRAWN = 6
"""Pictures that a run has drawn itself, the last ones."""
SHOWN = 3
"""Predictions that are shown, of the good and of the bad ones each."""
FIGURES = dict(segmentation=visualization.segmentation_figure, classification=visualization.classification_figure,
               detection=partial(visualization.detection_figure, max_detections=12))
JUDGED = dict(segmentation='the mean IoU of their classes', classification='the probability of the truth',
              detection='F1 of their boxes that overlap by half, at scores of 0.3 and more')
ORDER = ('segmentation', 'detection', 'classification', 'pre-training')


def write(work_dirs: str | Path, out: str | Path, predictions: int = 0) -> str:
    """Write the page.

    Args:
        work_dirs (str | Path): Where the runs are, at any depth.
        out (str | Path): The HTML file.
        predictions (int): Validation images that the best run of each task predicts, of which the good and the bad ones are
            shown; no model is run for 0, the default.

    Returns:
        str: What was written, in a line.

    Raises:
        UserError: If there is no such folder, or neither a run nor a test in it.
    """
    work_dirs, out = Path(work_dirs), Path(out)
    runs, others = overviews(work_dirs)
    frame, _ = collect(work_dirs)
    if not runs and frame.empty:
        seen = f' ({many(len(others), "folder")} without one, as {": ".join(others[0])})' if others else ''
        raise UserError(f'no run under {printable(str(work_dirs))}{seen}; expected work_dirs of trainings, such as coma-mm '
                        'train writes')
    parts = sections(runs, others, out.parent, predictions) + [folded_tables(frame)]
    visualization.write_report(out, TITLE, summary(runs), parts)
    return f'{out}: {many(len(runs), "run")}, {len(others)} other folders, {out.stat().st_size / 1e6:.1f} MB'


def summary(runs: Sequence[Overview]) -> str:
    """What was found, in a sentence or two."""
    if not runs:
        return 'There are tests alone, which are in the tables below.'
    states = Counter(run.state for run in runs)
    text = f'{many(len(runs), "run")}: {", ".join(f"{count} {state}" for state, count in states.items())}.'
    for (task, metric), group in grouped(runs).items():
        if group[0].best and task:
            text += f' {task.capitalize()}: {metric_name(metric)} {number(group[0].best[1])}, {group[0].name}.'
    return text


def grouped(runs: Iterable[Overview]) -> dict[tuple[str, str | None], list[Overview]]:
    """Runs by task and metric, in each the best one first; what has no metric yet comes last."""
    groups = {}
    for run in runs:
        groups.setdefault((run.task, run.metric), []).append(run)

    def rank(run: Overview) -> tuple[bool, float]:
        return run.best is None, 0 if run.best is None else -run.best[1] if run.higher else run.best[1]

    def place(key: tuple[str, str | None]) -> tuple[int, bool]:
        return (ORDER.index(key[0]) if key[0] in ORDER else len(ORDER)), key[1] is None

    return {key: sorted(groups[key], key=rank) for key in sorted(groups, key=place)}


def sections(runs: Sequence[Overview], others: Sequence[tuple[str, str]], folder: Path,
             predictions: int = 0) -> list[Section]:
    """The parts of the page about the runs.

    Args:
        runs (Sequence[Overview]): The runs.
        others (Sequence[tuple[str, str]]): Folders that are none, and why.
        folder (Path): Where the page will be, for its links.
        predictions (int): See `write`. Defaults to 0.
    """
    groups = grouped(runs)
    found = [
        Section('Results', tables=[_table(*key, group, folder) for key, group in groups.items()],
                notes=[ended(run) for run in runs if run.why]),
        Section('Curves', pictures=[one for key, group in groups.items() for one in _curves(*key, group)]),
        probes_of({run.name: run.folder for run in runs if any(name.startswith('probe/') for name in run.curves)}),
        Section('By class', pictures=[one for key, group in groups.items() for one in _classes(key[0], group)]),
        _predictions(groups, predictions),
        Section('Settings that differ', tables=[one for key, group in groups.items() for one in _settings(*key, group)]),
        Section('Folders that are no runs', folded=True,
                tables=[Table(['Folder', 'Reason'], [list(one) for one in others])] if others else []),
    ]
    return [one for one in found if one and (one.tables or one.pictures or one.notes)]


def folded_tables(frame: DataFrame) -> Section:
    """The paper's tables, with these runs, see `collect`, where they belong."""
    tables, _ = build(frame)
    plain = [dataclasses.replace(table, columns=table.columns[:-1], rows=[row[:-1] for row in table.rows],
                                 numbers=max(0, table.numbers - 1)) if table.columns[-1] == 'runs' else table
             for table in tables if table.rows]
    return Section('The paper’s tables',
                   f'{EXPLANATION} coma-mm report --paper writes all of that page, with figures and the runs behind it.',
                   plain, folded=True)


def _name(task: str, metric: str | None) -> str:
    return ', '.join(filter(None, [task.capitalize() or 'Just started', metric_name(metric) if metric else '']))


def _table(task: str, metric: str | None, group: list[Overview], folder: Path) -> Table:
    """The results of a group; what a phone has room for comes first."""
    rows = []
    for run in group:
        files = {'log': run.run and run.run.log, 'checkpoint': run.run and run.run.checkpoint}
        links = {name: quote(os.fsencode(os.path.relpath(path, folder))) for name, path in files.items() if path}
        best, last = run.best, run.last
        rows.append([
            run.name,
            Cell(number(best and best[1])), Cell(number(last and last[1])), point(best).partition(' @ ')[2] or NOTHING,
            Cell(progress(run).removesuffix(' ep.').removesuffix(' it.'), order=run.done),
            Cell(hours(run), order=run.hours), number(run.images_per_s), run.state, run.data or NOTHING,
            Cell(links=links)])
    unit = 'Epochs' if group[0].unit == 'epoch' else 'Iterations'
    columns = ['Run', 'Best', 'Last', 'Best at', unit, 'Took', 'Images/s', 'State', 'Data', 'Files']
    # The first is the best, and so are those that equal it.
    top = group[0].best if len(rows) > 1 else None
    best = {(row, 1) for row, run in enumerate(group) if top and run.best and run.best[1] == top[1]}
    return Table(columns, rows, _name(task, metric), numbers=range(1, 7), bold=best)


def _labels(group: Sequence[Overview]) -> list[str]:
    return short_names([str(run.folder) for run in group])


def _curves(task: str, metric: str | None, group: list[Overview]) -> list[Picture]:
    """The metric and the loss, each of all runs over each other."""
    names, pictures = _labels(group), []
    for what, points in ((metric, 'curve'), ('loss', 'losses')):
        lines = [(name, getattr(run, points), run.unit) for name, run in zip(names, group, strict=True)
                 if len(getattr(run, points)) > (what == metric)]
        if not lines or what == metric == 'loss':
            continue
        unit = lines[0][2]
        lines = {name: line for name, line, counted in lines if counted == unit}
        shown = dict(list(lines.items())[:LINES])
        caption = f'{task.capitalize()}: {"training loss" if what == "loss" else metric_name(what)} by {unit}'
        caption += f', of {LINES} of {len(lines)} runs.' if len(lines) > LINES else '.'
        figure = lines_figure(shown, unit.capitalize(), 'training loss' if what == 'loss' else metric_name(what))
        pictures.append(Picture(figure, caption, f'{caption} Lines of {len(shown)} runs'))
    return pictures


def _classes(task: str, group: list[Overview]) -> list[Picture]:
    """Bars of the best runs that noted their classes, and the confusion of the best of them."""
    noted = [(name, run) for name, run in zip(_labels(group), group, strict=True) if run.classes]
    if not noted:
        return []
    classes = noted[0][1].classes['classes']
    alike = [(name, run) for name, run in noted if run.classes['classes'] == classes][:BARS]
    wanted = ('IoU', 'mask AP', 'box AP', 'top-1')
    values = alike[0][1].classes['values']
    what = next((name for name in wanted if name in values), next(iter(values), None))
    if what is None:
        return []
    rows = {name: run.classes['values'][what] for name, run in alike if what in run.classes['values']}
    caption = f'{task.capitalize()}: {what} by class at the last validation, of {", ".join(rows)}.'
    pictures = [Picture(class_figure(classes, rows, what), caption, f'Bars: {caption}')]
    name, run = alike[0]
    if run.classes.get('confusion'):
        caption = f'{task.capitalize()}: of {name}, what the images of each class (rows) are taken for, in per cent.'
        pictures.append(Picture(confusion_figure(classes, run.classes['confusion']), caption, f'Confusion: {caption}'))
    return pictures


def _settings(task: str, metric: str | None, group: list[Overview]) -> list[Table]:
    found = differing(group)
    if not found:
        return []
    columns = ['Setting', *_labels(group)]
    rows = [[key, *(setting(value, 40) for value in values)] for key, values in found.items()]
    notes = [f'and {len(rows) - SETTINGS} others; coma-mm compare shows all'] if len(rows) > SETTINGS else []
    return [Table(columns, rows[:SETTINGS], f'{_name(task, metric)}: what differs', notes=notes)]


def _predictions(groups: dict[tuple[str, str | None], list[Overview]], images: int) -> Section | None:
    pictures, notes, bare = [], [], False
    for (task, _), group in groups.items():
        if images and group[0].run:
            try:
                pictures += _judged(task, group[0], images)
            except Exception as error:  # of a run's files or data; the page is about more than its pictures
                notes.append(f'{group[0].name}: no predictions: {explain(error) or f"{type(error).__name__}: {error}"}')
        drawn = _drawn(group[0])
        pictures, bare = pictures + drawn, bare or not drawn
    if not images and bare:
        notes = ['coma-mm report --predictions 40 has the best run of each task predict 40 validation images, and shows the '
                 'good and the bad ones here.']
    return Section('Predictions', pictures=pictures, notes=notes)


def _judged(task: str, run: Overview, images: int) -> list[Picture]:
    """What the best run makes of validation images, the good ones and the bad ones."""
    if task not in FIGURES and task != 'pre-training':
        return []
    config = next(start / 'vis_data/config.py' for start in reversed(starts_in(run.folder))
                  if (start / 'vis_data/scalars.json').is_file())
    best = sorted(run.folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    checkpoint = best[-1] if best else run.run.checkpoint
    if checkpoint is None:
        raise FileNotFoundError(f'no checkpoint in {run.folder}')
    model, dataset = visualization.load_for_viewing(Config.fromfile(config), checkpoint)
    if task == 'pre-training':
        return [Picture(visualization.reconstruction_figure(model, dataset),
                        f'{run.name}, {checkpoint.name}. {visualization.reconstruction_caption(model)}',
                        'Rows of pictures: input, what each branch saw and reconstructed', 900)]
    scores = judge(model, dataset, images)
    shown = min(SHOWN, len(scores) // 2) or len(scores)
    parts = {'good': scores[:shown], 'bad': scores[::-1][:shown]} if len(scores) > 1 else {'only': scores}
    pictures = []
    for name, part in parts.items():
        values = ', '.join(f'{score:.2f}' for score, _ in part)
        caption = (f'{run.name}, {checkpoint.name}: {name} ones of {len(scores)} validation images, by {JUDGED[task]}: '
                   f'{values}.')
        figure = FIGURES[task](model, dataset, number=[index for _, index in part])
        pictures.append(Picture(figure, caption, f'Predictions beside the truth, {name} ones', 500))
    return pictures


def _drawn(run: Overview) -> list[Picture]:
    """The last pictures that a hook has drawn while the run validated; of reconstructions the first one and the last."""
    folders = [start / 'vis_data/vis_image' for start in starts_in(run.folder)]
    if made := [file for folder in folders for file in pictures_in(folder)]:
        return [Picture(file, f'{run.name}: {RECONSTRUCTIONS} after {file.stem.rpartition("_")[2]} iterations, drawn by the '
                              'run. Grey patches are hidden.', 'Rows of pictures: input, what each branch saw and '
                              'reconstructed', 500) for file in dict.fromkeys((made[0], made[-1]))]
    files = sorted((file for folder in folders for file in folder.glob('*.png')), key=lambda file: file.stat().st_mtime)
    return [Picture(file, f'{run.name}: {file.stem}, drawn by the run.', f'A prediction, {file.stem}')
            for file in files[-DRAWN:]]
