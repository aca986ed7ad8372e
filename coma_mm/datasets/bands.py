"""Images of any bands: which of a file's bands are read, what is known of their values, and how they are looked at."""
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coma_mm.errors import UserError, shorten
from coma_mm.files import read_text

from .reading.base import DEPTHS, kept_type
from .reading.choice import Bands as Choice
from .reading.choice import check_choice, places
from .usage import many

RGB = ('red', 'green', 'blue')
_KEYS = ('mean', 'std', 'low', 'high')
LARGEST = float(np.finfo(np.float32).max)
"""Models compute in float32."""


@dataclass(frozen=True)
class Bands:
    """The bands that a model sees.

    Args:
        chosen (int | list[int | str]): How many bands the files have, all of which are read; or those that are, by index
            from 0 or by name.
        names (list[str]): Of those that are read, in their order; 'band 0' and so on, where nobody says it.
        moments (dict): Numbers for each of them, if they are known: 'mean', 'std', and 'low' and 'high', the 2nd and 98th
            percentile.
        depth (str, optional): The type of the values that the moments are of: 'uint8', 'uint16' or 'float32'. Defaults to
            any.
        nodata (float, optional): The value that stands for no data, beside what the files say. Defaults to none.
    """
    chosen: Choice
    names: list[str]
    moments: dict[str, list[float]]
    depth: str | None = None
    nodata: float | None = None

    @classmethod
    def of(cls, bands: Any, moments: Any) -> 'Bands | None':
        """From the settings of a config.

        Args:
            bands (int | Sequence, optional): The setting `bands`. Defaults to all of the moments.
            moments (str | dict, optional): The setting `moments`: the file, or its content.

        Returns:
            Bands | None: None if neither is set.

        Raises:
            UserError: If one of them cannot be read, or they do not fit each other.
        """
        if bands is None and moments is None:
            return None
        bands = None if bands is None else check_choice(bands)
        if moments is None:
            chosen = range(bands) if isinstance(bands, int) else bands
            return cls(bands, [f'band {band}' if isinstance(band, int) else band for band in chosen], {})
        where = moments if isinstance(moments, str) else 'moments'
        content = read_moments(moments)
        known = content['bands']
        every = [str(one.get('name') or f'band {index}') for index, one in enumerate(known)]
        bands = len(known) if bands is None else bands
        if isinstance(bands, int) and bands != len(known):
            raise UserError(f'{where} has the moments of {many(len(known), "band")}; expected those of {bands}, as '
                            f'bands={bands} says: measure these images, with coma-mm check_data folder PATH --moments '
                            'FILE.json')
        try:
            chosen = places(range(bands) if isinstance(bands, int) else bands, every, where)
        except ValueError as error:
            raise UserError(f'bands={bands}: {error}') from error
        return cls(bands if isinstance(bands, int) else chosen, [every[place] for place in chosen],
                   {key: [float(known[place][key]) for place in chosen] for key in _KEYS},
                   content.get('dtype'), content.get('nodata_value'))

    @classmethod
    def of_plain(cls, found: Any) -> 'Bands':
        """The way back from `plain`.

        Raises:
            UserError: If it is nothing that `plain` gives.
        """
        names, moments = (found.get(key) for key in ('names', 'moments')) if isinstance(found, Mapping) else (None, None)
        if not isinstance(names, list) or not names or not isinstance(moments, Mapping) or not all(
                isinstance(name, str) for name in names) or not all(
                key in _KEYS and isinstance(one, list) and len(one) == len(names) and all(
                    type(value) in (int, float) for value in one) for key, one in moments.items()):
            raise UserError('bands are no names and moments')
        depth, nodata = found.get('depth'), found.get('nodata')
        return cls(check_choice(found.get('chosen')), names, dict(moments), depth if depth in DEPTHS else None,
                   nodata if type(nodata) in (int, float) else None)

    def plain(self) -> dict[str, Any]:
        """As a checkpoint's description has it."""
        moments = {key: list(one) for key, one in self.moments.items()}
        nodata = {} if self.nodata is None else dict(nodata=self.nodata)
        return dict(chosen=self.chosen, names=list(self.names), moments=moments, depth=self.depth, **nodata)

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.names)

    def rgb(self, asked: Sequence[int | str] | None = None) -> list[int]:
        """Places, among those that are read, of the three bands that are looked at.

        Args:
            asked (Sequence, optional): Indices among them, from 0, or names: three, or one for grey. Defaults to those that
                are called red, green and blue; or else to the first three, or of fewer to the first.

        Raises:
            UserError: If there are no such bands.
        """
        if asked is None:
            known = [name.casefold() for name in self.names]
            found = [known.index(name) for name in RGB] if set(RGB) <= set(known) else [0, 1, 2] if self.number > 2 else [0]
        else:
            try:
                found = places(asked, self.names, 'what is read')
            except ValueError as error:
                raise UserError(f'--rgb: {error}') from error
        if len(found) not in (1, 3):
            raise UserError(f'--rgb names {many(len(found), "band")}; expected three, for red, green and blue, or one for '
                            'grey')
        return found * (3 // len(found))

    def view(self, asked: Sequence[int | str] | None = None) -> dict[str, list]:
        """What `picture` needs: 'rgb', and if they are known 'low' and 'high', each of three numbers."""
        rgb = self.rgb(asked)
        known = {key: [self.moments[key][i] for i in rgb] for key in ('low', 'high') if key in self.moments}
        return dict(rgb=rgb, **known)


def picture(image: np.ndarray, rgb: Sequence[int], low: Sequence[float] | None = None,
            high: Sequence[float] | None = None) -> np.ndarray:
    """Three bands of an image to look at.

    Args:
        image (np.ndarray): (H, W, bands).
        rgb (Sequence[int]): The bands for red, green and blue.
        low (Sequence[float], optional): Of each of the three the value that is black. Defaults to the 2nd percentile of the
            image.
        high (Sequence[float], optional): And the one that is white. Defaults to its 98th percentile.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.
    """
    values = image[..., list(rgb)].astype(np.float32)
    if low is None:
        low, high = np.nanpercentile(values, (2, 98), axis=(0, 1))
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    scaled = (values - low) * (255 / np.maximum(high - low, 1e-12))
    return np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)


def read_moments(moments: str | Mapping[str, Any]) -> dict[str, Any]:
    """Read what is known of the values of bands.

    Args:
        moments (str | dict): A file that `coma-mm check_data folder PATH --moments` wrote, or its content.

    Returns:
        dict: With 'bands', a list of 'mean', 'std', 'low' and 'high' of each and perhaps its 'name'; perhaps 'dtype' and
            'nodata_value'.

    Raises:
        UserError: If it is no such file.
    """
    where, content = 'moments', moments
    if isinstance(moments, (str, os.PathLike)):
        where = os.fspath(moments)
        try:
            content = json.loads(read_text(where))
        except FileNotFoundError as error:
            raise UserError(f'no file {where} of moments; make it with coma-mm check_data folder PATH --moments '
                            f'{where}') from error
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f'cannot read the moments {where}: {shorten(str(error), 200)}') from error
    bands = content.get('bands') if isinstance(content, Mapping) else None
    if not isinstance(bands, (list, tuple)) or not bands or not all(map(_is_band, bands)):
        raise UserError(f'{where} holds no moments; expected bands, a list with mean, std (above 0), low and high of each, '
                        'as coma-mm check_data folder PATH --moments FILE.json writes it')
    more = {key: content[key] for key in ('dtype', 'nodata_value') if content.get(key) is not None}
    if 'dtype' in more:
        more['dtype'] = _depth(more['dtype'], where)
    if type(more.get('nodata_value', 0)) not in (int, float):
        raise UserError(f'{where}: nodata_value is {more["nodata_value"]!r}; expected the number that stands for no data')
    return dict(more, bands=[dict(band) for band in bands])


def _depth(name: Any, where: str) -> str:
    """The type in which values of another one are read."""
    try:
        return kept_type(np.dtype(name)).name
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}: dtype is {name!r}; expected one of {", ".join(DEPTHS)}') from error


def _is_band(band: Any) -> bool:
    if not isinstance(band, Mapping):
        return False
    values = [band.get(key) for key in _KEYS]
    return all(type(value) in (int, float) and abs(value) <= LARGEST for value in values) and band['std'] > 0
