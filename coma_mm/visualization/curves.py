"""Curves of the training loss, of one run or several."""
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from coma_mm.errors import UserError

from .logs import read_scalars
from .style import LINE_COLORS, RC

DASHES = ('-', '--', ':', '-.')


def curve_figure(runs: dict[str, str | Path], title: str = '') -> Figure:
    """Draw the training loss of one or more runs against the iteration.

    Args:
        runs (dict[str, str | Path]): Work_dir of each run by the name that the legend shows.
        title (str): Defaults to ''.

    Returns:
        Figure: For `savefig`.

    Raises:
        UserError: A run has no log, or none has logged a loss.
    """
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(4.4, 3.), layout='constrained')
        ax = fig.subplots()
        for i, (name, run) in enumerate(runs.items()):
            points = [(entry['step'], entry['loss']) for entry in read_scalars(run)[0] if 'loss' in entry]
            if points:
                dashes = DASHES[(i + i // len(DASHES)) % len(DASHES)]  # other pairs of both from the fifth line on
                style = dict(linestyle=dashes, color=LINE_COLORS[i % len(LINE_COLORS)], linewidth=2)
                ax.plot(*zip(*points, strict=True), label=name, **style)
        if not ax.lines:
            raise UserError(f'no loss in the logs of {", ".join(map(str, runs.values()))}; expected those of training')
        ax.set(xlabel='Training iteration', ylabel='loss', title=title)
        ax.grid(alpha=.3)
        if len(runs) > 1:
            ax.legend(frameon=False, fontsize=None if len(runs) < 4 else 8)
    return fig
