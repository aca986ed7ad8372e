"""Which image files are 8-bit grey or colour; of all others Pillow makes 8-bit ones in silence, or does not know them.

It clips floats, drops the bands behind the third, takes the low bits off 16, and reads signed values as unsigned.
"""
import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import COMPRESSION_INFO, PREFIXES, ImageFileDirectory_v2

from .libraries import open_tiff

PNG_BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Bands by PNG's type of colour, a palette's index as one."""
TIFF_BANDS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Bands by TIFF's PhotometricInterpretation: grey, RGB, palette, CMYK, YCbCr, Lab."""
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, BANDS, EXTRA, FORMAT = 254, 256, 257, 258, 259, 262, 277, 338, 339
"""TIFF's tags."""
ALPHA = (1, 2, 999)
"""Values of `EXTRA` that say transparency; the last is CorelDRAW's."""
MAX_VALUES = 2**27
"""Of an image with more values their range is not said."""


def why_not_8_bit(encoded: bytes) -> str | None:
    """Look at the header of an image file for pixels that cannot be read as 8-bit grey or colour without a loss.

    Transparency is no band: it is dropped. The frames of an animation are no pages.

    Args:
        encoded (bytes): The file's content.

    Returns:
        str | None: What the file holds (kind, range, bands or pages) and what to do about it, or None if it may be read, or
        its header is of no kind that is known here.
    """
    try:
        found = _png(encoded) or _tiff(encoded) or _netpbm(encoded)
    except Exception:  # a damaged header, which the decoder will name
        return None
    return found and (f'it holds {found}, and what is read is one image of 8 bits in grey or colour: convert it '
                      '(docs/data.md, "Depths and bands", shows how), or have all of it read, by --bands (docs/bands.md)')


def _png(encoded: bytes) -> str | None:
    if not encoded.startswith(b'\x89PNG\r\n\x1a\n'):
        return None
    width, height, bits, color = struct.unpack_from('>IIBB', encoded, 16)
    if bits <= 8:
        return None
    with Image.open(io.BytesIO(encoded), formats=['PNG']) as image:
        image.verify()
    return _values(encoded, '16-bit', PNG_BANDS.get(color, 1), width * height)


def _netpbm(encoded: bytes) -> str | None:
    """PGM and PPM of 16 bits, PFM of floats."""
    header = re.match(rb'P([2356fF])' + 3 * rb'(?:\s+(?:#[^\n]*\n\s*)*(-?[\d.]+))', encoded[:1000])
    if not header:
        return None
    kind, width, height, highest = header.groups()
    floats, bands = kind in b'fF', 3 if kind in b'36F' else 1
    if not floats and float(highest) <= 255:
        return None
    return _values(encoded, '32-bit floating-point' if floats else '16-bit', bands, int(width) * int(height))


def _tiff(encoded: bytes) -> str | None:
    if not encoded.startswith(tuple(PREFIXES)):
        return None
    first, pages = None, 0
    for directory in _directories(io.BytesIO(encoded)):
        first = first or directory
        pages += not directory.get(SUBFILE, 0) & 5  # not one in less detail, nor a mask
    bands, photometric = first.get(BANDS, 1), first.get(PHOTOMETRIC)
    bits, kinds = max(first.get(BITS, (1, ))), {*first.get(FORMAT, (1, ))} - {1, 4}  # 4: undefined
    kind = f'{"signed " if kinds == {2} else ""}{bits}-bit{" floating-point" if kinds == {3} else ""}'
    extra = bands - TIFF_BANDS.get(photometric, bands)
    if pages > 1:
        return f'{pages} pages of {kind} values'
    if bits > 8 or kinds or extra and not (extra == 1 and first.get(EXTRA, (0, ))[0] in ALPHA):
        return _values(encoded, kind, bands, first[WIDTH] * first[HEIGHT])
    return None


def _directories(file: BinaryIO) -> Iterator[dict]:
    """The tags of each page of a TIFF."""
    head = file.read(16)
    directory = ImageFileDirectory_v2(head if 43 in head[2:4] else head[:8])  # BigTIFF's is longer
    seen = set()
    while directory.next and directory.next not in seen:
        seen.add(directory.next)
        file.seek(directory.next)
        directory.load(file)
        yield dict(directory)


def tiff_kind(file: BinaryIO) -> str:
    """What a TIFF that Pillow cannot read says of its pixels; '' if it is damaged."""
    try:
        file.seek(0)
        with warnings.catch_warnings(action='ignore'):
            tags = next(_directories(file))
        bits, compression = tags[BITS], tags.get(COMPRESSION, 1)
        form = {2: 'signed ', 3: 'float ', 5: 'complex ', 6: 'complex '}.get(tags.get(FORMAT, (1, ))[0], '')
        how = COMPRESSION_INFO.get(compression, f'compression {compression}')
    except Exception:  # on broken data of many types
        return ''
    return f'bands: {tags.get(BANDS, 1)}, {form}bits: {bits[0]}, {how}'


def _values(encoded: bytes, kind: str, bands: int, pixels: int) -> str:
    """The kind of values and their range, both as decoded if they can be, and the number of bands."""
    span, values = '', _decode(encoded, bands) if pixels * bands <= MAX_VALUES else None
    if values is not None:
        sign = 'signed ' if values.dtype.kind == 'i' else ''
        floats = values.dtype.kind == 'f'
        kind = f'{sign}{8 * values.itemsize}-bit{" floating-point" if floats else ""}'
        values = values[np.isfinite(values)] if floats else values
        if values.size:
            low, high = values.min(), values.max()
            span = f' from {low:g} to {high:g}' if floats else f' from {low} to {high}'
    return f'{kind} values{span} in {bands} band{"s" if bands > 1 else ""}'


def _decode(encoded: bytes, bands: int) -> np.ndarray | None:
    """All values in a file, by OpenCV, or else by tifffile."""
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)  # it would tell the terminal what it does not decode
    try:
        values = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED) if bands <= 4 else None
    except cv2.error:
        values = None
    finally:
        cv2.setLogLevel(level)
    if values is None and encoded.startswith(tuple(PREFIXES)):
        with suppress(Exception), open_tiff(io.BytesIO(encoded)) as file:  # it may be damaged
            values = file.pages.first.asarray() if file.pages.first.size <= MAX_VALUES else None
    return values
