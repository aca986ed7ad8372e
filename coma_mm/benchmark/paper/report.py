"""One HTML file with all of it: tables beside the paper's, figures, reconstructions, models, runs."""
import dataclasses
import os
from pathlib import Path

import pandas
from mmengine.config import Config
from mmengine.registry import DATASETS, TASK_UTILS, TRANSFORMS
from mmpretrain.registry import MODELS

from coma_mm import visualization
from coma_mm.benchmark.counting import complexity
from coma_mm.config.registered import check_registered, registered
from coma_mm.config_tree import type_name
from coma_mm.engine.explain import explain
from coma_mm.models.masked_autoencoder import MaskedAutoencoder
from coma_mm.progress import track
from coma_mm.runs.reading import read_run
from coma_mm.visualization import Picture, Section, Table
from coma_mm.visualization.logs import environment

from . import coverage
from .ablation import ablation, logged
from .collect import HOW_TO_FILL, Skipped, collect
from .efficiency import efficiency
from .probes import probes
from .tables import EXPLANATION, build, linked, runs_section

TITLE = 'CoMA and DyViT: the paper’s results and ours'
LINES = 8  # in one figure of losses
RECONSTRUCTIONS = 3  # pre-trainings of which there are pictures
DATA = ('ImageFolder', 'PackedImages', 'LoadImage', 'LoadImageFromFile', 'LoadRandomResizedCrop', 'RandomResizedCrop',
        'RandomHorizontalFlip', 'RandomFlip', 'Resize', 'ResizeEdge', 'CenterCrop', 'PatchMask', 'PackMaskedImage',
        'UniformMaskSampler', 'ColorNoiseMaskSampler', 'BlockMaskSampler')
"""Data sets and steps that a foreign run's config may name for the pictures."""
TASKS = dict(pretraining='Pre-training', classification='Classification', segmentation='Segmentation', detection='Detection')


def run(args):
    """Write the report."""
    out = Path(args.out or Path(args.work_dirs, 'benchmark/report.html'))
    frame, skipped = collect(args.work_dirs)
    visualization.write_report(out, TITLE, summary(frame), sections(frame, skipped, Path(args.work_dirs), out.parent))
    if frame.empty:
        print(HOW_TO_FILL)
    print(f'{out}: {frame["run"].nunique()} runs, {len(skipped)} folders skipped, {out.stat().st_size / 1e6:.1f} MB')


def summary(frame: pandas.DataFrame) -> str:
    """What was found, in plain words."""
    runs = frame.drop_duplicates('run')
    if runs.empty:
        return ('The numbers of the CoMA paper, with a place for ours beside each. There is no run yet, so the cells for '
                f'our numbers are empty.\n\nHow to fill them: {HOW_TO_FILL.removeprefix("no runs: ")}.')
    states = ', '.join(f'{count} {state}' for state, count in runs['status'].value_counts().items())
    tasks = ', '.join(f'{count} of {TASKS[task].lower()}' for task, count in runs['task'].value_counts().items())
    filled = frame[frame['cell'].str.contains('table') & (frame['status'] == 'finished')]['run'].nunique()
    text = f'{len(runs)} run{"s" if len(runs) > 1 else ""} found: {tasks} ({states}).'
    if filled:
        text += f' {filled} of them belong{"s" if filled == 1 else ""} beside a number of the paper’s.'
    else:
        text += (' None of them belongs beside a number of the paper’s, which are all of pre-training on ImageNet-1K and '
                 'fine-tuning at full size: those cells are empty.')
    if (runs['status'] == 'diverged').any():
        text += ' Diverged runs are counted and marked, never averaged.'
    return text


def sections(frame: pandas.DataFrame, skipped: list[Skipped], work_dirs: Path, folder: Path,
             models: tuple[str, ...] = complexity.OF_TABLE_2) -> list[Section]:
    """The parts of the report.

    Args:
        frame (DataFrame): From `collect`, as `skipped`.
        skipped (list[Skipped]): Folders that gave no rows.
        work_dirs (Path): What it was collected from.
        folder (Path): Where the report will be, for its links.
        models (tuple[str]): Names of backbones to count, a few seconds each. Defaults to those of Table 2.
    """
    tables, cited = build(frame)
    *beside, small = map(linked, tables)
    parts = [Section('Beside the paper', f'{EXPLANATION} Heads of columns sort.', beside)]
    if small.rows:
        filled = frame['cell'].str.contains('table').any()
        parts.insert(1 if filled else 0, Section(small.title, 'Ours alone, from pre-trained weights and from scratch.',
                                                 [dataclasses.replace(small, title='')]))
    steps = (
        lambda: Section('Accuracy against pre-training', pictures=[efficiency(frame)]),
        lambda: Section('Ablations', pictures=[ablation(frame, work_dirs)]),
        lambda: _losses(frame, work_dirs),
        lambda: probes(frame, work_dirs),
        lambda: _reconstructions(frame, work_dirs),
        _coverage,
        lambda: _complexity(models),
        lambda: _runs(frame, cited, os.path.relpath(work_dirs, folder)),
        lambda: _skipped(skipped),
        lambda: _environment(frame),
    )
    parts += [step() for step in track(steps, 'Drawing and counting', transient=True)]
    return [part for part in parts if part]


def _losses(frame, work_dirs):
    runs = frame.drop_duplicates('run')
    pictures = []
    runs = runs[[any('loss' in entry for entry in logged(work_dirs / run)[0]) for run in runs['run']] or slice(0)]
    for (task, dataset), group in runs.groupby(['task', 'dataset'], dropna=False, sort=False):
        lines = {}
        for row in group.head(LINES).itertuples():
            name = row.method + ('' if pandas.isna(row.seed) else f', seed {row.seed}')
            name = f'{name} ({Path(row.run).name})' if name in lines else name
            lines[name + (', diverged' if row.status == 'diverged' else '')] = work_dirs / row.run
        what = f'{TASKS[task]}{"" if pandas.isna(dataset) else f", {dataset}"}'
        caption = f'Training loss: {"; ".join(lines)}.'
        if len(group) > LINES:
            caption += f' {LINES} of {len(group)} runs.'
        pictures.append(Picture(visualization.curve_figure(lines, title=what), caption,
                                f'Training loss against iterations of {len(lines)} runs: {what}'))
    return pictures and Section('Loss', pictures=pictures)


def _reconstructions(frame, work_dirs):
    """Of the last pre-trainings that have a checkpoint; why there is none of the others."""
    runs = frame[(frame['task'] == 'pretraining') & frame['checkpoint'].notna()].drop_duplicates('run')
    pictures, notes = [], []
    for row in runs.tail(RECONSTRUCTIONS).itertuples():
        try:
            config = read_run(work_dirs / row.run, row.run).config  # read, not run
            kind = registered(type_name(config['model']), MODELS)
            if not issubclass(kind, MaskedAutoencoder):
                notes.append(f'{row.run}: no picture of {kind.__name__}, which gives no reconstruction as pixels here')
                continue
            model, dataset = visualization.load_for_viewing(_viewable(config), work_dirs / row.checkpoint)
            figure = visualization.reconstruction_figure(model, dataset)
        except Exception as error:  # whatever comes of one run's files, the others have their pictures
            notes.append(f'{row.run}: no picture: {explain(error) or f"{type(error).__name__}: {error}"}')
            continue
        pictures.append(Picture(
            figure, f'{row.run}, {Path(row.checkpoint).name}. {visualization.reconstruction_caption(model)}',
            'Rows of pictures: input, what each branch saw and reconstructed, and the image assembled from both', 900))
    return (pictures or notes) and Section('Reconstructions', 'What pre-trained models make of validation images.',
                                           pictures=pictures, notes=notes)


def _viewable(config: dict) -> Config:
    """What is needed of a run's config to draw its pictures, after a check: the run may come from anywhere.

    Raises:
        UserError: If it names anything but models, and the data sets and steps of the toolkit's own pre-trainings.
    """
    scope = config.get('default_scope', 'mmengine')
    names = ('model', 'data_preprocessor')
    parts = {name: check_registered(config[name], name, scope) for name in names if config.get(name)}
    dataset = check_registered(
        (config.get('val_dataloader') or {}).get('dataset'), 'val_dataloader.dataset', scope,
        [DATASETS, TRANSFORMS, TASK_UTILS], only=DATA, paths=('data_root', 'data_prefix', 'img_path', 'ann_file'))
    return Config(dict(parts, default_scope=scope, val_dataloader=dict(dataset=dataset)))


def _coverage():
    masks, teaching = coverage.measure()
    shares = {name: 100 * drawn.mean(0) for name, drawn in masks.items()}
    rows, columns = next(iter(shares.values())).shape
    alt = 'Heat maps of how often each patch is reconstructed and teaches. Masked: ' + '; '.join(
        f'{name} {share.min():.0f} to {share.max():.0f} % of the iterations' for name, share in shares.items())
    caption = (f'After Fig. 2: for each patch of a {rows}×{columns} grid, the share of iterations in which it was '
               'reconstructed, and in which its error taught the decoder or the encoder; by sampler of masks (rows) and by '
               'what CoMA does with the complement (columns).')
    tables = [
        Table(*coverage.mode_table(teaching), title='What an iteration reconstructs and learns from'),
        Table(*coverage.sampler_table(masks), title='How evenly the samplers cover the image', numbers=8,
              notes=[coverage.explanation(masks) + '.']),
    ]
    return Section('Coverage of patches', tables=tables,
                   pictures=[Picture(coverage.coverage_figure(masks, teaching), caption, alt, 800)])


def _complexity(models):
    if not models:
        return None
    rows = [row for name in models for row, *_ in complexity.count(name)]
    titles, *lines = complexity.cells(rows)
    return Section('Models', 'Backbones of Table 2, counted, not quoted.',
                   [Table(titles, lines, numbers=len(titles) - 2, notes=complexity.notes(rows))])


def _runs(frame, cited, base):
    """Every run, those that the tables cite first and in their order."""
    names = [run['run'] for run in cited]
    others = frame[~frame['run'].isin(names)].drop_duplicates('run').to_dict('records')
    return (cited or others) and runs_section([*cited, *others], base)


def _skipped(skipped):
    rows = [[one.path, one.reason] for one in skipped]
    return rows and Section('Folders that were skipped', tables=[Table(['Folder', 'Reason'], rows)])


def _environment(frame):
    facts = {}
    for name, key in (('Runs: device', 'device'), ('Runs: versions', 'versions')):
        if values := [value for value in frame[key].dropna().unique() if value]:
            facts[name] = '; '.join(values)
    facts |= {f'This report: {name}': value for name, value in environment().items()}
    return Section('Environment', facts=facts)
