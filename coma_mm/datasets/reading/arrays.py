"""Arrays of NumPy as images: .npy by memory map, and .npz."""
import zipfile
from typing import BinaryIO

import numpy as np

from .base import Pixels, Reader, Window, all_bands, kept_type, take

IMAGE_KEYS = ('image', 'img', 'x', 'arr_0')
"""Names of the one array of several in a .npz that is the image."""
FEW = 32
"""An array's first axis may be its bands if it is no longer than this."""


class NpyReader(Reader):
    """An array in a .npy file, of which a window reads only its own pages.

    Args:
        file (str | BinaryIO): Where it is, or its content.
        bands (int, optional): How many bands it should have, which tells which axis they are.
    """
    kind, windowed = 'an array of NumPy', True

    def __init__(self, file: str | BinaryIO, bands: int | None):
        array = np.load(file, mmap_mode='r' if isinstance(file, str) else None, allow_pickle=False)
        self._pixels = bands_last(array, bands)
        self.height, self.width, number = self._pixels.shape
        self.dtype, self.ways = array.dtype, all_bands(number)
        kept_type(self.dtype)

    def read(self, channels: list[int], window: Window) -> np.ndarray:
        """See `Reader`."""
        return np.asarray(take(self._pixels, channels, window))


def bands_last(array: np.ndarray, bands: int | None = None) -> np.ndarray:
    """See an array as an image (H, W, C).

    Args:
        array (np.ndarray): (H, W), (H, W, C) or (C, H, W).
        bands (int, optional): How many bands it should have. If that is the length of the first or the last axis alone,
            this is the bands'. Otherwise they are the last, unless the first is shorter than both others and no longer than
            32, and the last longer than 16.

    Returns:
        np.ndarray: A view.

    Raises:
        ValueError: If it has another number of axes, or no value.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not array.size:
        raise ValueError(f'it is an array of shape {array.shape}; expected (H, W), (H, W, C) or (C, H, W)')
    first, second, last = array.shape
    if (first == bands) != (last == bands):
        is_first = first == bands
    else:
        is_first = first < second and first < last and first <= FEW and last > 16
    return np.moveaxis(array, 0, -1) if is_first else array


def npz_reader(file: str | BinaryIO, bands: int | None) -> Pixels:
    """The image in a .npz file; see `NpyReader` for its arguments.

    Raises:
        ValueError: If it is not plain which of its arrays is the image.
    """
    with zipfile.ZipFile(file) as archive:
        names = [name.removesuffix('.npy') for name in archive.namelist()]
        chosen = names if len(names) == 1 else [name for name in IMAGE_KEYS if name in names][:1]
        if not chosen:
            raise ValueError(f'it holds the arrays {", ".join(names) or "(none)"}; expected one, or one of the name '
                             f'{" or ".join(IMAGE_KEYS)}')
        name = next(one for one in archive.namelist() if one.removesuffix('.npy') == chosen[0])
        with archive.open(name) as member:
            version = np.lib.format.read_magic(member)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read_header(member)
    kept_type(dtype)
    # An array of this shape that takes no memory tells which axis is which.
    size = bands_last(np.broadcast_to(np.zeros((), dtype), shape), bands).shape

    def decode() -> np.ndarray:
        if not isinstance(file, str):
            file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return bands_last(arrays[chosen[0]], bands)

    return Pixels(size[:2], dtype, all_bands(size[2]), decode, kind='an array of NumPy')
