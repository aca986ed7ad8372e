"""Curves of how good the features of a pre-training's stages were while it trained."""
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from coma_mm.errors import UserError

from .logs import read_scalars
from .style import LINE_COLORS, RC

AXES = dict(knn='k-NN top-1, %', linear='Linear top-1, %', rankme='RankMe')
"""What `OnlineProbeHook` measures, by its name in the log."""


def probe_figure(run: str | Path) -> Figure:
    """Draw what `OnlineProbeHook` measured in a run, a panel for each kind and a line for each stage.

    Args:
        run (str | Path): Work_dir of the run.

    Returns:
        Figure: For `savefig`.

    Raises:
        UserError: The run has no log, or no probe in it.
    """
    entries = read_scalars(run)[1]
    lines = {}
    for name in sorted({name for entry in entries for name in entry if name.startswith('probe/')}):
        kind, _, stage = name.removeprefix('probe/').partition('_stage')
        if kind in AXES and stage.isdecimal():
            lines.setdefault(kind, {})[int(stage)] = [(entry['step'], entry[name]) for entry in entries if name in entry]
    if not lines:
        raise UserError(f'no probe in the log of {run}; expected a pre-training with --probe-root, or with an '
                        'OnlineProbeHook')
    kinds = [kind for kind in AXES if kind in lines]
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(3. * len(kinds) + .6, 2.8), layout='constrained')
        for ax, kind in zip(fig.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            for stage, points in sorted(lines[kind].items()):
                ax.plot(*zip(*points, strict=True), label=f'stage {stage}', marker='o', markersize=3,
                        color=LINE_COLORS[(stage - 1) % len(LINE_COLORS)])
            ax.set(xlabel='Training iteration', ylabel=AXES[kind])
            ax.grid(alpha=.3)
        ax.legend(frameon=False, fontsize=8)
    return fig
