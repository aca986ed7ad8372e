"""Which values of the pixels of masks are classes, and which are none."""
import os
import random
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from coma_mm.datasets.encoded import open_image
from coma_mm.datasets.maps import map_problem
from coma_mm.errors import UserError, first_names
from coma_mm.files import open_regular, read_text

MOST_MASKS = 1000
"""Masks whose values are counted; of more it is a sample."""
MOST_CLASSES = 100
"""Without names: more values look like a picture, not like classes."""
NO_CLASS = 255
VOID = {'void', 'ignore', 'ignored', 'unlabeled', 'unlabelled', 'unknown'}
"""Names in a list of classes of what is none."""


@dataclass
class Labels:
    """The classes of masks.

    Attributes:
        names (list[str]): In the order of their ids.
        values (list[int]): The value that stands for each in the masks.
        ignored (list[int]): Values that are no class.
        notes (list[str]): What there is to say.
    """
    names: list[str]
    values: list[int]
    ignored: list[int]
    notes: list[str] = field(default_factory=list)

    @property
    def ids(self) -> dict[int, int]:
        """The class id of each value that has another one."""
        ids = {value: number for number, value in enumerate(self.values) if value != number}
        return dict(sorted({**ids, **{value: NO_CLASS for value in self.ignored if value != NO_CLASS}}.items()))

    @property
    def reduces_zero(self) -> bool:
        """Whether 0 is no class and the others count from 1, which mmsegmentation has a setting for."""
        return self.values == list(range(1, len(self.values) + 1)) and set(self.ignored) <= {0, NO_CLASS}


def count_values(paths: Sequence[str]) -> tuple[Counter, int]:
    """Count the values of the pixels of masks.

    Args:
        paths (Sequence[str]): The masks.

    Returns:
        tuple[Counter, int]: How many pixels have each value, and how many masks were read.

    Raises:
        UserError: If a mask cannot be read, or is no map of class ids.
    """
    chosen = random.Random(0).sample(sorted(paths), min(MOST_MASKS, len(paths)))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        counts = sum(pool.map(_values, chosen), np.zeros(256, np.int64))
    return Counter({value: int(count) for value, count in enumerate(counts) if count}), len(chosen)


def _values(path: str) -> np.ndarray:
    return np.bincount(read_mask(path).ravel(), minlength=256)


def read_mask(path: str) -> np.ndarray:
    """The values in a mask's file, uint8.

    Raises:
        UserError: If it cannot be read, or is no map of class ids.
    """
    try:
        with open_regular(path) as file, open_image(file) as image:
            values = np.asarray(image)
    except Exception as error:  # on broken data Pillow's decoders raise many types
        raise UserError(f'cannot read the mask {path}: {error}') from error
    if problem := map_problem(values):
        raise UserError(f'the mask {path} {problem}')
    return values.astype(np.uint8)


def palette_of(path: str, values: Sequence[int]) -> list[list[int]] | None:
    """The colours that a palette PNG gives some values, if it is one and has all of them."""
    with open_regular(path) as file, open_image(file) as image:
        colours = image.getpalette() if image.mode == 'P' else None
    if not colours or 3 * max(values) + 3 > len(colours):
        return None
    return [colours[3 * value:3 * value + 3] for value in values]


def read_names(path: str, option: str) -> list[str]:
    """The lines of a file, without empty ones.

    Raises:
        UserError: If it cannot be read, or is empty.
    """
    try:
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f'{option} {path}: {error.strerror}; expected a text file with a class in each line') from error
    if not names:
        raise UserError(f'{option} {path} is empty; expected a text file with a class in each line')
    return names


def class_names(classes: str | Sequence[str] | None) -> list[str] | None:
    """The names of the classes, given as they are or as a file with one in each line; None stays None.

    Raises:
        UserError: If the file cannot be read or is empty, or a class is there twice.
    """
    if classes is None:
        return None
    is_file = isinstance(classes, str | os.PathLike)
    names = read_names(classes, '--classes') if is_file else list(classes)
    if twice := [name for name, count in Counter(names).items() if count > 1 and name.lower() not in VOID]:
        raise UserError(f'--classes{f" {classes}" if is_file else ""}: more than one class is called '
                        f'{first_names(twice)}; expected names that differ, one for each value of the masks')
    return names


def read_palette(path: str, number: int) -> list[list[int]]:
    """The colours in a file of lines R G B, what stands behind them aside.

    Raises:
        UserError: If a line has no three numbers from 0 to 255, or there are not as many as classes.
    """
    rows = read_names(path, '--palette')
    colours = []
    for row in rows:
        words = row.replace(',', ' ').split()[:3]
        if len(words) < 3 or not all(word.isdecimal() and int(word) < 256 for word in words):
            raise UserError(f'--palette {path}: cannot read the line {row!r}; expected R G B, each from 0 to 255')
        colours.append([int(word) for word in words])
    if len(colours) != number:
        raise UserError(f'--palette {path} has {len(colours)} lines; expected one for each of the {number} classes')
    return colours


def find_labels(found: Collection[int], names: Sequence[str] | None = None, ignore: Sequence[int] | None = None) -> Labels:
    """Decide which values are classes.

    Args:
        found (Collection[int]): The values in the masks.
        names (Sequence[str], optional): Of the classes, in the order of their values.
        ignore (Sequence[int], optional): Values that are no class. Defaults to 255, if other values are left.

    Returns:
        Labels: The classes.

    Raises:
        UserError: If that cannot be known, with the option that says it; or if there are fewer than two classes.
    """
    if ignore is None and set(found) == {0, NO_CLASS}:
        return Labels(list(names) if names and len(names) == 2 else ['0', '255'], [0, NO_CLASS], [],
                      ['The values of the masks are 0 and 255, so 255 is the second class'])
    ignored = set(ignore or ()) | {NO_CLASS}
    kept = sorted(set(found) - ignored)
    labels = _by_names(kept, list(names), ignored) if names else _by_values(kept)
    labels.ignored = sorted({*labels.ignored, *(ignored if ignore else ignored & set(found))})
    if len(labels.names) < 2:
        raise UserError(f'the masks have one class only (their values are {first_names(map(str, sorted(found)))}); expected '
                        'two or more: what is around the objects is a class, too')
    return labels


def _by_values(kept: Sequence[int]) -> Labels:
    if len(kept) > MOST_CLASSES:
        raise UserError(f'the masks have {len(kept)} values; if these are classes, name them by --classes names.txt, and '
                        'what is none by --ignore')
    return Labels([f'class {value}' for value in kept], list(kept), [],
                  ['The classes are named by their values: --classes names.txt gives them names'])


def _by_names(kept: Sequence[int], names: list[str], ignored: Collection[int]) -> Labels:
    number, notes = len(names), []
    first = int(0 in ignored and names[0].lower() not in VOID | {'background'})
    if number in kept and 0 not in kept:
        first = 1
    beyond = [value for value in kept if value >= first + number]
    if beyond == [number]:
        raise UserError(f'the masks have the values 0 to {number}, one more than the {number} names in --classes; say which '
                        f'is no class: --ignore {number} if the last one is, --ignore 0 if the first one is')
    if len(beyond) > 1:
        raise UserError(f'the masks have the values {first_names(map(str, beyond))} beyond the {number} names in --classes '
                        f'({first} to {first + number - 1}); add their names, or say that they are no class: --ignore '
                        f'{" ".join(map(str, beyond[:20]))}')
    if beyond:
        notes.append(f'The value {beyond[0]}, which is beyond the {number} names, is ignored')
    named = dict(enumerate(names, first))
    void = [value for value, name in named.items() if name.lower() in VOID and value not in ignored]
    if void:
        notes.append(f'{first_names(named[value] for value in void)} is ignored')
    values = [value for value in named if value not in {*void, *ignored}]
    if absent := [named[value] for value in values if value not in kept]:
        notes.append(f'No pixel is of {first_names(absent)}')
    return Labels([named[value] for value in values], values, [*beyond, *void], notes)
