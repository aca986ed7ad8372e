"""What Pillow and OpenCV read: 8-bit pictures as red, green and blue, and PNG, PGM and PPM of 16 bits as they are."""
import io

import cv2
import numpy as np
from PIL import Image

from ..encoded import decode, open_image, verify
from ..image_kinds import why_not_8_bit
from .base import Pixels, all_bands

RGB = ('red', 'green', 'blue')
TURNED = {5, 6, 7, 8}
"""Orientations of Exif that exchange height and width."""


def picture_reader(encoded: bytes) -> Pixels:
    """Open a picture, without decoding its pixels.

    Of 8 bits it has three bands as `LoadImage` reads them: grey is repeated, transparency is dropped. Grey is one band, and
    transparency the fourth, for whoever asks for that many.

    Args:
        encoded (bytes): The file's content.

    Returns:
        Pixels: Open.
    """
    with open_image(io.BytesIO(encoded)) as image:
        size, mode, kind = image.size[::-1], image.mode, f'a {image.format}'
        orientation = image.getexif().get(0x0112, 1)
    if why_not_8_bit(encoded) is not None:
        return _deep_reader(encoded, kind)
    size = size[::-1] if orientation in TURNED else size
    alpha = mode in ('RGBA', 'PA') or mode == 'P' and _has_alpha(encoded)
    ways = all_bands(3) | ({4: [0, 1, 2, 3]} if alpha else {1: [0]} if mode in ('1', 'L', 'LA') else {})
    return Pixels(size, np.uint8, ways, lambda: np.asarray(decode(encoded).convert('RGBA' if alpha else 'RGB')), kind=kind,
                  names=(*RGB, 'alpha') if alpha else RGB)


def _has_alpha(encoded: bytes) -> bool:
    with Image.open(io.BytesIO(encoded)) as image:
        return 'transparency' in image.info


def _deep_reader(encoded: bytes, kind: str) -> Pixels:
    """PNG, PGM and PPM of 16 bits, and PFM, of which Pillow would make 8 bits; OpenCV decodes it to know what it is."""
    verify(io.BytesIO(encoded))
    values = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError('damaged, or of a kind that OpenCV does not read')
    values = values if values.ndim == 3 else values[..., None]
    channels = values.shape[2]
    values = values[..., [2, 1, 0, 3][:channels]] if channels >= 3 else values
    names = (*RGB, 'alpha')[:channels] if channels >= 3 else ()
    ways = all_bands(channels) if channels != 4 else {3: [0, 1, 2], 4: [0, 1, 2, 3]}
    return Pixels(values.shape[:2], values.dtype, ways, lambda: values, kind=kind, names=names)
