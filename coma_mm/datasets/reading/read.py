"""Any image file as bands: a window of it, or what it says of itself."""
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image

from coma_mm.errors import UserError
from coma_mm.files import looks_like, open_regular

from ..encoded import limit_pixels, named, read_encoded
from .arrays import NpyReader, npz_reader
from .base import ImageInfo, Reader, Window, kept_type
from .choice import Bands, choose
from .dicom import dicom_reader
from .gaps import fill_gaps
from .pictures import picture_reader
from .tiff import TiffReader


class BandImage:
    """An open image file, of which windows are read; from `open_bands`.

    Attributes:
        info (ImageInfo): Of the bands that were chosen.
        shape (tuple[int, int, int]): Height and width in px, and the number of bands.
        windowed (bool): Whether less of the file is decoded for a window than for all of it.
        gaps (ndarray): Of the window that was read last: the share of each band's values that the file has no data for.
    """

    def __init__(self, path: str, reader: Reader, bands: Bands | None, nodata: float | None):
        self._path, self._reader = path, reader
        self._channels = choose(bands, reader)
        self._nodata = reader.nodata if nodata is None else nodata
        names = tuple(reader.names[channel] for channel in self._channels) if reader.names else ()
        self.info = ImageInfo(reader.height, reader.width, len(self._channels), kept_type(reader.dtype).name, names)
        self.shape = self.info[:3]
        self.windowed = reader.windowed
        self.gaps = np.zeros(len(self._channels))

    def read(self, window: Window | None = None) -> tuple[np.ndarray, float]:
        """A window of the image.

        Args:
            window (tuple[int], optional): Top, left, height and width in px. Defaults to all of it.

        Returns:
            tuple[np.ndarray, float]: (height, width, bands), uint8, uint16 or float32; and the share of its values that the
            file has no data for, each of which is the mean of its band in the window.

        Raises:
            BadImageError: If it cannot be decoded.
            UserError: If the window is not inside of the image.
        """
        top, left, height, width = window = (0, 0, *self.shape[:2]) if window is None else window
        if min(top, left) < 0 or min(height, width) < 1 or top + height > self.shape[0] or left + width > self.shape[1]:
            raise UserError(f'the window (top, left, height, width) = {window} is not inside of the image {self._path} of '
                            f'{self.shape[1]} × {self.shape[0]} px')
        with named(self._path):
            if not isinstance(self._reader, NpyReader):  # as large as its file
                pixels = height * width if self.windowed else self.shape[0] * self.shape[1]
                limit_pixels()
                if Image.MAX_IMAGE_PIXELS and pixels > 2 * Image.MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError(f'{pixels} px')
            pixels, self.gaps = fill_gaps(self._reader.read(self._channels, window), self._nodata)
            return pixels, float(self.gaps.mean())


@contextmanager
def open_bands(path: str, bands: Bands | None = None, nodata: float | None = None, pages: bool = False,
               encoded: bytes | None = None) -> Iterator[BandImage]:
    """Open an image file to read windows of it.

    What it is its content says, not its name.

    Args:
        path (str): The file.
        bands (int | Sequence[int | str], optional): How many bands it has; or which to take, by index from 0 or by name.
            Defaults to all.
        nodata (float, optional): The value that stands for no data, beside all that is not finite. Defaults to what the file
            says (GDAL's tag).
        pages (bool): Whether the pages of a TIFF, and the frames of a DICOM file, are bands. Defaults to False: an image has
            one.
        encoded (bytes, optional): The file's content. Defaults to reading of the file what is needed.

    Yields:
        BandImage: Open.

    Raises:
        BadImageError: If the file is no image, has no such bands, has several pages without `pages`, or needs a library that
            is not installed.
        UserError: If there is no such file.
    """
    with named(path):
        reader = _open(path, bands if isinstance(bands, int) else None, pages, encoded)
    try:
        with named(path):
            image = BandImage(path, reader, bands, nodata)
        yield image
    finally:
        reader.close()


def read_image(path: str, bands: Bands | None = None, window: Window | None = None, nodata: float | None = None,
               pages: bool = False) -> np.ndarray:
    """Read an image of any bands, depth and format, or a window of it, in the file's order of bands.

    Args:
        path (str): The file.
        bands, nodata, pages: See `open_bands`.
        window (tuple[int], optional): Top, left, height and width in px. Defaults to the whole image. Of TIFF and .npy only
            that part is decoded.

    Returns:
        np.ndarray: (H, W, C). 8 and 16 bits without a sign are uint8 and uint16; all others are float32, which holds
        integers up to 16 777 216 exactly. 8-bit pictures (JPEG, PNG, …) are red, green and blue. Where the file has no data
        there is the mean of its band.

    Raises:
        BadImageError: If the file cannot be decoded, has no such bands, or needs a library that is not installed.
        UserError: If there is no such file, or the window is not inside.
    """
    with open_bands(path, bands, nodata, pages) as image:
        return image.read(window)[0]


def image_info(path: str, bands: Bands | None = None, pages: bool = False) -> ImageInfo:
    """What an image file says of itself; no pixels are decoded, but for those of PNG and PGM of 16 bits.

    Args:
        path (str): The file.
        bands, pages: See `open_bands`.

    Returns:
        ImageInfo: Size, number of bands, type and names of what `read_image` gives.

    Raises:
        BadImageError: If the file is no image, has no such bands, or needs a library that is not installed.
        UserError: If there is no such file.
    """
    with open_bands(path, bands, pages=pages) as image:
        return image.info


def _open(path: str, number: int | None, pages: bool, encoded: bytes | None) -> Reader:
    """The reader for a file's content."""
    with open_regular(path) if encoded is None else io.BytesIO(encoded) as file:
        start = file.read(1024)
    kind = looks_like(start)
    source: str | BinaryIO = path if encoded is None else io.BytesIO(encoded)
    if kind == 'an array of NumPy':
        return NpyReader(source, number)
    if kind == 'a zip archive':
        return npz_reader(source, number)
    if start[128:132] == b'DICM' or path.lower().endswith(('.dcm', '.dicom')) and ' image' not in kind:
        return dicom_reader(source, pages, force=start[128:132] != b'DICM')
    if kind == 'a TIFF image':
        reader = TiffReader(source, pages)
        if not reader.is_picture:
            return reader
        reader.close()
    return picture_reader(read_encoded(dict(img_path=path)) if encoded is None else encoded)
