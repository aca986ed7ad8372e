"""Colours and sizes that the figures share. Sizes are chosen to be legible at a phone's width."""
import io

import matplotlib
from matplotlib.figure import Figure

# Lines; runs differ in dashes as well.
LINE_COLORS = ('#3f90da', '#bd1f01', '#832db6', '#a96b59')
# Chosen by search for a large distance between any two, and from grey, in CIELAB as seen with normal, protanopic and
# deuteranopic vision (Machado et al. 2009): at least 26 for the colour-blind.
CLASS_COLORS = ('#1c4772', '#bf98e5', '#72311c', '#7ff20c', '#0c0cf2', '#85f8f8', '#c946f5', '#28a347', '#e5e598',
                '#070787')
RC = {'font.size': 10, 'font.family': 'DejaVu Sans', 'axes.spines.top': False, 'axes.spines.right': False,
      'text.parse_math': False}  # what is in a name is no formula


class NotebookFigure(Figure):
    """A figure that notebooks show, also where nobody has imported pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, dpi=100)
        return file.getvalue()


def class_colors(classes: tuple[str, ...], palette=None) -> list[tuple[float, float, float]]:
    """A colour per class, as RGB in 0 to 1.

    Args:
        classes (tuple[str]): Names; a class 'background' is light grey.
        palette (Sequence[tuple[int]], optional): The data set's own colours, 0 to 255; used where there are more
            classes than `CLASS_COLORS`. Defaults to None.
    """
    objects = [name for name in classes if name != 'background']
    if len(objects) > len(CLASS_COLORS) and palette and len(palette) == len(classes):
        return [tuple(value / 255 for value in color) for color in palette]
    chosen = {name: CLASS_COLORS[i % len(CLASS_COLORS)] for i, name in enumerate(objects)}
    return [matplotlib.colors.to_rgb(chosen.get(name, '#d9d9d9')) for name in classes]


def text_color(color: tuple[float, float, float]) -> str:
    """'black' or 'white': the one that is readable on an RGB colour."""
    red, green, blue = color
    return 'black' if .299 * red + .587 * green + .114 * blue > .5 else 'white'
