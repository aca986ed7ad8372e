"""Reading images from files and packs, whatever their mode, depth and orientation."""
import io
import os
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, BinaryIO

import mmcv.image.io
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from PIL import Image, ImageOps, UnidentifiedImageError

from coma_mm.config_tree import type_name
from coma_mm.errors import BadImageError, MissingFileError, UserError
from coma_mm.files import looks_like, open_regular, read_regular

from .image_kinds import tiff_kind, why_not_8_bit

FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
"""Pillow's names of what `IMAGE_SUFFIXES` stand for. It knows others, whatever a file is called: a PostScript file starts
Ghostscript."""
MAX_PIXELS = 'COMA_MM_MAX_IMAGE_PIXELS'
"""An environment variable: the largest image that is decoded. It defaults to Pillow's limit, 178,956,970 pixels."""


def read_image(path: str, encoded: bytes | None = None) -> np.ndarray:
    """Read any image file as 8-bit BGR, the OpenMMLab libraries' channel order.

    The EXIF orientation is applied; grey, palette and CMYK images are converted, transparency is dropped, of an animation
    the first frame is taken.

    Args:
        path (str): The image file.
        encoded (bytes, optional): Its content, from `read_encoded`; `path` is then only its name in errors. Defaults to
            reading it.

    Returns:
        np.ndarray[uint8]: The image, of shape (H, W, 3).

    Raises:
        BadImageError: If the file cannot be decoded to its end, or would lose by it: other than 8 bits, more bands than a
            colour has, several pages (see `why_not_8_bit`).
        UserError: If there is no such file, or it may not be read.
    """
    if encoded is None:
        encoded = read_encoded(dict(img_path=path))
    with _named(path):
        if reason := why_not_8_bit(encoded):
            raise ValueError(reason)
        return np.ascontiguousarray(np.asarray(_decode(encoded).convert('RGB'))[..., ::-1])


def read_size(path: str) -> tuple[int, int]:
    """Decode an image file of any kind, a segmentation map say, for its size alone.

    Args:
        path (str): The file.

    Returns:
        tuple[int, int]: Height and width in px, as it is viewed.

    Raises:
        BadImageError: If the file cannot be decoded to its end.
        UserError: If there is no such file, or it may not be read.
    """
    encoded = read_encoded(dict(img_path=path))
    with _named(path):
        return _decode(encoded).size[::-1]


def as_color(image: np.ndarray) -> np.ndarray:
    """Give a grey image three equal channels.

    Args:
        image (np.ndarray): Grey, (H, W) or (H, W, 1), or any other image.

    Returns:
        np.ndarray: Of shape (H, W, 3) if it was grey, of the same type; others as they are.
    """
    if image.ndim == 2:
        image = image[..., None]
    return image.repeat(3, axis=2) if image.shape[2:] == (1, ) else image


def _decode(encoded: bytes) -> Image.Image:
    _verify(io.BytesIO(encoded))
    with open_image(io.BytesIO(encoded)) as image:
        return ImageOps.exif_transpose(image)


def verify_image(path: str) -> None:
    """Compare the check sums in an image file, if it is a PNG: decoders do not, and make up what they cannot read.

    Args:
        path (str): The image file.

    Raises:
        BadImageError: If it was altered since it was written, or is no image.
        UserError: If there is no such file, or it may not be read.
    """
    with _named(path), open_regular(path) as file:
        _verify(file)


def open_image(file: BinaryIO) -> Image.Image:
    """Have Pillow open an image of one of `FORMATS`; of any other an UnidentifiedImageError that says what it looks like."""
    _limit_pixels()
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        kind = looks_like(file.read(1024))
        reason = 'empty or not an image'
        if kind == 'a TIFF image':
            found = tiff_kind(file)
            reason = f'it is {kind} that Pillow cannot read ({found}): damaged, or of a kind to be converted' if found else (
                f'it begins like {kind}, and its list of tags is damaged')
        elif ' image' in kind:
            reason = f'it begins like {kind}; expected a whole file of {", ".join(FORMATS)}'
        raise UnidentifiedImageError(reason) from error


@lru_cache(maxsize=1)
def _limit_pixels() -> None:
    """Tell Pillow the limit of `MAX_PIXELS`."""
    value = os.environ.get(MAX_PIXELS)
    if value is None:
        return
    if not value.isdecimal() or not int(value):
        raise UserError(f'the environment variable {MAX_PIXELS} is {value!r}; expected a number of pixels, e.g. 400000000')
    Image.MAX_IMAGE_PIXELS = -(-int(value) // 2)  # from where on it warns; it refuses twice as many
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)


# mmcv decodes with Pillow, too: mmsegmentation's maps.
mmcv.image.io.Image = SimpleNamespace(open=open_image, new=Image.new)


def _verify(file: BinaryIO) -> None:
    with open_image(file) as image:
        try:
            image.verify()
        except Exception as error:  # of many types, some without a text
            raise ValueError('truncated, or altered since it was written') from error


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
    with _named(sample['img_path']):
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
def _named(path: str) -> Iterator[None]:
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
        reason = str(error) or type(error).__name__
    raise BadImageError(f"cannot read the image {path}: {reason}; replace or remove the file, or skip such files with "
                        "train_dataloader.on_bad_image='skip'")


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image file of any mode, depth and orientation; a drop-in for `LoadImageFromFile` in all libraries.

    Required keys: `img_path`, or those of a sample in a pack (see `read_encoded`). Added keys: `img` (np.ndarray[uint8] of
    shape (H, W, 3), BGR), `img_shape` and `ori_shape`, both (H, W). A sample without a path that has its `img` already, as
    mmpretrain's inferencers make them, is passed on, a grey one (H, W) or (H, W, 1) with three equal channels.

    Raises:
        BadImageError: If the file is truncated, empty or not an image, or not of the size that its annotations say
            (`height` and `width`, which mmdet takes from them).
        UserError: If there is no such file.
    """

    def transform(self, results: dict) -> dict:
        """Read `results['img_path']`; see the class."""
        if 'img' in results and 'img_path' not in results:
            results['img'] = as_color(results['img'])
            return results
        path = results['img_path']
        image = read_image(path, read_encoded(results))
        height, width = image.shape[:2]
        said = results.get('height', height), results.get('width', width)
        if said != (height, width):
            raise BadImageError(f'the image {path} is of {width} × {height} pixels, and its annotations are for one of '
                                f'{said[1]} × {said[0]}: they would not fit')
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


# Arguments of LoadImageFromFile with which it reads what LoadImage reads: local files, as 8-bit colour.
_SAME_READING = dict(
    to_float32=(False, ), color_type=('color', ), imdecode_backend=(None, 'cv2', 'pillow', 'turbojpeg'),
    ignore_empty=(False, ), backend_args=(None, dict(backend='local')),
    file_client_args=(None, dict(backend='disk'), dict(backend='local')))


def use_load_image(cfg: Any) -> Any:
    """Have `LoadImage` read the images of a data set, where its config names the libraries' `LoadImageFromFile`.

    Configs name the libraries' step because their inferencers look for it. One whose arguments ask for anything else than
    8-bit colour from local files stays as it is.

    Args:
        cfg (dict): The config of a data set, with pipelines and other data sets at any depth.

    Returns:
        dict: A copy of it.
    """
    if isinstance(cfg, dict):
        if type_name(cfg) == 'LoadImageFromFile' and all(
                key in ('type', '_scope_') or value in _SAME_READING.get(key, ()) for key, value in cfg.items()):
            return dict(type='LoadImage')
        return type(cfg)({key: use_load_image(value) for key, value in cfg.items()})
    return type(cfg)(map(use_load_image, cfg)) if isinstance(cfg, (list, tuple)) else cfg
