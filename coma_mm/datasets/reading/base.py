"""What the readers of all formats have in common: what a file says of itself, and windows of its pixels."""
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

DEPTHS = ('uint8', 'uint16', 'float32')
"""The types in which values are handed on."""
Window = tuple[int, int, int, int]
"""Top, left, height and width in px."""


class ImageInfo(NamedTuple):
    """What is known of an image file before its pixels are decoded.

    Args:
        height (int): In px.
        width (int): In px.
        bands (int): How many of them are read by default.
        dtype (str): The type in which they are read, one of `DEPTHS`.
        names (tuple[str]): The names of the bands, as many as there are, '' for one without; empty if none has one.
    """
    height: int
    width: int
    bands: int
    dtype: str
    names: tuple[str, ...] = ()


class Reader:
    """An open image file.

    Attributes:
        kind (str): What it is, for messages: 'a TIFF'.
        height, width (int): In px.
        dtype (np.dtype): Of the values in the file.
        ways (dict[int, list[int]]): Which channels of the file stand for how many bands; the first is the default. A grey
            JPEG is one of three bands, or of one.
        names (tuple[str]): Of the channels, see `ImageInfo`.
        nodata (float | None): The value that the file says stands for no data.
        windowed (bool): Whether less of the file is decoded for a window than for all of it.
    """
    kind = 'an image'
    windowed = False
    nodata: float | None = None
    names: tuple[str, ...] = ()
    height: int
    width: int
    dtype: np.dtype
    ways: dict[int, list[int]]

    def read(self, channels: list[int], window: Window) -> np.ndarray:
        """Some channels of a window.

        Args:
            channels (list[int]): Numbers of channels, from 0.
            window (tuple[int]): Inside of the image.

        Returns:
            np.ndarray: (height, width, channels), of the file's type.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""


class Pixels(Reader):
    """A reader of formats that are decoded as a whole, when the first window is asked for.

    Args:
        size (tuple[int, int]): Height and width in px.
        dtype (np.dtype): See `Reader`.
        ways (dict[int, list[int]]): See `Reader`.
        decode (Callable): Returns all values, (H, W, channels).
        **attributes: Others of `Reader`.
    """

    def __init__(self, size: tuple[int, int], dtype: Any, ways: dict[int, list[int]], decode: Callable[[], np.ndarray],
                 **attributes: Any):
        self.height, self.width = size
        self.dtype, self.ways, self._decode, self._pixels = np.dtype(dtype), ways, decode, None
        vars(self).update(attributes)

    def read(self, channels: list[int], window: Window) -> np.ndarray:
        """Decode all of it once; see `Reader`."""
        if self._pixels is None:
            self._pixels = self._decode()
        return take(self._pixels, channels, window)


def take(pixels: np.ndarray, channels: list[int], window: Window) -> np.ndarray:
    """A window of some channels of an image (H, W, C); a view if they follow each other."""
    top, left, height, width = window
    return pixels[top:top + height, left:left + width, as_slice(channels)]


def as_slice(channels: list[int]) -> list[int] | slice:
    """Indices as a slice, if they follow each other: NumPy copies many times faster by one."""
    first = channels[0]
    return slice(first, first + len(channels)) if channels == list(range(first, first + len(channels))) else channels


def all_bands(number: int) -> dict[int, list[int]]:
    """The `ways` of a file all of whose channels are bands."""
    return {number: list(range(number))}


def kept_type(dtype: np.dtype) -> np.dtype:
    """The type in which values of another one are handed on: 8 and 16 bits without a sign as they are, others as float32.

    Raises:
        ValueError: For complex numbers, and what is none.
    """
    if dtype.kind == 'b':
        return np.dtype(np.uint8)
    if dtype.kind == 'u' and dtype.itemsize <= 2:
        return dtype.newbyteorder('=')
    if dtype.kind in 'iuf':
        return np.dtype(np.float32)
    raise ValueError(f'its values are of type {dtype}; expected integers or floating-point numbers')
