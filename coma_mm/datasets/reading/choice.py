"""Which channels of a file are meant by a number of bands, by indices or by names."""
from collections.abc import Iterable, Sequence
from typing import Any

from coma_mm.errors import UserError, nearest

from .base import Reader

Bands = int | str | Sequence[int | str]
"""How many bands an image has; or the ones to take, by index from 0 or by name."""


def check_choice(bands: Any) -> Bands:
    """Check the setting `bands`.

    Raises:
        UserError: If it is neither a number nor a list of indices and names.
    """
    one = isinstance(bands, int) and not isinstance(bands, bool) and bands >= 1
    several = isinstance(bands, (list, tuple)) and bands and all(
        isinstance(band, str) or isinstance(band, int) and not isinstance(band, bool) and band >= 0 for band in bands)
    if not one and not several:
        raise UserError(f'bands={bands!r}: expected how many bands the images have, as 4, or a list of the bands to read, '
                        "by index from 0 or by name, as [0,1,3] or ['red','nir']")
    if several and len(set(bands)) < len(bands):
        raise UserError(f'bands={list(bands)} names a band twice; name each once')
    return bands if one else list(bands)


def choose(bands: Bands | None, reader: Reader) -> list[int]:
    """The channels of an open file that are meant.

    Args:
        bands (int | Sequence[int | str] | None): A number of bands is a claim about the file, not a choice: of a file with
            more nobody knows which to take. Indices and names choose. None takes all.
        reader (Reader): The file.

    Returns:
        list[int]: Numbers of channels.

    Raises:
        ValueError: If the file has no such bands.
    """
    ways = reader.ways
    if bands is None:
        return next(iter(ways.values()))
    if isinstance(bands, int) and not isinstance(bands, bool):
        if bands in ways:
            return ways[bands]
        raise ValueError(f'it is {describe(reader)}; expected bands={bands}'
                         + (f', so choose them: bands={list(range(bands))}' if 0 < bands < max(ways) else ''))
    widest = ways[max(ways)]
    bands = [bands] if isinstance(bands, str) else list(bands)
    if not bands:
        raise ValueError('bands is an empty list; expected a number of bands, or indices or names of some')
    names = reader.names or ('', ) * len(widest)
    return [widest[place] for place in places(bands, names, f'it is {describe(reader)}, and')]


def places(bands: Iterable[int | str], names: Sequence[str], where: str) -> list[int]:
    """Where bands are among all that there are.

    Args:
        bands (Iterable[int | str]): Indices from 0, or names, of which capitals do not matter.
        names (Sequence[str]): Of all bands; '' for one without.
        where (str): What is said to have these, for messages.

    Returns:
        list[int]: From 0.

    Raises:
        ValueError: If there is no such band, or more than one.
    """
    known, found = [name.casefold() for name in names], []
    for band in bands:
        is_name = isinstance(band, str)
        here = [place for place, name in enumerate(known) if (name == band.casefold() if is_name else place == band)]
        if len(here) != 1 or isinstance(band, bool):
            expected = f'an index of 0 to {len(names) - 1}'
            if is_name and not here:
                expected += f' or one of {", ".join(filter(None, names))}' if any(names) else ', as its bands have no names'
                close = nearest(band, names)
                expected += f'; did you mean {close!r}?' if close else ''
            many = 'more than one' if len(here) > 1 else 'no'
            raise ValueError(f'{where} has {many} band {band!r}; expected {expected}')
        found += here
    return found


def describe(reader: Reader) -> str:
    """In words: kind, size, bands and type."""
    number = next(iter(reader.ways))
    names = f' ({", ".join(name or "?" for name in reader.names)})' if any(reader.names) else ''
    return (f'{reader.kind} of {reader.width} × {reader.height} px with {number} band{"s" if number != 1 else ""}{names} of '
            f'{reader.dtype.name}')
