"""Figures of what came out of runs: metrics over each other, bars by class, which class is taken for which."""
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .curves import DASHES
from .style import LINE_COLORS, RC

MOST_CLASSES = 40
"""Bars in a figure; of more classes the best and the worst are drawn."""


def lines_figure(lines: dict[str, Sequence[tuple[float, float]]], x: str, y: str) -> Figure:
    """Curves over each other.

    Args:
        lines (dict[str, Sequence[tuple[float, float]]]): Points of each by its name in the legend.
        x (str): What is along the horizontal axis.
        y (str): And along the other.

    Returns:
        Figure: For `savefig`.
    """
    with matplotlib.rc_context(RC):
        legend = .2 * len(lines) if len(lines) > 1 else 0
        fig = Figure(figsize=(4.4, 3. + legend), layout='constrained')
        ax = fig.subplots()
        for i, (name, points) in enumerate(lines.items()):
            dashes = DASHES[(i + i // len(DASHES)) % len(DASHES)]  # other pairs of both from the fifth line on
            ax.plot(*zip(*points, strict=True), label=name, linestyle=dashes, color=LINE_COLORS[i % len(LINE_COLORS)],
                    linewidth=1.8, marker='o' if len(points) < 16 else None, markersize=3)
        ax.set(xlabel=x, ylabel=y)
        ax.grid(alpha=.3)
        if legend:
            fig.legend(frameon=False, fontsize=8, loc='outside lower left')
    return fig


def class_figure(classes: Sequence[str], values: dict[str, Sequence[float | None]], name: str) -> Figure:
    """Bars by class, of one or more runs, the best class of the first run at the top.

    Args:
        classes (Sequence[str]): Names.
        values (dict[str, Sequence[float | None]]): Of each class, in per cent, by the name of the run; None where the
            class has no example.
        name (str): What they are.

    Returns:
        Figure: For `savefig`.
    """
    first = next(iter(values.values()))
    order = sorted(range(len(classes)), key=lambda i: -1 if first[i] is None else first[i], reverse=True)
    if len(order) > MOST_CLASSES:
        order = order[:MOST_CLASSES // 2] + order[-MOST_CLASSES // 2:]
    thick = .8 / len(values)
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(4.4, 1. + len(order) * max(.22, .13 * len(values)) + .2 * len(values)), layout='constrained')
        ax = fig.subplots()
        for number, (run, row) in enumerate(values.items()):
            places = np.arange(len(order)) + (number - (len(values) - 1) / 2) * thick
            color = LINE_COLORS[number % len(LINE_COLORS)]
            bars = ax.barh(places, [row[i] or 0 for i in order], thick, label=run, color=color)
            if len(values) < 3:
                ax.bar_label(bars, ['–' if row[i] is None else f'{row[i]:.0f}' for i in order], padding=2, fontsize=8)
        ax.set_yticks(range(len(order)), [_short(classes[i]) for i in order], fontsize=9)
        ax.set(xlabel=f'{name}, %', xlim=(0, 105), ylim=(len(order) - .4, -.6))
        ax.grid(alpha=.3, axis='x')
        if len(values) > 1:
            fig.legend(frameon=False, fontsize=8, loc='outside lower left')
    return fig


def confusion_figure(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Figure:
    """For which class the images of each are taken, as shares of a row.

    Args:
        classes (Sequence[str]): Names.
        confusion (Sequence[Sequence[int]]): Images of each class (rows) that are taken for each.

    Returns:
        Figure: For `savefig`.
    """
    counts = np.array(confusion, float)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    with matplotlib.rc_context(RC):
        side = 1.6 + .32 * len(classes)
        fig = Figure(figsize=(side, side), layout='constrained')
        ax = fig.subplots()
        ax.imshow(shares, cmap='Blues', vmin=0, vmax=100)
        names = [_short(name, 16) for name in classes]
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set(xlabel='taken for', ylabel='is')
        for (row, column), share in np.ndenumerate(shares):
            if share >= .5:
                ax.text(column, row, f'{share:.0f}', ha='center', va='center', fontsize=7,
                        color='white' if share > 55 else 'black')
    return fig


def _short(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else f'{name[:limit - 1]}…'
