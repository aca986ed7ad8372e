"""Curves of losses and metrics, of one run or several."""
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from coma_mm.errors import UserError

from .logs import read_scalars
from .style import LINE_COLORS, RC

DASHES = ('-', '--', ':', '-.')


def curve_figure(runs: dict[str, str | Path], key: str = 'loss', label: str | None = None, title: str = '',
                 scale: float = 1.) -> Figure:
    """Draw one logged value of one or more runs against the training iteration.

    Args:
        runs (dict[str, str | Path]): Work_dir of each run by the name that the legend shows.
        key (str): Name of the value in the log, of training ('loss') or validation ('mIoU'). Defaults to 'loss'.
        label (str, optional): Of the vertical axis. Defaults to ``key``.
        title (str): Defaults to ''.
        scale (float): Factor on the values, such as 100 for AP in per cent. Defaults to 1.

    Returns:
        Figure: For ``savefig``.

    Raises:
        UserError: None of the runs has logged the key.
    """
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(4.4, 3.), layout='constrained')
        ax = fig.subplots()
        known = set()
        for i, (name, run) in enumerate(runs.items()):
            train, val = read_scalars(run)
            points = [(entry['step'], scale * entry[key]) for entry in train if key in entry]
            marker = None
            if not points:
                points, marker = [(entry['step'], scale * entry[key]) for entry in val if key in entry], 'o'
            known.update(*train, *val)
            if points:
                dashes = DASHES[(i + i // len(DASHES)) % len(DASHES)]  # other pairs of both from the fifth line on
                style = dict(linestyle=dashes, color=LINE_COLORS[i % len(LINE_COLORS)], linewidth=2)
                ax.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=4, **style)
        if not ax.lines:
            raise UserError(f'{key!r} is not in the logs of {", ".join(map(str, runs.values()))}; they have '
                            f'{", ".join(sorted(known)) or "no entries"}')
        ax.set(xlabel='Training iteration', ylabel=label or key, title=title)
        ax.grid(alpha=.3)
        if len(runs) > 1:
            ax.legend(frameon=False, fontsize=None if len(runs) < 4 else 8)
    return fig
