"""Reading images from files and packs, whatever their mode, depth and orientation."""
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import mmcv.image.io
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

from coma_mm.config_tree import type_name
from coma_mm.errors import BadImageError
from coma_mm.files import open_regular

from .encoded import decode, named, open_image, read_encoded, verify
from .image_kinds import why_not_8_bit
from .reading import image_info
from .reading.choice import Bands
from .samples import BandReading


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
    with named(path):
        if reason := why_not_8_bit(encoded):
            raise ValueError(reason)
        return np.ascontiguousarray(np.asarray(decode(encoded).convert('RGB'))[..., ::-1])


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
    with named(path), suppress(UnidentifiedImageError):
        return decode(encoded).size[::-1]
    return image_info(path)[:2]  # of what Pillow does not know


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


def verify_image(path: str) -> None:
    """Compare the check sums in an image file, if it is a PNG: decoders do not, and make up what they cannot read.

    Args:
        path (str): The image file.

    Raises:
        BadImageError: If it was altered since it was written, or is no image.
        UserError: If there is no such file, or it may not be read.
    """
    with named(path), open_regular(path) as file:
        verify(file)


# mmcv decodes with Pillow, too: mmsegmentation's maps.
mmcv.image.io.Image = SimpleNamespace(open=open_image, new=Image.new)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image file of any mode, depth and orientation; a drop-in for `LoadImageFromFile` in all libraries.

    Required keys: `img_path`, or those of a sample in a pack (see `read_encoded`). Added keys: `img` (np.ndarray[uint8] of
    shape (H, W, 3), BGR), `img_shape` and `ori_shape`, both (H, W). A sample without a path that has its `img` already, as
    mmpretrain's inferencers make them, is passed on, a grey one (H, W) or (H, W, 1) with three equal channels.

    Args:
        bands (int | Sequence[int | str], optional): How many bands the files have, or those to read, by index from 0 or by
            name. `img` is then as the file has it: uint8, uint16 or float32, (H, W, bands), in the order of the file or
            of the list, not BGR. Defaults to None: 8-bit colour.
        **options: With bands, further arguments of `BandReading`: `nodata`, `pages`, `max_nodata`, `depth`.

    Raises:
        BadImageError: If the file is truncated, empty or not an image, or not of the size that its annotations say
            (`height` and `width`, which mmdet takes from them), or has not these bands.
        NoDataError: If more of it is without data than `max_nodata`.
        UserError: If there is no such file, or `bands` is neither a number nor a list.
    """

    def __init__(self, bands: Bands | None = None, **options: Any):
        self.bands, self.reading = bands, None if bands is None else BandReading(bands, **options)

    def transform(self, results: dict) -> dict:
        """Read `results['img_path']`; see the class."""
        if 'img' in results and 'img_path' not in results:
            results['img'] = as_color(results['img']) if self.bands is None else results['img']
            return results
        path = results['img_path']
        image = read_image(path, read_encoded(results)) if self.reading is None else self._read_bands(results)
        height, width = image.shape[:2]
        said = results.get('height', height), results.get('width', width)
        if said != (height, width):
            raise BadImageError(f'the image {path} is of {width} × {height} pixels, and its annotations are for one of '
                                f'{said[1]} × {said[0]}: they would not fit')
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read_bands(self, results: dict) -> np.ndarray:
        with self.reading.open(results) as file:
            image, gaps = file.read()
        self.reading.check(gaps, results)
        return image

    def __repr__(self) -> str:
        return f'{type(self).__name__}({"" if self.bands is None else f"bands={self.bands}"})'


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
