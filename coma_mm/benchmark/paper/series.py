"""Points of a curve from collected runs: mean and spread over seeds of runs that differ in nothing else."""
from dataclasses import dataclass, field

import pandas

from coma_mm.benchmark.statistics import half_width

from .collect import COPY

KEYS = ('method', 'backbone', 'pretrain_epochs', 'complement', 'mask_ratio', 'mask_sampler', 'decoder', 'decoder_depth',
        'epochs', 'image_size', 'global_batch')
"""What a fine-tuning and its pre-training are compared by."""
WORDS = dict(pretrain_epochs='{} epochs', complement='complement {}', mask_ratio='{:.0%} masked', mask_sampler='{}',
             decoder='{}', decoder_depth='{} blocks', epochs='{} epochs of fine-tuning', image_size='{} px',
             global_batch='batch {}')


@dataclass
class Point:
    """One value of the horizontal axis.

    Args:
        x (float): The value.
        mean (float): In per cent.
        half_width (float, optional): Of the 95 % confidence interval over seeds, in per cent; None of one run.
        runs (list[str]): Names of the runs.
    """
    x: float
    mean: float
    half_width: float | None
    runs: list[str]


@dataclass
class Series:
    """A line, its name, and the values of the horizontal axis at which runs diverged."""
    label: str
    points: list[Point] = field(default_factory=list)
    diverged: list[float] = field(default_factory=list)


def fine_tunings(frame: pandas.DataFrame, dataset: str | None = None) -> pandas.DataFrame:
    """The top-1 accuracy of each whole model that was fine-tuned from a pre-training, one row per run.

    The test split's if all finished runs were tested, else validation's. Runs that are not finished are left out, but for
    diverged ones, whose value is none.

    Args:
        frame (DataFrame): From `collect`.
        dataset (str, optional): Defaults to ImageNet-1K, or else the one with most runs.
    """
    found = frame[(frame['metric'] == 'accuracy/top1') & frame['split'].isin(['val', 'test'])
                  & (frame['frozen_stages'].fillna(0) == 0) & (frame['method'] != 'scratch')]
    # A diverged run may have logged no accuracy.
    lost = frame[(frame['status'] == 'diverged') & (frame['task'] == 'classification') & (frame['method'] != 'scratch')]
    found = pandas.concat([found[found['status'] == 'finished'], lost.assign(value=float('nan'))])
    if dataset is None and not found.empty:
        counts = found['dataset'].value_counts()
        dataset = 'ImageNet-1K' if 'ImageNet-1K' in counts else counts.index[0]
    found = found[found['dataset'] == dataset]
    finished = found[found['status'] == 'finished']
    tested = set(finished['run']) == set(finished[finished['split'] == 'test']['run'])
    # 'test' before 'val' or behind, and of each that on most images.
    return found.sort_values(['split', 'images'], ascending=[tested, False]).drop_duplicates('run', keep='first')


def series(rows: pandas.DataFrame, x: str, several: bool = True) -> list[Series]:
    """Lines over one column; runs are on the same line if of `KEYS` they differ in it alone.

    Those that differ in other settings too, say the learning rate, are points of their own on that line.

    Args:
        rows (DataFrame): From `fine_tunings`.
        x (str): Name of the column.
        several (bool): Leave out lines of a single point, if there are others. Defaults to True.

    Returns:
        list[Series]: Sorted by what they differ in.
    """
    rows = rows[rows[x].notna()]
    keys = [key for key in KEYS if key != x]
    named = [key for key in keys if rows[key].astype(str).nunique() > 1] or ['method', 'backbone']
    lines = []
    for values, group in rows.groupby(keys, dropna=False, sort=True):
        values = dict(zip(keys, values, strict=True))
        line = Series(', '.join(WORDS.get(key, '{}').format(values[key]) for key in named
                                if not pandas.isna(values[key]) and values[key] != '').replace('Decoder', ' decoder'))
        for (at, _), runs in group.groupby([x, 'config_hash']):
            good = runs[runs['status'] == 'finished'].drop_duplicates(COPY)['value'].dropna()
            if len(good):
                line.points.append(Point(float(at), good.mean(), half_width(good.tolist()),
                                         list(runs.loc[good.index, 'run'])))
            line.diverged += [float(at)] * int(runs['value'].isna().sum())
        lines.append(line)
    return several and [line for line in lines if len({point.x for point in line.points}) > 1] or lines
