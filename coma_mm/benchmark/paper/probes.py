"""The report's section on pre-trainings that probed their features (`OnlineProbeHook`)."""
from collections.abc import Mapping
from pathlib import Path

import pandas

from coma_mm.visualization import Picture, Section, probe_figure

from .ablation import logged

MOST = 6
"""Runs of which there is a picture."""


def probes(frame: pandas.DataFrame, work_dirs: Path) -> Section | None:
    """A figure of each of the last runs that probed, or None where none did.

    Args:
        frame (DataFrame): From `collect`.
        work_dirs (Path): What it was collected from.
    """
    runs = frame[frame['task'] == 'pretraining'].drop_duplicates('run')['run']
    found = [run for run in runs
             if any(name.startswith('probe/') for entry in logged(work_dirs / run)[1] for name in entry)]
    return probes_of({run: work_dirs / run for run in found})


def probes_of(runs: Mapping[str, Path]) -> Section | None:
    """A figure of each of the last of some runs that probed, by their names; None without any.

    Args:
        runs (Mapping[str, Path]): The folders of the runs.
    """
    pictures = [Picture(probe_figure(folder), f'{run}.', f'Probes of every stage of {run} against iterations')
                for run, folder in list(runs.items())[-MOST:]]
    text = ('Top-1 accuracy of nearest neighbours and of a linear classifier on the frozen features of every stage, where '
            'there were labelled images, and how many dimensions the features fill (RankMe).')
    return Section('Features while training', text, pictures=pictures) if pictures else None
