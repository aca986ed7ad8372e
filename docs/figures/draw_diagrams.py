#!/usr/bin/env python
"""Draw the diagrams of README.md, method-*.svg and dyvit-*.svg, for light and for dark pages, into this folder."""
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

# Letters as outlines look the same on every machine; the rest keeps the files the same from run to run.
matplotlib.rcParams.update({'svg.fonttype': 'path', 'svg.hashsalt': 'coma_mm', 'font.family': 'DejaVu Sans'})
THEMES = dict(
    light=dict(text='#1f2328', muted='#59636e', line='#818b98', box='#f6f8fa', hidden='#d1d9e0', grid='#ffffff',
               adaptive='#0969da', evaluation='#bc4c00'),
    dark=dict(text='#f0f6fc', muted='#9198a1', line='#656c76', box='#151b23', hidden='#3d444d', grid='#0d1117',
              adaptive='#4493f8', evaluation='#e09b13'))
N = 7  # patches along a side
KEPT = np.zeros(N * N, bool)
KEPT[np.random.default_rng(3).permutation(N * N)[:20]] = True  # round(49 × 0.4)
KEPT = KEPT.reshape(N, N)


class Diagram:
    """A figure in units of a hundredth of an inch, y downwards.

    Args:
        width (float): In these units.
        height (float): In these units.
        theme (str): One of `THEMES`.
    """

    def __init__(self, width, height, theme):
        self.colors = THEMES[theme]
        self.figure = plt.figure(figsize=(width / 100, height / 100))
        self.axes = self.figure.add_axes([0, 0, 1, 1], xlim=(0, width), ylim=(height, 0), aspect='equal')
        self.axes.axis('off')

    def text(self, x, y, text, color='text', size=10, **kwargs):
        """Write, centred at a point unless told otherwise."""
        settings = dict(ha='center', va='center', linespacing=1.35) | kwargs
        self.axes.text(x, y, text, color=self.colors[color], fontsize=size, **settings)

    def box(self, x, y, width, height, color='line', fill='box', style='-', line_width=1.5):
        """Draw a box with round corners; its upper left corner is given."""
        self.axes.add_patch(FancyBboxPatch(
            (x + 6, y + 6), width - 12, height - 12, boxstyle='round,pad=6', linewidth=line_width, linestyle=style,
            edgecolor=self.colors[color], facecolor=self.colors[fill]))

    def arrow(self, start, end, color='line', style='-', bend=0.):
        """Draw an arrow, as an arc where `bend` is not 0."""
        self.axes.add_patch(FancyArrowPatch(
            start, end, arrowstyle='-|>', mutation_scale=12, linewidth=1.5, linestyle=style, shrinkA=0, shrinkB=0,
            color=self.colors[color], connectionstyle=f'arc3,rad={bend}'))

    def line(self, *points, color='line', style='-'):
        """Draw a line through points."""
        self.axes.plot(*zip(*points, strict=True), color=self.colors[color], linewidth=1.5, linestyle=style,
                       solid_joinstyle='round')

    def cells(self, x, y, side, number, width=0.8, color='grid'):
        """Draw the lines of a grid of number × number cells."""
        for i in range(1, number):
            at = side * i / number
            self.line((x + at, y), (x + at, y + side), color=color)
            self.line((x, y + at), (x + side, y + at), color=color)
            for line in self.axes.lines[-2:]:
                line.set_linewidth(width)

    def picture(self, x, y, side, hidden=None, predicted=()):
        """Draw the example image, cut into patches.

        Args:
            x (float): Left.
            y (float): Top.
            side (float): Of the picture.
            hidden (ndarray, optional): bool (7, 7), the patches that are not to be seen. Defaults to none.
            predicted (Sequence[tuple[ndarray, str]]): Patches to tint, and the colours' names. Defaults to none.
        """
        def at(*points):
            return [(x + side * a, y + side * b) for a, b in points]

        frame = Rectangle((x, y), side, side, facecolor='#a9d3f5', edgecolor='none')
        parts = [
            frame,
            Circle(*at((.76, .24)), .13 * side, facecolor='#f6c945'),
            Polygon(at((-.2, 1), (.34, .34), (.88, 1)), facecolor='#7d8fa9'),
            Polygon(at((.34, .34), (.218, .489), (.3, .46), (.35, .51), (.4, .46), (.462, .489)), facecolor='#ffffff'),
            Polygon(at((.3, 1), (.68, .56), (1.2, 1)), facecolor='#5b9a68'),
            Rectangle(*at((0, .84)), side, .16 * side, facecolor='#3f7d54'),
        ]
        for part in parts:
            self.axes.add_patch(part)
            part.set_clip_path(frame)
        size = side / N
        for row, column in np.ndindex(N, N):
            cover = [(self.colors['hidden'], 1)] if hidden is not None and hidden[row, column] else []
            cover += [(self.colors[color], 0.42) for patches, color in predicted if patches[row, column]]
            for color, alpha in cover:
                self.axes.add_patch(Rectangle((x + column * size, y + row * size), size, size, facecolor=color, alpha=alpha,
                                              edgecolor='none'))
        self.cells(x, y, side, N)

    def save(self, name):
        """Write the figure beside this file."""
        self.figure.savefig(Path(__file__).with_name(f'{name}.svg'), transparent=True, metadata=dict(Date=None))
        plt.close(self.figure)


def method(theme):
    """Draw CoMA: one image, two complementary masks, two models, one assembled image."""
    d = Diagram(1000, 380, theme)
    side, top, bottom = 112, 46, 232
    middle = (top + bottom + side) / 2
    upper, lower = top + side / 2, bottom + side / 2

    d.picture(14, middle - side / 2, side)
    d.text(14 + side / 2, middle + side / 2 + 26, 'image of\n7 × 7 patches')

    d.line((134, middle), (150, middle))
    d.line((150, upper), (150, lower))
    d.arrow((150, upper), (178, upper))
    d.arrow((150, lower), (178, lower))
    d.picture(182, top, side, hidden=~KEPT)
    d.text(182 + side / 2, top - 16, '40 % of the patches')
    d.picture(182, bottom, side, hidden=KEPT)
    d.text(182 + side / 2, bottom + side + 16, 'the other 60 %')

    for y, color in ((upper, 'adaptive'), (lower, 'evaluation')):
        d.arrow((302, y), (338, y))
        d.box(342, y - 50, 196, 100, color)
        d.arrow((542, y), (578, y))
    d.text(440, upper - 24, 'adaptive model', 'adaptive', 11.5, weight='bold')
    d.text(440, upper + 14, 'encoder, neck, decoder;\ntrained')
    d.text(440, lower - 24, 'evaluation model', 'evaluation', 11.5, weight='bold')
    d.text(440, lower + 14, 'the same, frozen;\nno gradient')
    d.arrow((440, upper + 54), (440, lower - 54))
    d.text(430, middle, 'weights,\none update behind', 'muted', ha='right')

    d.picture(582, top, side, hidden=KEPT, predicted=[(~KEPT, 'adaptive')])
    d.text(582 + side / 2, top - 16, 'predicts what it does not see')
    d.picture(582, bottom, side, hidden=~KEPT, predicted=[(KEPT, 'evaluation')])
    d.text(582 + side / 2, bottom + side + 16, 'predicts what it does not see')

    d.line((702, upper), (732, upper), (732, middle - 8), (748, middle - 8))
    d.line((702, lower), (732, lower), (732, middle + 8), (748, middle + 8))
    d.arrow((732, middle - 8), (752, middle - 8))
    d.arrow((732, middle + 8), (752, middle + 8))
    d.picture(756, middle - side / 2, side, predicted=[(~KEPT, 'adaptive'), (KEPT, 'evaluation')])
    d.text(756 + side / 2, middle + side / 2 + 16, 'assembled image')
    d.arrow((874, middle), (898, middle))
    d.text(950, middle, 'mean\nsquared\nerror against\nthe image')

    d.line((950, middle - 42), (950, 14), (440, 14), color='adaptive', style='--')
    d.arrow((440, 14), (440, upper - 54), 'adaptive')
    d.text(940, upper, 'gradient, from the\npatches that the adaptive\nmodel predicts', 'adaptive', ha='right')
    d.save(f'method-{theme}')


def dyvit(theme):
    """Draw DyViT-B: the stages, the tokens of a patch in each, and its attention."""
    d = Diagram(1000, 398, theme)
    side, y = 84, 44
    d.picture(14, y, side, hidden=~KEPT)
    d.text(14 + side / 2, y - 16, 'image')
    d.text(14, y + side + 38, 'of patches of 32 × 32 px;\nthose that are masked\nare dropped', 'muted', 9, ha='left')
    d.arrow((102, y + side / 2), (126, y + side / 2))
    d.box(130, y, 96, side)
    d.text(178, y + side / 2, 'stem: 7 × 7,\nstride 4,\nand position')
    d.arrow((230, y + side / 2), (252, y + side / 2))
    stages = [(8, 4, 112, 2), (4, 8, 224, 3), (2, 16, 448, 16), (1, 32, 896, 3)]
    for i, (tokens, stride, channels, blocks) in enumerate(stages):
        x = 256 + 184 * i
        d.box(x, y, 144, side, 'adaptive' if i < 2 else 'line')
        d.text(x + 72, y + 18, f'stage {i + 1}', 'adaptive' if i < 2 else 'text', 11.5, weight='bold')
        d.text(x + 72, y + 52, f'{blocks} blocks of\n' + ('DM-MSA' if i < 2 else 'plain attention'))
        if i < 3:
            d.arrow((x + 148, y + side / 2), (x + 180, y + side / 2))
            d.text(x + 164, y - 12, 'pool\n2 × 2', 'muted', 8.5)
        d.axes.add_patch(Rectangle((x + 8, y + side + 14), 48, 48, facecolor=d.colors['hidden'], edgecolor='none'))
        d.cells(x + 8, y + side + 14, 48, tokens)
        facts = f'{tokens} × {tokens} tokens\n{channels} channels\nstride {stride}'
        d.text(x + 64, y + side + 38, facts, 'muted', 9, ha='left')
    d.text(250, y + side + 38, 'a patch:', 'muted', 9, ha='right')

    top = 212
    d.box(14, top, 972, 176, 'adaptive', style='--')
    d.text(30, top + 20, 'DM-MSA, dynamic multi-window self-attention', 'adaptive', 11.5, weight='bold', ha='left')
    for row, (window, count) in enumerate(((8, 1), (4, 2))):
        center = top + 72 + 62 * row
        d.axes.add_patch(Rectangle((34, center - 22), 44, 44, facecolor=d.colors['hidden'], edgecolor='none'))
        d.cells(34, center - 22, 44, 8, 0.5)
        for i, j in np.ndindex(count, count):
            size = 44 / count
            d.axes.add_patch(Rectangle((34 + i * size + 1, center - 22 + j * size + 1), size - 2, size - 2, fill=False,
                                       linewidth=1.6, edgecolor=d.colors['adaptive']))
        d.text(94, center, f'{window} × {window} tokens become one key and one\n'
               f'value: {count * count} of each patch', ha='left')
        d.arrow((366, center), (398, center))
        d.box(402, center - 26, 264, 52)
        d.text(534, center, 'every token attends to those of\nall patches: a softmax per size')
        d.line((670, center), (694, center), (694, top + 103))
    d.arrow((694, top + 103), (722, top + 103))
    d.box(726, top + 79, 60, 48)
    d.text(756, top + 103, 'sum')
    d.arrow((790, top + 103), (818, top + 103))
    d.box(822, top + 79, 146, 48)
    d.text(895, top + 103, 'linear projection')
    d.save(f'dyvit-{theme}')


if __name__ == '__main__':
    for name in THEMES:
        method(name)
        dyvit(name)
