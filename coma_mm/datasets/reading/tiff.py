"""TIFF of any number of bands and pages, of which only the strips and tiles are decoded that a window touches."""
import math
import xml.etree.ElementTree as xml
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from ..libraries import open_tiff
from .base import Reader, Window, all_bands, as_slice, kept_type, take

GRAY_OF_WHITE, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 2, 3, 5, 6, 8
"""Values of the tag PhotometricInterpretation."""
ALPHA = (1, 2)
"""Values of the tag ExtraSamples that say transparency."""
JPEG = (6, 7, 33007, 34892)
"""Values of the tag Compression with tables apart from the tiles."""
ORIENTATION, GDAL_METADATA, GDAL_NODATA = 274, 42112, 42113
"""Other tags."""


class TiffReader(Reader):
    """A TIFF or BigTIFF, a GeoTIFF or an OME-TIFF, say.

    Args:
        file (str | BinaryIO): Where it is, or its content.
        pages (bool): Whether its pages are bands.

    Raises:
        ValueError: If it has several pages and `pages` is not set, or they do not fit each other.
    """
    kind = 'a TIFF'
    windowed = True

    def __init__(self, file: str | BinaryIO, pages: bool):
        self._tiff = open_tiff(file)
        try:
            self._series = self._one_series(pages)
            self._page = self._series.keyframe
            self._describe()
        except BaseException:
            self.close()
            raise

    def _one_series(self, pages: bool) -> Any:
        """The pages that make the image."""
        series = self._tiff.series
        if not series:
            raise ValueError('it holds no image')
        first, sizes = series[0], [_size(one) for one in series]
        full = [one for one, page in zip(series, map(_first_page, series), strict=True) if not page.subfiletype & 5]
        if full and full[0] is not first or math.prod(sizes[0]) < max(map(math.prod, sizes)):
            large = max(range(len(series)), key=lambda at: math.prod(sizes[at]))
            raise ValueError(f'its first page is of {_px(sizes[0])} px, less than the {_px(sizes[large])} px of a later '
                             'one: a pyramid, or a preview, that comes before its image; expected the whole image first, as '
                             'gdal_translate -of COG writes it')
        same = [one for one in full if _size(one) == sizes[0]]
        if len(same) > 1 or pages and len(full) > 1:
            kinds = dict.fromkeys(f'{_px(_size(one))} px of {one.dtype}, {one.keyframe.compression.name}' for one in full)
            raise ValueError(f'its pages are of different kinds ({"; ".join(kinds)}); expected pages of one size, depth and '
                             'compression, to be bands')
        number = _number_of_pages(first)
        if number > 1 and not pages:
            raise ValueError(f'it has {number} pages of {_px(sizes[0])} px ({first.dtype}); expected one image, or set '
                             'pages=True (--pages) to take each as a band')
        return first

    def _describe(self) -> None:
        page, series = self._page, self._series
        if page.imagedepth > 1:
            raise ValueError(f'it has a depth of {page.imagedepth} voxels; expected an image of height and width')
        if page.dtype is None:
            raise ValueError(f'its values are of {page.bitspersample} bits (format {page.sampleformat}); expected bands '
                             'of one depth, of 8, 16 or 32 bits')
        self.dtype = page.dtype
        kept_type(self.dtype)
        self._turn = _tag(page, ORIENTATION) or 1
        self.height, self.width = page.imagelength, page.imagewidth
        if self._turn in (5, 6, 7, 8):
            self.height, self.width = self.width, self.height
        number = math.prod(length for axis, length in zip(series.axes, series.shape, strict=True) if axis not in 'YX')
        extra = [value for value in page.extrasamples if value in ALPHA]
        self.ways = all_bands(number)
        if len(extra) == 1 and page.extrasamples[-1] in ALPHA and number == page.samplesperpixel:
            self.ways |= all_bands(number - 1)  # GDAL calls the fourth of four bands transparency, whatever it is
        self.names = self._names(number)
        text = _tag(page, GDAL_NODATA)
        self.nodata = _number(text) if isinstance(text, str) else None

    def _names(self, number: int) -> tuple[str, ...]:
        """Those that GDAL has written, ImageJ's labels; or those of colours."""
        names = [''] * number
        if self._page.photometric == RGB and self._page.samplesperpixel == number:
            names[:3] = 'red', 'green', 'blue'
        if isinstance(text := _tag(self._page, GDAL_METADATA), str):
            with suppress(xml.ParseError):  # of no matter for the pixels
                for item in xml.fromstring(text).iter('Item'):
                    at = item.get('sample', '')
                    if item.get('role') == 'description' and at.isdecimal() and int(at) < number:
                        names[int(at)] = (item.text or '').strip()
        labels = (self._tiff.imagej_metadata or {}).get('Labels') or []
        if len(labels) == number:
            names = [str(label) for label in labels]
        return tuple(names) if any(names) else ()

    def read(self, channels: list[int], window: Window) -> np.ndarray:
        """See `Reader`."""
        if self._turn != 1:
            whole = self._window(channels, (0, 0, self._page.imagelength, self._page.imagewidth))
            pixels = take(_turned(whole, self._turn), list(range(len(channels))), window)
        else:
            pixels = self._window(channels, window)
        if self._page.photometric == GRAY_OF_WHITE and self.dtype.kind in 'bu':
            bits = self._page.bitspersample
            pixels = (2**bits - 1 - pixels).astype(self.dtype) if self.dtype.kind == 'u' else ~pixels
        return pixels

    def _window(self, channels: list[int], window: Window) -> np.ndarray:
        if self._series.dataoffset is not None and (pixels := self._mapped()) is not None:
            return np.asarray(take(pixels, channels, window))
        samples = self._page.samplesperpixel
        pixels = np.empty((*window[2:], len(channels)), self.dtype.newbyteorder('='))
        for number in sorted({channel // samples for channel in channels}):
            wanted = [(at, channel % samples) for at, channel in enumerate(channels) if channel // samples == number]
            self._read_page(self._series.pages[number], wanted, window, pixels)
        return pixels

    def _mapped(self) -> np.ndarray | None:
        """All values by memory map, (H, W, C), if the file holds them one after the other."""
        series, file = self._series, self._tiff.filehandle
        dtype = np.dtype(self._tiff.byteorder + self.dtype.char)
        end = series.dataoffset + math.prod(series.shape) * dtype.itemsize
        if end > file.size:
            raise ValueError(f'it is cut off: its pixels end at byte {end}, and the file at byte {file.size}')
        if file.is_file:
            values = np.memmap(file.path, dtype, 'r', series.dataoffset, series.shape)
        else:
            file.seek(series.dataoffset)
            values = np.frombuffer(file.read(end - series.dataoffset), dtype).reshape(series.shape)
        axes = series.axes
        order = [axes.index('Y'), axes.index('X'), *(at for at, axis in enumerate(axes) if axis not in 'YXS'),
                 *(at for at, axis in enumerate(axes) if axis == 'S')]
        values = values.transpose(order)
        return values if values.ndim == 3 else values.reshape(*values.shape[:2], -1)

    def _read_page(self, page: Any, wanted: list[tuple[int, int]], window: Window, pixels: np.ndarray) -> None:
        """Decode the strips or tiles that a window touches.

        Args:
            page (TiffPage): The page.
            wanted (list[tuple[int, int]]): Where each channel goes to in `pixels`, and its number in the page.
            window (tuple[int]): The window.
            pixels (np.ndarray): Where they go to.
        """
        key = page.keyframe
        if key.is_tiled:
            high, wide = key.tilelength, key.tilewidth
        else:
            high, wide = min(key.rowsperstrip, key.imagelength), key.imagewidth
        top, left, height, width = window
        rows, columns = -(-key.imagelength // high), -(-key.imagewidth // wide)
        to, of = map(list, zip(*wanted, strict=True))
        groups = [(0, to, of)]
        if key.planarconfig == 2:  # tiles of one channel each, one channel after the other
            groups = [(plane, [at], [0]) for at, plane in wanted]
        for plane, to, of in groups:
            to, of = as_slice(to), as_slice(of)
            for row in range(top // high, -(-(top + height) // high)):
                for column in range(left // wide, -(-(left + width) // wide)):
                    tile = self._tile(page, (plane * rows + row) * columns + column)
                    y, x = row * high, column * wide
                    a, b = max(top, y), min(top + height, y + high)
                    c, d = max(left, x), min(left + width, x + wide)
                    place = pixels[a - top:b - top, c - left:d - left]
                    if tile is None:  # GDAL leaves out tiles without data
                        place[..., to] = self.nodata or 0
                    else:
                        place[..., to] = tile[a - y:b - y, c - x:d - x][..., of]

    def _tile(self, page: Any, index: int) -> np.ndarray | None:
        """A strip or tile, (h, w, samples); None where nothing was written."""
        key, file = page.keyframe, self._tiff.filehandle
        offset, size = page.dataoffsets[index], page.databytecounts[index]
        if not size:
            return None
        name = f'{"tile" if key.is_tiled else "strip"} {index} of {len(page.dataoffsets)}'
        file.seek(offset)
        encoded = file.read(size)
        if len(encoded) < size:
            raise ValueError(f'it is cut off: {name} should end at byte {offset + size}, and the file ends at byte '
                             f'{file.size}')
        tables = dict(jpegtables=page.jpegtables, jpegheader=key.jpegheader) if key.compression in JPEG else {}
        try:
            tile, _, shape = key.decode(encoded, index, **tables)
        except Exception as error:
            raise ValueError(f'{name} cannot be decoded ({error})') from error
        return tile.reshape(tile.shape[-3:])[:shape[1], :shape[2]]

    @property
    def is_picture(self) -> bool:
        """Whether its values are no bands, but those of a palette, of inks or of other colours than red, green and blue."""
        page = self._page
        return page.bitspersample <= 8 and (page.photometric in (PALETTE, CMYK, LAB)
                                            or page.photometric == YCBCR and page.compression != 7)

    def close(self) -> None:
        """See `Reader`."""
        self._tiff.close()


def _first_page(series: Any) -> Any:
    return series.keyframe


def _size(series: Any) -> tuple[int, int]:
    """Height and width in px."""
    page = series.keyframe
    return page.imagelength, page.imagewidth


def _px(size: tuple[int, int]) -> str:
    return f'{size[1]} × {size[0]}'


def _number_of_pages(series: Any) -> int:
    """Pages of no channel: those of OME-TIFF and ImageJ that are one are bands by their name."""
    return math.prod(length for axis, length in zip(series.axes, series.shape, strict=True) if axis not in 'YXSC')


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _number(text: str) -> float | None:
    try:
        return float(text.strip('\0 '))
    except ValueError:
        return None


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An image as it is viewed, by TIFF's tag Orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels

