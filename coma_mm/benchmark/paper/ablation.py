"""Fig. 5 from collected runs: masking ratio, reconstruction loss by decoder, decoder depth."""
from pathlib import Path

import matplotlib
import pandas
from matplotlib.figure import Figure

from coma_mm.errors import UserError, printable
from coma_mm.markdown import escaped
from coma_mm.visualization import Picture, read_scalars
from coma_mm.visualization.curves import DASHES
from coma_mm.visualization.style import LINE_COLORS, RC

from .collect import collect
from .series import fine_tunings, series

MARKERS = 'os^D'
LOSS = 'reconstruction/masked'
HOW = dict(
    mask_ratio='tools/train.py configs/coma/…\n--cfg-options mask_sampler.ratio=0.4,\nthen fine-tune',
    loss='tools/train.py configs/coma/…\ntools/train.py configs/ablations/…convnext-decoder…',
    decoder_depth='tools/train.py configs/coma/…\n--cfg-options model.decoder.depth=4,\nthen fine-tune')
DECODERS = dict(ViTDecoder='ViT', ConvNeXtDecoder='ConvNeXt')


def run(args):
    """Draw the figure."""
    frame, _ = collect(args.work_dirs)
    write(ablation(frame, args.work_dirs, args.dataset), Path(args.out or Path(args.work_dirs, 'benchmark')), 'ablation')


def write(picture, folder, name):
    """Write a picture as PNG, its alternative text inside, and as Markdown with its caption.

    Args:
        picture (Picture): With a figure of matplotlib.
        folder (Path): Made if need be.
        name (str): Of the two files, without suffix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture.image.savefig(folder / f'{name}.png', dpi=160, facecolor='white', metadata=dict(Description=picture.alt))
    text = f'![{escaped(picture.alt)}]({name}.png)\n\n{escaped(picture.caption)}\n'
    (folder / f'{name}.md').write_text(text, encoding='utf-8')
    print(f'{printable(picture.caption)}\n{folder / name}.png, .md')


def ablation(frame: pandas.DataFrame, work_dirs: str | Path, dataset: str | None = None) -> Picture:
    """The three panels of Fig. 5.

    Args:
        frame (DataFrame): From `collect`.
        work_dirs (str | Path): What it was collected from.
        dataset (str, optional): Of the accuracy, see `fine_tunings`. Defaults to None.
    """
    rows = fine_tunings(frame, dataset)
    rows = rows[rows['method'] == 'CoMA']
    name = rows['dataset'].iloc[0] if len(rows) else dataset or 'ImageNet-1K'
    told = []
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(4.4, 9.), layout='constrained')
        top, middle, bottom = fig.subplots(3)
        told.append(_accuracy(top, rows, 'mask_ratio', 'Masking ratio, %', name, 100))
        told.append(_losses(middle, frame, Path(work_dirs)))
        told.append(_accuracy(bottom, rows, 'decoder_depth', 'Decoder blocks', name))
    alt = 'Three panels. ' + ' '.join(told)
    return Picture(fig, f'Ablations after Fig. 5. {" ".join(told)} Points are means over seeds, bars their '
                   '95 % confidence intervals; a cross at the bottom is a run that diverged, which no mean includes.', alt)


def logged(folder: Path) -> tuple[list[dict], list[dict]]:
    """What a run logged, see `read_scalars`; nothing, where there is only a test, or no log any more."""
    try:
        return read_scalars(folder)
    except (UserError, OSError):
        return [], []


def _accuracy(ax, rows, x, label, dataset, scale=1):
    """str: What the panel shows, in words."""
    title = dict(mask_ratio='Masking ratio', decoder_depth='Decoder depth')[x]
    lines = sorted(series(rows, x), key=lambda line: line.label, reverse=True)  # ViT first, as in the other panels
    ax.set(title=title, xlabel=label, ylabel=f'Top-1, %, {dataset}')
    if not lines:
        return _empty(ax, title, HOW[x])
    parts = []
    for i, line in enumerate(lines):
        style = dict(color=LINE_COLORS[i % len(LINE_COLORS)], linestyle=DASHES[i % len(DASHES)],
                     marker=MARKERS[i % len(MARKERS)])
        points = line.points
        spread = [float('nan') if p.half_width is None else p.half_width for p in points]  # no bar for a single run
        ax.errorbar([scale * p.x for p in points], [p.mean for p in points], spread, capsize=4, linewidth=2,
                    markersize=6, label=line.label, **style)
        for at in line.diverged:
            ax.plot(scale * at, .03, 'x', color=style['color'], markersize=9, markeredgewidth=2, clip_on=False,
                    transform=ax.get_xaxis_transform())
        parts.append(f'{line.label}: ' + ', '.join(
            [f'{p.mean:.1f}' + ('' if p.half_width is None else f' ± {p.half_width:.1f}') +
             f' at {scale * p.x:g} (n={len(p.runs)})' for p in points]
            + [f'diverged at {scale * at:g}' for at in line.diverged]))
    ax.set_xticks(sorted({scale * at for line in lines for at in [*(p.x for p in line.points), *line.diverged]}))
    ax.margins(.1)
    ax.grid(alpha=.3)
    if len(lines) > 1:
        _legend(ax, title, len(lines))
    return f'{title}, top-1 on {dataset} in per cent: {"; ".join(parts)}.'


def _losses(ax, frame, work_dirs):
    title = 'Reconstruction loss by decoder'
    ax.set(title=title, xlabel='Training iteration', ylabel='Error of validation images')
    runs = frame[frame['task'] == 'pretraining'].drop_duplicates('run')
    runs = runs[runs['decoder'].isin(DECODERS) & (runs['method'] == 'CoMA')]
    # Alike in all but the decoder: of the settings that both were run with, those with the most runs, else of any.
    keys = ['dataset', 'backbone', 'decoder_depth', 'mask_ratio', 'complement', 'epochs', 'global_batch']
    alike = [group for _, group in runs.groupby(keys, dropna=False)]
    if alike:
        runs = max(alike, key=lambda group: (group['decoder'].nunique(), len(group)))
    curves = {}
    for row in runs.itertuples():
        entries = [(entry['step'], entry[LOSS]) for entry in logged(work_dirs / row.run)[1] if LOSS in entry]
        finite = [(step, loss) for step, loss in entries if abs(loss) < float('inf')]
        if finite:
            curves.setdefault(row.decoder, []).append((finite, row.status))
    if not curves:
        return _empty(ax, title, HOW['loss'])
    parts = []
    for i, name in enumerate(sorted(curves, reverse=True)):
        label = f'{DECODERS[name]} decoder'
        for number, (points, status) in enumerate(curves[name]):
            ax.plot(*zip(*points, strict=True), color=LINE_COLORS[i], linestyle=DASHES[i], linewidth=2,
                    label=label if not number else None)
            if status == 'diverged':
                ax.plot(*points[-1], 'x', color=LINE_COLORS[i], markersize=9, markeredgewidth=2)
        ends = ', '.join(f'{loss:.3f} at iteration {step}' + ('' if status == 'finished' else f' ({status})')
                         for (*_, (step, loss)), status in curves[name])
        parts.append(f'{label} ends at {ends}')
    ax.locator_params(axis='x', integer=True)
    ax.grid(alpha=.3)
    _legend(ax, title, len(curves))
    first = runs.iloc[0]
    return (f'{title}, {first["decoder_depth"]} blocks, {first["backbone"]}, {first["dataset"]}, a line per run: '
            f'{"; ".join(parts)}.')


def _legend(ax, title, lines):
    """Put the legend between the title and the panel, where it hides no point."""
    columns = 2 if lines <= 2 else 1
    ax.legend(frameon=False, loc='lower center', bbox_to_anchor=(.5, .99), ncols=columns, borderaxespad=0)
    ax.set_title(title, pad=6 + 16 * -(-lines // columns))


def _empty(ax, title, how):
    ax.set(xticks=[], yticks=[])
    ax.text(.5, .5, f'no run yet:\n{how}', ha='center', va='center', transform=ax.transAxes)
    return f'{title}: no run yet.'
