"""A page with all images and what was found in them, whose pictures lie beside it."""
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from coma_mm.errors import printable
from coma_mm.visualization.pages import write_page

from .drawing import Color, css
from .load import Usable
from .results import class_name

MOST_CARDS = 2000
"""Images of a page, which a browser still shows at once; evenly spread where there are more."""
MOST_CHIPS = 60


def write_gallery(path: Path, usable: Usable, records: Sequence[Mapping[str, Any]], colors: Sequence[Color],
                  threshold: float) -> None:
    """Write the page, whole or not at all.

    Args:
        path (Path): The file, in the folder of the pictures.
        usable (Usable): The model.
        records (Sequence[Mapping]): Of the images, with 'thumb'.
        colors (Sequence[tuple]): Of the classes.
        threshold (float): Below which nothing was kept.
    """
    number = min(len(records), MOST_CARDS)
    shown = [records[index * len(records) // number] for index in range(number)]
    cards = [_card(record, usable, colors) for record in shown]
    counts = Counter(name for card in cards for name in card['classes'])
    color_of = {printable(class_name(usable.classes, label)): css(color) for label, color in enumerate(colors)}
    chips = [dict(name=name, count=count, color=color_of.get(name, '#888'))
             for name, count in counts.most_common(MOST_CHIPS)]
    write_page(
        path, 'gallery.html.j2', 'coma_mm.inference', task=usable.task, model=type(usable.model).__name__,
        checkpoint=os.path.basename(usable.checkpoint), cards=cards, chips=chips, total=len(records), threshold=threshold,
        objects=sum(card['objects'] for card in cards))


def _card(record: Mapping[str, Any], usable: Usable, colors: Sequence[Color]) -> dict[str, Any]:
    width, height = record['thumb_size']
    card = dict(name=record['file_name'], thumb=_address(record['thumb']), width=width, height=height, objects=0, bars=[],
                shapes=[], map=None, full=_address(record.get('overlay') or record.get('map') or record['thumb']),
                size=f'{record["width"]} × {record["height"]}', certainty=1.)
    if 'scores' in record:
        bars = list(record['scores'].items())
        card.update(classes=[bars[0][0]], certainty=bars[0][1],
                    bars=[dict(name=name, share=score, color=_color(name, usable, colors)) for name, score in bars])
    elif 'shares' in record:
        bars = list(record['shares'].items())
        card.update(map=_address(record['map_thumb']), classes=[name for name, share in bars if share >= .001],
                    bars=[dict(name=name, share=share, color=_color(name, usable, colors)) for name, share in bars])
    else:
        scale = width / record['width']
        shapes = []
        for found in reversed(record['objects']):  # the most certain last, on top
            color = colors[found['label'] % len(colors)]
            left, top, wide, high = (round(value * scale, 1) for value in found['bbox'])
            shapes.append(dict(
                name=class_name(usable.classes, found['label']), score=found['score'], color=css(color), left=left, top=top,
                width=wide, height=high, outline=found.get('outline', ''),
                ink='#000' if sum(color[:2]) > 255 else '#fff'))
        card.update(shapes=shapes, objects=len(shapes), certainty=max((one['score'] for one in shapes), default=0.),
                    classes=sorted({one['name'] for one in shapes}))
    card['classes'] = [printable(name) for name in card['classes']]  # the page compares them
    return card


def _color(name: str, usable: Usable, colors: Sequence[Color]) -> str:
    labels = usable.classes or ()
    label = labels.index(name) if name in labels else int(name) if name.isdecimal() else 0
    return css(colors[label % len(colors)])


def _address(path: str) -> str:
    """A path in the folder as a relative address."""
    return quote(os.fsencode(Path(path).as_posix()))
