"""The speed benchmark's result to look at."""
import matplotlib
from matplotlib.figure import Figure

from coma_mm.visualization.style import LINE_COLORS, RC

GROUPS = {'pretrain': 'Pre-training step', 'inference': 'Inference', 'upernet': 'UperNet training step',
          'mask-rcnn': 'Mask R-CNN training step'}
PEER_COLOR = '#9a9a9a'


def speed_figure(comparisons: list[list[dict]]) -> Figure:
    """Draw how fast each contestant is as a multiple of its first peer: a bar for the median, a dot for each repeat.

    Args:
        comparisons (list[list[dict]]): Rows of the benchmark, those measured together in a list. Rows that were not timed
            are left out, and lists without a peer.

    Returns:
        Figure: A panel per comparison, one below the other, on one axis; for `savefig`.
    """
    panels = []
    for rows in comparisons:
        rows = {row['name']: row for row in rows if row['seconds']}
        peer = next((name for row in rows.values() for name in row.get('ratios', ())), None)
        if peer:
            panels.append((peer, [row for row in rows.values() if row['name'] == peer or peer in row['ratios']]))
    with matplotlib.rc_context(RC):
        heights = [.28 * len(rows) + .3 for _, rows in panels]
        fig = Figure(figsize=(7.2, sum(heights) + .5), layout='constrained')
        axes = fig.subplots(len(panels), sharex=True, squeeze=False, height_ratios=heights)[:, 0] if panels else ()
        for ax, (peer, rows) in zip(axes, panels, strict=True):
            _panel(ax, peer, rows)
        if panels:
            axes[-1].set_xlabel('images per second, as a multiple of the grey one')
    return fig


def _panel(ax, peer, rows) -> None:
    seconds = next(row['seconds'] for row in rows if row['name'] == peer)
    for i, row in enumerate(rows):
        ratio = row['ratios'].get(peer, 1.)
        ax.barh(i, ratio, color=PEER_COLOR if row['name'] == peer else LINE_COLORS[0], height=.7)
        dots = [theirs / ours for ours, theirs in zip(row['seconds'], seconds, strict=True)]
        if row['name'] != peer:
            ax.plot(dots, [i] * len(dots), '.', color='black', markersize=4)
        ax.annotate(f'{ratio:.2f}×', (max(ratio, *dots), i), (4, 0), textcoords='offset points', va='center',
                    bbox=dict(facecolor='white', edgecolor='none', pad=1))
    ax.axvline(1, color='black', linewidth=.8, zorder=0)
    ax.set_yticks(range(len(rows)), [row['title'] for row in rows])
    ax.tick_params(left=False)
    ax.invert_yaxis()
    ax.margins(x=.15)
    one = rows[0]
    ax.set_title(f'{GROUPS[one["name"].partition("/")[0]]}, {one["arch"]}, {one["size"]} px, {one["precision"]}'
                 f'{", compiled" * one["compiled"]}, batch {one["batch"]}, {one["device"].upper()}', loc='left', fontsize=10,
                 fontweight='bold')
