"""Random resized crops of image files that decode of a JPEG only what they need."""
import io
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from mmengine.registry import TRANSFORMS
from mmpretrain.datasets.transforms import RandomResizedCrop
from PIL import Image

from coma_mm.errors import choice
from coma_mm.ranges import whole

from .encoded import open_image, read_encoded
from .loading import read_image
from .reading.choice import Bands
from .reading.shrinking import read_for
from .samples import BandReading

DRAWS = 10
"""How many crops of one image are drawn, until one has data enough."""
MARGIN = 16
"""Rows of px decoded below a crop: libjpeg's smooth upsampling of the colours looks at the row of blocks below."""
# ITU-T T.81, table B.1.
SOF0, SOF1, SOS, APP1 = 0xffc0, 0xffc1, 0xffda, 0xffe1
TABLES = {0xffc4, 0xffdb, 0xffdd, 0xfffe, *range(0xffe0, 0xfff0)}  # Huffman, quantisation, restarts, comment, APPn


class JpegHeader(NamedTuple):
    """What the fast path needs of a JPEG's header.

    Args:
        height (int): In px.
        width (int): In px.
        height_at (int): Offset of the height, two bytes, in the file.
    """
    height: int
    width: int
    height_at: int


def read_jpeg_header(encoded: bytes) -> JpegHeader | None:
    """Read the header of a plain JPEG.

    Args:
        encoded (bytes): The content of any file.

    Returns:
        JpegHeader | None: None for all that is not a JPEG of one sequential 8-bit scan, in grey or three colours, not to be
        turned, and with its end there.
    """
    if not (encoded.startswith(b'\xff\xd8') and encoded.endswith(b'\xff\xd9')):
        return None
    at, frame, has_app1 = 2, None, False
    try:
        while True:
            marker, length = struct.unpack_from('>HH', encoded, at)
            if marker == SOS:
                break
            if marker in (SOF0, SOF1):
                frame = at
            elif marker not in TABLES:
                return None
            has_app1 |= marker == APP1
            at += 2 + length
        precision, height, width, components = struct.unpack_from('>BHHB', encoded, frame + 4)
        # Exif and XMP, which Pillow knows to read.
        if has_app1 and open_image(io.BytesIO(encoded)).getexif().get(0x0112, 1) != 1:
            return None
    except Exception:  # a header that is cut off, or Exif data of any kind
        return None
    if precision != 8 or components not in (1, 3) or encoded[at + 4] != components or not height or not width:
        return None
    if height * width > (Image.MAX_IMAGE_PIXELS or np.inf):  # Pillow warns, or refuses
        return None
    return JpegHeader(height, width, frame + 5)


def decode_rows(encoded: bytes, header: JpegHeader, bottom: int, factor: int = 1) -> np.ndarray:
    """Decode a plain JPEG from its top to at least a given row; of the rows below not even the Huffman codes are read.

    Args:
        encoded (bytes): The file's content.
        header (JpegHeader): Its header.
        bottom (int): The row, in px of the whole image.
        factor (int): 1, 2, 4 or 8: the sides are divided by it, by decoding fewer frequencies. Defaults to 1.

    Returns:
        np.ndarray[uint8]: BGR, of shape (rows, ceil(width / factor), 3). With factor 1 the same pixels, row for row, as
        those of Pillow and OpenCV.

    Raises:
        ValueError: The file is damaged.
    """
    rows = min(header.height, bottom + MARGIN)
    # A decoder reads as many rows as the header says.
    encoded = encoded[:header.height_at] + struct.pack('>H', rows) + encoded[header.height_at + 2:]
    # Not strict: the rest of the file is a surplus; and Pillow passes over damage that leaves no pixel undecoded, too.
    return simplejpeg.decode_jpeg(
        encoded, 'BGR', min_height=-(-rows // factor), min_width=-(-header.width // factor), min_factor=factor, strict=False)


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(RandomResizedCrop):
    """`LoadImage` and mmpretrain's `RandomResizedCrop` in one, for speed: the same crops from the same random numbers.

    - Of a JPEG only the rows down to the crop's last one are decoded. Where both sides of the crop are at least 4 (8) times
      the output's, libjpeg decodes at 1/4 (1/8) of the size, and the crop's place stays exact to a fraction of a pixel.
      (1/2 was measured: the Huffman codes are nearly all of the time, so it gains nothing.)
    - Resizing is antialiased as Pillow's is, by torch's vectorised kernels.
    - What is no plain JPEG is read as `LoadImage` does: other formats, progressive, CMYK, to be turned by Exif,
      damaged.
    - With `bands`, images of any depth and format are read, and of TIFF and .npy only the crop's window; a crop that is
      mostly without data is drawn anew.

    Required keys: `img_path`, or those of a sample in a pack (see `read_encoded`). Added keys: `img` (np.ndarray[uint8] of
    shape (H, W, 3), BGR), `img_shape` and, of the file, `ori_shape`, both (H, W).

    Args:
        scale (int | tuple[int]): Size of the output, (H, W) or both, in px.
        interpolation (str): 'bicubic' or 'bilinear'. Defaults to 'bicubic', as in MAE.
        within (int, optional): Side in px of a square, placed at random, in which the crop is drawn as if it was the whole
            image: of scenes and panoramas `RandomResizedCrop` would take a fifth or more, or always the middle. Defaults to
            none.
        bands (int | Sequence[int | str], optional): Which bands are read; see `LoadImage`. Defaults to None: 8-bit colour.
        nodata (float, optional): See `BandReading`.
        pages (bool): See `BandReading`.
        max_nodata (float): The share of a crop that may be without data. Defaults to 0.5.
        depth (str, optional): See `BandReading`.
        **kwargs: The further arguments of `RandomResizedCrop`: `crop_ratio_range`, `aspect_ratio_range`, `max_attempts`.

    Raises:
        BadImageError: If the file cannot be decoded, or has not these bands.
        NoDataError: If ten crops in a row are without data.
        UserError: If there is no such file, or the interpolation is another one.
    """

    def __init__(self, scale: int | tuple[int, int], interpolation: str = 'bicubic', within: int | None = None,
                 bands: Bands | None = None, nodata: float | None = None, pages: bool = False, max_nodata: float = 0.5,
                 depth: str | None = None, **kwargs: Any):
        self.within = within and whole(1).check('LoadRandomResizedCrop: within', within)
        self.bands = bands
        self.reading = None if bands is None else BandReading(bands, nodata, pages, max_nodata, depth)
        choice('LoadRandomResizedCrop: interpolation', interpolation, ('bicubic', 'bilinear'))
        super().__init__(scale, interpolation=interpolation, backend='torch', **kwargs)

    def transform(self, results: dict) -> dict:
        """Read the crop; see the class."""
        if self.reading is not None:
            return self._read_bands(results)
        path, encoded = results['img_path'], read_encoded(results)
        header = read_jpeg_header(encoded)
        image = read_image(path, encoded) if header is None else None
        shape = header[:2] if header else image.shape[:2]
        top, left, height, width = self._window(shape)
        factor = 1
        if header:
            # The largest that leaves the crop no fewer pixels than the output.
            ratio = min(height // self.scale[0], width // self.scale[1])
            factor = 8 if ratio >= 8 else 4 if ratio >= 4 else 1
            try:
                image = decode_rows(encoded, header, top + height, factor)
            except ValueError:
                factor, image = 1, read_image(path, encoded)
        if factor == 1:
            image = _resize(image[top:top + height, left:left + width], self.scale, self.interpolation)
        else:
            box = [side / factor for side in (left, top, left + width, top + height)]
            image = _resize_box(image, box, self.scale, self.interpolation)
        results['img'] = image
        results['img_shape'], results['ori_shape'] = image.shape[:2], tuple(shape)
        return results

    def _window(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Draw top, left, height and width of a crop."""
        if self.within is None:
            return self.rand_crop_params(SimpleNamespace(shape=shape))  # looks at the shape alone
        sides = [min(side, self.within) for side in shape]
        above, before = (np.random.randint(side - part + 1) for side, part in zip(shape, sides, strict=True))
        top, left, height, width = self.rand_crop_params(SimpleNamespace(shape=sides))
        return above + top, before + left, height, width

    def _read_bands(self, results: dict) -> dict:
        """The crop of a file of any bands and depth, of which its window alone is read where its format allows that."""
        with self.reading.open(results) as file:
            shape = file.shape[:2]
            for _ in range(DRAWS):
                image, gaps = read_for(file, self._window(shape), self.scale)
                if gaps <= self.reading.max_nodata:
                    break
            else:
                self.reading.check(gaps, results, f' in the last of {DRAWS} crops')
        image = resize_any(image, self.scale, self.interpolation)
        return results | dict(img=image, img_shape=image.shape[:2], ori_shape=shape)


def resize_any(image: np.ndarray, size: tuple[int, int], interpolation: str = 'bicubic') -> np.ndarray:
    """Resize an image of any bands with antialiasing, and keep its type.

    Args:
        image (np.ndarray): uint8, uint16 or float32, (H, W, C).
        size (tuple[int, int]): Height and width in px.
        interpolation (str): 'bicubic' or 'bilinear'; of more than 8 bits the result stays within the image's own range,
            which bicubic interpolation overshoots. Defaults to 'bicubic'.

    Returns:
        np.ndarray: Of the same type.
    """
    if image.dtype == np.uint8:
        return _resize(image, size, interpolation)
    resized = _resize(image.astype(np.float32), size, interpolation).clip(image.min(), image.max())
    return resized if image.dtype.kind == 'f' else resized.round().astype(image.dtype)


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """An image of another size (H, W); to a level or two, in rare pixels a few more, what Pillow makes of it."""
    # The batch axis comes first: with it last, torch sees no channels-last image, and takes it apart into planes.
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    return F.interpolate(pixels, size, mode=interpolation, antialias=True)[0].permute(1, 2, 0).numpy()


def _resize_box(image: np.ndarray, box: Sequence[float], size: tuple[int, int], interpolation: str) -> np.ndarray:
    """The part of an image inside a box (left, top, right, bottom), in fractions of px, of size (H, W)."""
    left, top = int(box[0]), int(box[1])
    part = image[top:int(np.ceil(box[3])), left:int(np.ceil(box[2]))]
    box = box[0] - left, box[1] - top, box[2] - left, box[3] - top
    # torch crops at whole pixels only.
    part = Image.fromarray(part).resize(tuple(size[::-1]), Image.Resampling[interpolation.upper()], box)
    return np.array(part)
