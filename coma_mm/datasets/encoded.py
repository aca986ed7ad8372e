"""Image files as bytes: opening, check sums, the limit of pixels, and errors that name the file."""
import io
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError, features

from coma_mm.errors import BadImageError, MissingFileError, UserError, shorten
from coma_mm.files import looks_like, open_regular, read_regular

from .image_kinds import tiff_kind
from .libraries import need

FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
"""Pillow's names of what `IMAGE_SUFFIXES` stand for. It knows others, whatever a file is called: a PostScript file starts
Ghostscript."""
MODERN = {'an AVIF image': 'AVIF', 'a HEIC image': 'HEIF'}
"""Pillow's names of what it may know, by what `looks_like` calls it."""
MAX_PIXELS = 'COMA_MM_MAX_IMAGE_PIXELS'
"""An environment variable: the largest image that is decoded. It defaults to Pillow's limit, 178,956,970 pixels."""


def read_encoded(sample: dict) -> bytes:
    """Read a sample's image file, without decoding it.

    Args:
        sample (dict): With the key `img_path`; if it is in a pack also with `shard`, the path of the pack's file, `offset`
            and `size` in bytes, and `crc32`.

    Returns:
        bytes: The file's content.

    Raises:
        BadImageError: If it is not what was packed.
        UserError: If there is no such file, or it may not be read.
    """
    with named(sample['img_path']):
        if 'shard' not in sample:
            return read_regular(sample['img_path'])
        try:
            encoded = _read_at(sample)
        except OSError:  # a file kept open is of no use once its disk was away
            _open_shard.cache_clear()
            encoded = _read_at(sample)
        if zlib.crc32(encoded) != sample['crc32']:
            raise ValueError(f'its check sum in {sample["shard"]} is not the packed one')
        return encoded


def _read_at(sample: dict) -> bytes:
    # No position is kept in the file, so processes forked with it open may share it.
    return os.pread(_open_shard(sample['shard']).fileno(), sample['size'], sample['offset'])


@lru_cache(maxsize=256)
def _open_shard(path: str) -> BinaryIO:
    """A pack's file, open until so many others were used; every process has its own cache."""
    return open_regular(path, buffering=0)


@contextmanager
def named(path: str) -> Iterator[None]:
    """Turn the errors of reading an image file into ours, which name it."""
    try:
        yield
        return
    except UserError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else UserError
        raise kind(f'cannot open the image {path}: {error.strerror}; check data_root and the annotations') from None
    except Image.DecompressionBombError as error:
        pixels = re.search(r'\d+', str(error))[0]
        reason = (f'it has {pixels} pixels, and more than {2 * Image.MAX_IMAGE_PIXELS} are not decoded, as a small file may '
                  f'unfold to any size: set the environment variable {MAX_PIXELS}={pixels} if you know where it is from')
    except UnidentifiedImageError as error:
        reason = str(error)
    except Exception as error:  # on broken data Pillow's decoders raise many types, SyntaxError and struct.error too
        reason = shorten(' '.join(str(error).split()), 500) or type(error).__name__  # some show what they could not parse
    raise BadImageError(f"cannot read the image {path}: {reason}; replace or remove the file, or skip such files with "
                        "train_dataloader.on_bad_image='skip'")


def open_image(file: BinaryIO) -> Image.Image:
    """Have Pillow open an image of one of `FORMATS`; of any other an UnidentifiedImageError that says what it looks like."""
    limit_pixels()
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        kind = looks_like(file.read(1024))
        if kind in MODERN:
            with suppress(UnidentifiedImageError):
                return _open_modern(file, kind)
        reason = 'empty or not an image'
        if kind == 'a TIFF image':
            found = tiff_kind(file)
            reason = f'it is {kind} that Pillow cannot read ({found}): damaged, or of a kind to be converted' if found else (
                f'it begins like {kind}, and its list of tags is damaged')
        elif ' image' in kind:
            reason = f'it begins like {kind}; expected a whole file of {", ".join(FORMATS)}'
        raise UnidentifiedImageError(reason) from error


def _open_modern(file: BinaryIO, kind: str) -> Image.Image:
    """Have Pillow open what it knows in some builds alone, or by a plugin."""
    if kind == 'a HEIC image':
        need('pillow_heif', 'pillow-heif', 'heic', 'HEIC').register_heif_opener()
    elif not features.check('avif'):
        raise ImportError('reading AVIF needs a Pillow that was built with it: pip install "pillow>=11.3"')
    file.seek(0)
    return Image.open(file, formats=[MODERN[kind]])


@lru_cache(maxsize=1)
def limit_pixels() -> None:
    """Tell Pillow the limit of `MAX_PIXELS`."""
    value = os.environ.get(MAX_PIXELS)
    if value is None:
        return
    if not value.isdecimal() or not int(value):
        raise UserError(f'the environment variable {MAX_PIXELS} is {value!r}; expected a number of pixels, e.g. 400000000')
    Image.MAX_IMAGE_PIXELS = -(-int(value) // 2)  # from where on it warns; it refuses twice as many
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)


def verify(file: BinaryIO) -> None:
    """Compare the check sums in an image file, if it has some."""
    with open_image(file) as image:
        try:
            image.verify()
        except Exception as error:  # of many types, some without a text
            raise ValueError('truncated, or altered since it was written') from error


def decode(encoded: bytes) -> Image.Image:
    """Check an image and open it, turned as its Exif data say."""
    verify(io.BytesIO(encoded))
    with open_image(io.BytesIO(encoded)) as image:
        return ImageOps.exif_transpose(image)
