"""A page about data sets before anything is trained: what was found, class bars, sizes, and images with their labels."""
import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as run_lengths

from coma_mm.datasets.usage import many, number
from coma_mm.evaluation.panels import spread_indices
from coma_mm.inference.drawing import Color, colors_of, css, map_png, outline, thumbnail
from coma_mm.inference.results import CutMask
from coma_mm.prepare.look import has_map, map_of, pixels_of
from coma_mm.prepare.survey import Survey
from coma_mm.prepare.survey.surveying import Surveyed, area, labels_of, name_of, share
from coma_mm.processes import pool_map

from .pages import write_page

CONTACTS, EXAMPLES, EMPTY, COPIES = 60, 18, 12, 12
"""Images of a data set on the page: in the contact sheet, with their labels, and without any; and groups of copies."""
SMALL, LARGE = 160, 640
"""Px of the longer side of a picture in the contact sheet, and of one with its labels."""
BARS = 24
"""Classes whose bars are shown; further ones are folded away."""
MOST_SHAPES = 60
"""Objects that are drawn in an image, the largest ones."""
NO_CLASS = 255


class Picture(NamedTuple):
    """A picture for the page.

    Args:
        image (str): A data: address.
        width (int): In px.
        height (int): In px.
        scale (float): By which it is smaller than the image.
        map (str): A data: address of the map in the classes' colours, transparent where there is none. Defaults to ''.
    """
    image: str
    width: int
    height: int
    scale: float
    map: str = ''


def write_data_page(path: str | Path, title: str, survey: Survey, workers: int = 1) -> None:
    """Write the page: one HTML file with all its pictures in it.

    Args:
        path (str | Path): Where to; its folder is made. Replaced whole or not at all.
        title (str): What was looked at.
        survey (Survey): What was found.
        workers (int): Processes that read the images. Defaults to 1.
    """
    copies = [group[:3] for group in survey.copies[:COPIES]]
    tasks = {(*place, False) for group in copies for place in group}
    chosen = []
    for place, one in enumerate(survey.sets):
        good = [index for index, looked in one.looked.items() if not looked.problem]
        parts = dict(contact=(_spread(good, CONTACTS), False), examples=(_examples(one, good), True),
                     empty=([index for index in one.empty if index in one.looked][:EMPTY], False))
        chosen.append({name: [(place, index, large) for index in indices] for name, (indices, large) in parts.items()})
        tasks |= {task for part in chosen[-1].values() for task in part}
    colors = [_colors(one) for one in survey.sets]
    order = sorted(tasks)
    given = [(survey.sets[place].data.samples[index], large, _table(survey.sets[place]), colors[place])
             for place, index, large in order]
    few = len(given) <= CONTACTS
    drawn = dict(zip(order, pool_map(_picture, given, 1 if few else workers, 'drawing', 8, unit='pictures', disable=few),
                     strict=True))

    def cards(places: Iterable[tuple[int, int, bool]]) -> list[dict[str, Any]]:
        return [_card(survey.sets[place[0]], place[1], drawn[place], colors[place[0]], place[2]) for place in places
                if drawn[place]]

    sets = [dict(name=one.data.name, line=one.data.usage.line, kind=one.data.kind, facts=survey.facts(one),
                 is_config=bool(one.data.samples and 'reading' in one.data.samples[0]),
                 bars=_bars(one, colors[place]), sizes=_sizes(one),
                 **{name: cards(part) for name, part in chosen[place].items()})
            for place, one in enumerate(survey.sets)]
    groups = [cards((*place, False) for place in group) for group in copies]
    write_page(path, 'data_page.html.j2', filters=dict(many=many, number=number), title=title, survey=survey, sets=sets,
               copies=[group for group in groups if len(group) > 1], more_copies=max(0, len(survey.copies) - COPIES),
               folded=BARS)


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """Some of them, evenly spread."""
    return [indices[place] for place in spread_indices(indices, count)]


def _examples(one: Surveyed, good: Sequence[int]) -> list[int]:
    """Images with labels, so that there is one of each class, of rare ones first, as far as they go."""
    if one.data.kind == 'images':
        return []
    by_class = {}
    for index in good:
        values = one.looked[index].values
        for label in values if values is not None else labels_of(one.data.samples[index]):
            by_class.setdefault(label, []).append(index)
    if one.data.kind == 'segmentation':
        by_class = {value: found for value, found in by_class.items() if value in one.class_of}
    found = []
    for label in sorted(by_class, key=lambda label: len(by_class[label])):
        if not set(found) & set(by_class[label]):
            found += by_class[label][:1]
    rest = [index for index in sorted({*sum(by_class.values(), [])}) if index not in found]
    if one.data.kind == 'classification':
        return sorted(_spread(found, EXAMPLES), key=lambda index: labels_of(one.data.samples[index]))
    return found[:EXAMPLES] + _spread(rest, max(0, EXAMPLES - len(found)))


def _colors(one: Surveyed) -> list[Color]:
    return colors_of([found.name for found in one.classes if found.name != 'no class'], None)


def _table(one: Surveyed) -> np.ndarray:
    """The number of the class of each value of a map."""
    table = np.full(256, NO_CLASS, np.uint8)
    for place, value in enumerate(one.class_of):
        if value < len(table):  # there may be more names than values
            table[value] = min(place, NO_CLASS)
    return table


def _picture(task: tuple[dict, bool, np.ndarray, list[Color]]) -> Picture | None:
    """Draw a sample's image small, and its map if it is large; None if it cannot be read."""
    sample, large, table, colors = task
    try:
        image = _viewable(pixels_of(sample))
        labels = table[map_of(sample, image.shape[:2])] if large and has_map(sample) else None
    except Exception:  # on broken data of many types; what it is was said
        return None
    side = LARGE if large else SMALL
    small, size = thumbnail(image, side, 82 if large else 76)
    return Picture(_address('jpeg', small), *size, min(1., side / max(image.shape[:2])),
                   '' if labels is None else _address('png', map_png(labels, colors, size, NO_CLASS)))


def _address(kind: str, file: bytes) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(file).decode()}'


def _viewable(image: np.ndarray) -> np.ndarray:
    """Any image (H, W, bands) as 8-bit BGR: of several bands the first three, from the darkest to the brightest value."""
    image = image[..., :3] if image.shape[2:] and image.shape[2] >= 3 else np.repeat(image.reshape(*image.shape[:2], -1)[
        ..., :1], 3, 2)
    if image.dtype != np.uint8:
        image = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
        low, high = np.percentile(image, (1, 99))
        image = (255 * (image - low) / max(high - low, 1e-9)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(image)


def _card(one: Surveyed, index: int, picture: Picture, colors: Sequence[Color], large: bool) -> dict[str, Any]:
    """What the page shows of a sample."""
    sample, classes = one.data.samples[index], one.data.classes
    card = dict(name=name_of(one, index), where=one.data.name, picture=picture, shapes=[], chips=[])
    if one.data.kind == 'segmentation':
        known = one.class_of
        values = Counter({value: count for value, count in (one.looked[index].values or {}).items() if value in known}
                         if index in one.looked else {})
        places = {value: place for place, value in enumerate(known)}
        card['chips'] = [(known[value], css(colors[places[value]])) for value, _ in values.most_common(6)]
        return card
    card['chips'] = [(classes[place], css(colors[place])) for place in map(one.data.place, labels_of(sample))]
    if large:
        card['shapes'] = [_shape(found, classes, colors, picture) for found in sorted(
            sample.get('instances', ()), key=lambda found: -area(found))[:MOST_SHAPES]]
    return card


def _shape(instance: dict, classes: Sequence[str], colors: Sequence[Color], picture: Picture) -> dict[str, Any]:
    """An object's box and outline, in px of the picture."""
    left, top, right, bottom = (round(value * picture.scale, 1) for value in instance['bbox'])
    label, mask = instance['bbox_label'], instance.get('mask')
    color = colors[label]
    return dict(
        name='crowd of ' * bool(instance.get('ignore_flag')) + classes[label], color=css(color), left=left, top=top,
        width=round(right - left, 1), height=round(bottom - top, 1), outline=_outline(mask, picture.scale),
        wide=right - left > picture.width / 9, ink='#000' if sum(a * b for a, b in zip(color, (.3, .59, .11), strict=True))
        > 128 else '#fff')


def _outline(mask: list | dict | None, scale: float) -> str:
    """The path of an SVG drawing of polygons or run lengths."""
    if isinstance(mask, dict):
        if isinstance(mask['counts'], list):
            mask = run_lengths.frPyObjects(mask, *mask['size'])
        return outline(CutMask.of(run_lengths.decode(mask)), scale)
    scaled = ([round(value * scale, 1) for value in points] for points in mask or () if len(points) >= 6)
    return ''.join('M' + ' '.join(f'{x:g},{y:g}' for x, y in zip(points[::2], points[1::2], strict=False)) + 'Z'
                   for points in scaled)


def _bars(one: Surveyed, colors: Sequence[Color]) -> list[dict[str, Any]]:
    """The classes, those of the most first; as long as what they have of that."""
    most = max([found.objects for found in one.classes], default=0) or 1
    bars = [dict(name=found.name, color=css(colors[label]) if label < len(colors) else '#8b949c',
                 length=round(100 * found.objects / most, 2), objects=found.objects,
                 text=share(found.share) if one.data.kind == 'segmentation' else number(found.objects),
                 images='' if one.data.kind == 'classification' else f'in {many(found.images, "image")}')
            for label, found in enumerate(one.classes)]
    return sorted(bars, key=lambda bar: -bar['objects'])


def _sizes(one: Surveyed) -> dict[str, Any] | None:
    """A drawing of widths and heights, as circles on a square of 100; None if there is one size only."""
    if len(one.sizes) < 2:
        return None
    most, high = max(one.sizes.values()), max(max(size) for size in one.sizes)
    top = next(step * 10 ** len(str(high)) for step in (.1, .2, .5, 1) if step * 10 ** len(str(high)) >= high)
    circles = [dict(x=round(100 * width / top, 2), y=round(100 - 100 * height / top, 2),
                    r=round(.9 + 2.6 * (count / most) ** .5, 2), text=f'{width}×{height} px: {many(count, "image")}')
               for (width, height), count in one.sizes.most_common(2000)]
    return dict(circles=circles, top=int(top))
