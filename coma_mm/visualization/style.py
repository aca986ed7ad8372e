"""Colours and sizes that the figures share. Sizes are chosen to be legible at a phone's width."""
import matplotlib

# 10 colours that stay apart for colour-blind readers (Petroff 2021, arXiv:2107.02270).
COLORS = ('#3f90da', '#ffa90e', '#bd1f01', '#94a4a2', '#832db6', '#a96b59', '#e76300', '#b9ac70', '#717581', '#92dadd')
HIDDEN_GREY = 128  # of patches that a model does not see
RC = {'font.size': 10, 'font.family': 'DejaVu Sans', 'axes.spines.top': False, 'axes.spines.right': False}


def class_colors(classes: tuple[str, ...], palette=None) -> list[tuple[float, float, float]]:
    """A colour per class, as RGB in 0 to 1.

    Args:
        classes (tuple[str]): Names; a class 'background' is light grey.
        palette (Sequence[tuple[int]], optional): The data set's own colours, 0 to 255; used where there are more classes
            than `COLORS`. Defaults to None.
    """
    objects = [name for name in classes if name != 'background']
    if len(objects) > len(COLORS) and palette and len(palette) == len(classes):
        return [tuple(value / 255 for value in color) for color in palette]
    chosen = {name: COLORS[i % len(COLORS)] for i, name in enumerate(objects)}
    return [matplotlib.colors.to_rgb(chosen.get(name, '#d9d9d9')) for name in classes]


def text_color(color: tuple[float, float, float]) -> str:
    """'black' or 'white': the one that is readable on an RGB colour."""
    red, green, blue = color
    return 'black' if .299 * red + .587 * green + .114 * blue > .5 else 'white'
