"""What the values of one's own images are: bands, depth, size, and the moments by which a model normalises them."""
import json
import math
import os
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from coma_mm.datasets.image_folder import BAND_SUFFIXES, walk_files
from coma_mm.datasets.reading import open_bands
from coma_mm.datasets.usage import many
from coma_mm.errors import UserError, first_names, printable
from coma_mm.files import check_folder, write_whole
from coma_mm.processes import pool_map

SAMPLE = 500
"""Images that are looked at where not all are."""
SIDE = 1024
"""Of a larger image a part of so many px a side, at a random place, stands for it."""
VALUES = 4_000_000
"""Pixels of which the percentiles are taken, of all images, and at most `OF_ONE` of each."""
OF_ONE = 4096
FOLDERS = dict(imagenet='train', ade20k='images')
"""Where a data set of a kind has its images, if that is not the whole folder."""


class Look(NamedTuple):
    """What one image is like.

    Args:
        path (str): The file.
        problem (str): Why it cannot be read, or ''.
        kind (tuple): Number of bands, and type of the values.
        names (tuple[str]): Of the bands, if the file says them.
        size (tuple[int, int]): Height and width in px.
        nodata (float): Share of its values that are none.
        count, mean, square (np.ndarray): Of each band, float64: the number of values that are data, their mean, and the sum
            of squared differences from it.
        values (np.ndarray): Some pixels, (n, bands).
    """
    path: str
    problem: str = ''
    kind: tuple[int, str] = (0, '')
    names: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    nodata: float = 0.
    count: Any = None
    mean: Any = None
    square: Any = None
    values: Any = None


@dataclass
class Measured:
    """What a folder of images is like.

    Args:
        content (dict): What goes into the file; see docs/bands.md.
        lines (list[str]): The same for people.
        problems (list[str]): What must be mended before: images that cannot be read, or are of other bands than most.
    """
    content: dict[str, Any]
    lines: list[str]
    problems: list[str] = field(default_factory=list)


def measure(root: str, full: bool = False, workers: int = 1, nodata: float | None = None) -> Measured:
    """Measure the values of the images in a folder and below.

    Args:
        root (str): The folder.
        full (bool): Look at all images, instead of `SAMPLE` of them, which are the same ones every time. Defaults to False.
        workers (int): Processes that read. Defaults to 1.
        nodata (float, optional): The value that stands for no data. Defaults to what the files say.

    Returns:
        Measured: Of the images that have the number of bands and the type of most of them.

    Raises:
        UserError: If there is no such folder, or no image that can be read.
    """
    nodata = None if nodata is None or not math.isfinite(nodata) else nodata  # what is not finite is never data
    paths = _paths(root)
    chosen = paths if full else sorted(random.Random(0).sample(paths, min(SAMPLE, len(paths))))
    look_at = partial(_look, nodata=nodata, values=max(1, min(OF_ONE, VALUES // len(chosen))))
    groups, bad = defaultdict(list), []
    for look in pool_map(look_at, chosen, workers, 'reading', 8, unit='images', disable=len(chosen) <= 20):
        (bad if look.problem else groups[look.kind]).append(look)
    if not groups:
        raise UserError(f'none of {len(bad)} images of {root} can be read; the first: {bad[0].problem}')
    kind = max(groups, key=lambda one: len(groups[one]))
    if all(look.nodata == 1 for look in groups[kind]):
        raise UserError(f'no value stands for data in the {len(groups[kind])} images of {root} that were read, so there are '
                        'no moments; expected images with data, or another --nodata')
    own = {} if nodata is None else dict(nodata_value=nodata)
    content = dict(own, images=len(paths), looked_at=len(chosen), share=len(chosen) / len(paths), **_summary(groups[kind]))
    lines = list(_lines(content))
    for band in content['bands']:
        if band['std'] <= 1e-7 * abs(band['mean']):  # float32 tells values no better apart
            band['std'] = 1.
            lines.append(f'warning: {band["name"]} has no data, or one value, wherever it was read; its std is written as '
                         '1, and it tells a model nothing')
    return Measured(content, lines, list(_problems(groups, kind, bad)))


def _paths(root: str) -> list[str]:
    """The images in a folder and below, sorted."""
    check_folder(root, 'a folder of images')
    others = os.path.join(root, 'annotations', '')  # of COCO: maps may be in it
    paths = sorted(path for path in walk_files(root)
                   if path.lower().endswith(BAND_SUFFIXES) and not path.startswith(others))
    if not paths:
        raise UserError(f'no image in {root}; expected files that end in {", ".join(BAND_SUFFIXES)}')
    return paths


def _problems(groups: dict[tuple[int, str], list[Look]], kind: tuple[int, str], bad: list[Look]) -> Iterator[str]:
    """What must be mended before a model is trained on images most of which are of a kind."""
    yield from (look.problem for look in bad[:10])
    if len(bad) > 10:
        yield f'… and {len(bad) - 10} more that cannot be read'
    total = len(bad) + sum(map(len, groups.values()))
    for other, looks in groups.items():
        if other != kind:
            yield (f'{len(looks)} of {total} images are of {other[0]} bands, {other[1]}, and the others of '
                   f'{kind[0]}, {kind[1]}: {first_names(look.path for look in looks)}; a model sees one kind')
    orders = Counter(tuple(map(str.casefold, look.names)) for look in groups[kind] if any(look.names))
    if len(orders) > 1:
        (most, _), (other, count), *_ = orders.most_common()
        yield (f'{count} of {len(groups[kind])} images name their bands {", ".join(other)}, and others {", ".join(most)}; '
               'the moments are by place, so bring them into one order, or measure each by itself')


def _look(path: str, nodata: float | None, values: int) -> Look:
    """Look at an image, in a process of its own."""
    try:
        with open_bands(path, nodata=nodata) as image:
            height, width = image.shape[:2]
            rng = np.random.default_rng(zlib.crc32(os.fsencode(os.path.basename(path))))
            size = min(SIDE, height), min(SIDE, width)
            window = (int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1)), *size)
            pixels, share = image.read(window)
            names, dtype, counts = tuple(image.info.names or ()), str(pixels.dtype), 1 - image.gaps
    except UserError as error:
        return Look(path, printable(str(error).partition('; replace or remove')[0]))
    pixels = pixels.reshape(-1, pixels.shape[-1])
    mean = pixels.mean(0, dtype=np.float64)  # gaps are filled with it, and so add nothing to the squares
    square = np.square(pixels - mean).sum(0)
    some = pixels[np.sort(rng.choice(len(pixels), min(values, len(pixels)), replace=False))]
    return Look(path, '', (pixels.shape[1], dtype), names, (height, width), share,
                len(pixels) * counts, mean, square, some)


def _summary(looks: list[Look]) -> dict[str, Any]:
    """What images of one kind have in common."""
    nodata = float(np.mean([look.nodata for look in looks]))
    looks = [look for look in looks if look.count.any()]
    counts, means = (np.stack([getattr(look, key) for look in looks]) for key in ('count', 'mean'))
    total = counts.sum(0).clip(1e-9)  # of a band that has no data anywhere
    mean = (counts * means).sum(0) / total
    square = sum(look.square for look in looks) + (counts * np.square(means - mean)).sum(0)
    std = np.sqrt(square / total)
    values = np.concatenate([look.values for look in looks])
    low, high = np.percentile(values, (2, 98), axis=0)
    names = next((look.names for look in looks if look.names), ())
    sizes = np.array([look.size for look in looks])
    bands = [dict(name=names[i] if i < len(names) and names[i] else f'band {i}', mean=float(mean[i]),
                  std=float(std[i]), low=float(low[i]), high=float(high[i])) for i in range(len(mean))]
    return dict(dtype=looks[0].kind[1], height=[int(sizes[:, 0].min()), int(sizes[:, 0].max())],
                width=[int(sizes[:, 1].min()), int(sizes[:, 1].max())],
                nodata=nodata, bands=bands)


def _lines(content: dict[str, Any]) -> Iterator[str]:
    sides = [f'{low}' if low == high else f'{low} to {high}' for low, high in (content['width'], content['height'])]
    yield (f'looked at {content["looked_at"]:,} of {content["images"]:,} images ({100 * content["share"]:.3g} %): '
           f'{many(len(content["bands"]), "band")}, {content["dtype"]}, {sides[0]} × {sides[1]} px, no data: '
           f'{100 * content["nodata"]:.3g} %')
    yield f'{"band":14}{"mean":>12}{"std":>12}{"2 %":>12}{"98 %":>12}'
    for band in content['bands']:
        yield printable(f'{band["name"]:14}') + ''.join(f'{band[key]:12.6g}' for key in ('mean', 'std', 'low', 'high'))


def write_moments(measured: Measured, path: str) -> list[str]:
    """Write the file of moments.

    Args:
        measured (Measured): From `measure`.
        path (str): The file.

    Returns:
        list[str]: What to set, for people.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        write_whole(path, json.dumps(measured.content, indent=1) + '\n')
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error
    number = len(measured.content['bands'])
    return [f'wrote {path}; for the configs: --bands {number} --moments {path}, or in a config: bands = {number} and '
            f'moments = {path!r}']
