"""Fig. 1 from collected runs and the paper's points; what the evaluation model costs in memory."""
import json
from pathlib import Path

import matplotlib
import pandas
from matplotlib.figure import Figure

from coma_mm.benchmark.counting.complexity import parts
from coma_mm.benchmark.counting.counting import measure
from coma_mm.errors import UserError
from coma_mm.files import CONFIGS as FOLDER
from coma_mm.markdown import markdown_table
from coma_mm.progress import track
from coma_mm.visualization import Picture
from coma_mm.visualization.style import LINE_COLORS, RC

from .ablation import MARKERS, write
from .collect import collect
from .numbers import paper, row_of
from .series import fine_tunings, series

AREA_PER_HOUR = 4.  # of a marker, in pt²
SHORT = 30.  # pt²: of the smallest marker, and where the time is not known
BATCH = 512  # images per process at the paper's scale: 4096 on eight, or on four in two batches
CONFIGS = (
    ('CoMA, DyViT-B', 'coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k', {}),
    ('MAE, DyViT-B', 'mae/mae_dyvit-base_8xb512-amp-coslr-300e_in1k', {}),
    ('MAE, ViT-B, 60 % masked', 'mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k', {'model.backbone.mask_ratio': .6}),
    ('MAE, ViT-B, 75 % masked', 'mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k', {}),
)
"""Name, config and options of the pre-trainings whose memory is compared."""
MEASURED = 'pretrain/mae-vit'  # the peer in speed.json: MAE with ViT at CoMA's masking ratio


def run(args):
    """Draw the figure, and make the table."""
    frame, _ = collect(args.work_dirs)
    out = Path(args.out or Path(args.work_dirs, 'benchmark'))
    write(efficiency(frame, args.dataset), out, 'efficiency')
    if args.memory:
        speed = max(Path(args.work_dirs, 'benchmark').glob('*/speed.json'), default=None,
                    key=lambda path: path.stat().st_mtime)
        text = memory_tables(count_memory(), read_speed(speed) if speed else {})
        (out / 'memory.md').write_text(text, encoding='utf-8')
        print(f'\n{text}\n{out / "memory.md"}')


def efficiency(frame: pandas.DataFrame, dataset: str | None = None) -> Picture:
    """Accuracy against epochs of pre-training: collected runs, filled, and for ImageNet-1K the paper's points, hollow.

    Args:
        frame (DataFrame): From `collect`.
        dataset (str, optional): Of the accuracy, see `fine_tunings`. Defaults to None.
    """
    rows = fine_tunings(frame, dataset)
    dataset = rows['dataset'].iloc[0] if len(rows) else dataset or 'ImageNet-1K'
    hours = frame[frame['task'] == 'pretraining'].drop_duplicates('run').set_index('run')['hours'].to_dict()
    points = []  # (name, epochs, accuracy, half width of its interval, hours, whether it is the paper's)
    diverged = []
    for line in series(rows, 'pretrain_epochs', several=False):
        for point in line.points:
            known = [hours[one] for one in rows[rows['run'].isin(point.runs)]['pretrain_run'] if hours.get(one)]
            time = sum(known) / len(known) if known else None
            points.append((line.label, point.x, point.mean, point.half_width, time, False))
        diverged += [(line.label, at) for at in line.diverged]
    if dataset == 'ImageNet-1K':
        points += [(f'{one["method"]}, {one["backbone"]}', one['epochs'], row_of(one['cell'])['accuracy/top1'], None,
                    one.get('hours'), True)
                   for one in paper()['figure1']['points']]
    names = list(dict.fromkeys(point[0] for point in points) | dict.fromkeys(name for name, _ in diverged))
    looks = {name: dict(color=LINE_COLORS[i % len(LINE_COLORS)], marker=MARKERS[i % len(MARKERS)])
             for i, name in enumerate(names)}
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(4.4, 4.), layout='constrained')
        ax = fig.subplots()
        for name, epochs, accuracy, half, time, of_paper in points:
            look = looks[name]
            area = SHORT if time is None else max(SHORT, AREA_PER_HOUR * time)
            if half is not None:
                ax.errorbar(epochs, accuracy, half, color=look['color'], capsize=4)
            ax.scatter(epochs, accuracy, area, marker=look['marker'], edgecolors=look['color'], linewidths=2,
                       facecolors='white' if of_paper else look['color'], zorder=3)
            if time is not None:
                ax.annotate(_hours(time), (epochs, accuracy), (6 + area**.5 / 2, 0), textcoords='offset points', va='center')
        for name, at in diverged:
            ax.plot(at, .03, 'x', color=looks[name]['color'], markersize=9, markeredgewidth=2,
                    transform=ax.get_xaxis_transform())
        for name, look in looks.items():
            hollow = all(point[-1] for point in points if point[0] == name)
            ax.scatter([], [], 40, label=name, marker=look['marker'], edgecolors=look['color'], linewidths=2,
                       facecolors='white' if hollow else look['color'])
        ax.set(xlabel='Epochs of pre-training', ylabel=f'Top-1, %, {dataset}')
        ax.locator_params(axis='x', integer=True)
        if any(point[-1] for point in points):
            ax.set_title('filled: runs here; hollow: the paper\'s', fontsize=9, loc='left')
        ax.margins(.18)
        ax.set_xlim(left=0)
        ax.grid(alpha=.3)
        if names:
            fig.legend(frameon=False, loc='outside upper left', ncols=2, fontsize=9)
        if not len(rows):
            ax.text(.97, .04, 'no run here yet: docs/recipes.md', ha='right', transform=ax.transAxes)
    told = '; '.join(
        f'{name}{" (paper)" if of_paper else ""}: {accuracy:.1f}{"" if half is None else f" ± {half:.1f}"} after {epochs:g} '
        'epochs' + ('' if time is None else f', {_hours(time)}') for name, epochs, accuracy, half, time, of_paper in points)
    told += ''.join(f'; {name}: diverged at {at:g} epochs' for name, at in diverged)
    caption = (f'After Fig. 1. Top-1 accuracy on {dataset} in per cent: {told or "no run yet"}. Filled: collected runs, '
               'means over seeds with their 95 % confidence intervals. Hollow: the paper\'s. The area of a marker is the '
               'time of the whole pre-training; the smallest ones are of less than eight hours or of unknown time.')
    return Picture(fig, caption, f'Accuracy against epochs of pre-training, {dataset}. {told or "No run yet"}.')


def _hours(time):
    if time >= 1:
        return f'{time:.3g} h'
    return f'{60 * time:.2g} min' if time >= 1 / 60 else f'{3600 * time:.0f} s'


def count_memory(configs=CONFIGS) -> list[dict]:
    """Memory of pre-trainings, see `CONFIGS`, at the paper's scale: their name and what `measure` gives."""
    rows = []
    for name, config, options in track(configs, 'Counting', transient=True):
        cfg, model, forward, ratio = parts(str(FOLDER / f'{config}.py'), 224, BATCH, options)[1]
        evaluation = getattr(model, 'evaluation', None)
        copy = sum(value.nbytes for value in evaluation.buffers()) if evaluation is not None else 0
        rows.append(dict(name=name, evaluation_bytes=copy,
                         **measure(model, BATCH, 224, ratio, cfg['precision'] == 'bf16', forward)))
    return rows


def read_speed(path: Path) -> dict:
    """Measured steps.

    Raises:
        UserError: If the file is none that tools/benchmark.py speed writes.
    """
    try:
        speed = json.loads(path.read_text(encoding='utf-8'))
        speed['rows'] = [row for row in speed['rows'] if row['name'].startswith('pretrain/') and row.get('seconds')]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'cannot read {path}: {error}; expected a speed.json of tools/benchmark.py speed') from error
    return speed


def memory_tables(counted: list[dict], measured: dict) -> str:
    """Markdown: counted memory at the paper's scale, and measured memory and time.

    Args:
        counted (list[dict]): From `count_memory`.
        measured (dict): From `read_speed`; empty if nothing was measured.
    """
    keys = ('state_bytes', 'evaluation_bytes', 'saved_bytes', 'step_peak_bytes')
    rows = [[row['name'], *(f'{row[key] / 2**30:.2f}' if row[key] else 'none' for key in keys)] for row in counted]
    header = ['pre-training', 'state', 'of which evaluation model', 'saved for backward', 'peak of a step']
    text = (f'### At the paper\'s scale: batch {BATCH} of 224 px, bf16, counted from shapes, in GiB\n\n'
            f'{markdown_table(header, rows, 4)}\n'
            'State: weights, gradients, AdamW\'s moments and the evaluation model. No time was measured at this scale.\n\n')
    groups = {}
    for row in measured.get('rows', ()):
        groups.setdefault((row['arch'], row['batch'], row['size'], row['precision'], row['compiled']), []).append(row)
    if not groups:
        return text + ('Measured steps: none yet; they are made by '
                       '`python tools/benchmark.py speed --device cpu --only \'pretrain/*\'`.\n')
    header = ['pre-training', 'weights and moments, MiB', 'peak of a step, MiB', 'time of a step, s', 'memory, against MAE',
              'memory × time, against MAE']
    for (arch, batch, size, precision, compiled), members in groups.items():
        peer = next((row for row in members if row['name'] == MEASURED), None)
        rows = []
        for row in members:
            against = ['', '']
            if peer:
                memory = _peak(row) / _peak(peer)
                speed = row['ratios'].get(MEASURED, peer['median_seconds'] / row['median_seconds'])
                against = [f'{memory:.2f}', f'{memory / speed:.2f}']
            rows.append([row['title'], f'{(row["weight_bytes"] + row["optimizer_bytes"]) / 2**20:.0f}',
                         f'{_peak(row) / 2**20:.0f}', f'{row["median_seconds"]:.3f}', *against])
        facts = ('Processor', 'GPU', 'System', 'Versions', 'Threads', 'Commit', 'Seed')
        text += (f'### Measured: DyViT and ViT, {arch}, batch {batch} of {size} px, {precision}'
                 f'{", compiled" if compiled else ""}\n\n{markdown_table(header, rows, 5)}\n'
                 'Peak: weights and moments, and the most that a step allocates above them. Medians of '
                 f'{len(members[0]["seconds"])} interleaved repeats; MAE is MAE ViT at the same masking ratio, 60 %. '
                 f'{"; ".join(f"{key}: {measured[key]}" for key in facts if measured.get(key) not in (None, ""))}.\n\n')
    return text


def _peak(row):
    return row['weight_bytes'] + row['optimizer_bytes'] + row['step_bytes']
