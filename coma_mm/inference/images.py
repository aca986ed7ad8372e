"""Images as people have them in Python, as the models take them."""
import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from coma_mm.datasets.bands import Bands
from coma_mm.datasets.loading import LoadImage, as_color, read_image
from coma_mm.datasets.reading.gaps import fill_gaps
from coma_mm.errors import UserError

Picture = str | os.PathLike | np.ndarray | Image.Image | torch.Tensor
"""An image: the path of a file; an array (H, W, 3), (H, W, 1) or (H, W), uint8, RGB; one of Pillow's; a tensor (3, H, W) or
(1, H, W), uint8 in 0 to 255 or floating in 0 to 1, RGB."""


def as_bgr(image: Picture) -> np.ndarray:
    """An image as OpenMMLab's pipelines have it when it is loaded.

    Args:
        image (Picture): In any of its kinds.

    Returns:
        ndarray: uint8 (H, W, 3), BGR.

    Raises:
        BadImageError: The file cannot be decoded.
        UserError: There is no such file, or it is nothing that stands for an image.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert('RGB'))
    elif isinstance(image, torch.Tensor):
        image = _pixels(image)
    if not isinstance(image, np.ndarray):
        raise _no_image(f'a {type(image).__name__}')
    rgb = as_color(image)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise _no_image(f'an array of shape {image.shape}')
    if rgb.dtype != np.uint8:
        raise _no_image(f'an array of {rgb.dtype}')
    return np.ascontiguousarray(rgb[..., ::-1])


def as_read(image: Picture, bands: Bands | None = None, load: LoadImage | None = None) -> np.ndarray:
    """An image as the loading step of a model reads it.

    Args:
        image (Picture): In any of its kinds; for other bands a path, an array (H, W, bands) or a tensor (bands, H, W).
        bands (Bands, optional): What the model sees. Defaults to None: see `as_bgr`.
        load (LoadImage, optional): The model's own step, which reads files of these bands. Defaults to a plain one.

    Returns:
        ndarray: (H, W, bands) of the file's depth, values without data filled, or uint8 BGR.

    Raises:
        BadImageError: The file cannot be decoded, or has other bands.
        UserError: There is no such file, or it is nothing that stands for such an image.
    """
    if bands is None:
        return as_bgr(image)
    if isinstance(image, (str, os.PathLike)):
        load = load or LoadImage(bands.chosen, depth=bands.depth, nodata=bands.nodata)
        return load(dict(img_path=os.fspath(image)))['img']
    if isinstance(image, torch.Tensor) and image.ndim == 3:
        image = image.detach().cpu().permute(1, 2, 0).numpy()
    if isinstance(image, np.ndarray) and image.ndim == 2:
        image = image[..., None]
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != bands.number:
        what = f'an array of shape {image.shape}' if isinstance(image, np.ndarray) else f'a {type(image).__name__}'
        raise UserError(f'{what} is no image for this model; expected a path, or an array (H, W, {bands.number}) of the '
                        f'bands {", ".join(bands.names)}')
    if image.dtype.kind not in 'buif':
        raise UserError(f'an array of {image.dtype} is no image; expected integers or floating-point numbers')
    return fill_gaps(image, bands.nodata)[0]


def _pixels(image: torch.Tensor) -> np.ndarray:
    """(H, W, C) uint8 of a tensor (C, H, W)."""
    if image.ndim != 3:
        raise _no_image(f'a tensor of shape {tuple(image.shape)}')
    image = image.detach().cpu()
    if image.is_floating_point():
        if image.numel() and not (0 <= image.min() and image.max() <= 1):
            raise _no_image(f'a tensor of {image.dtype} in {image.min():g} to {image.max():g}')
        image = (255 * image).round().to(torch.uint8)
    return image.permute(1, 2, 0).numpy()


def _no_image(what: str) -> UserError:
    return UserError(f'{what} is no image; expected a path, an image of Pillow, an array (H, W, 3) of uint8 in RGB, or a '
                     'tensor (3, H, W) in RGB, of uint8 or in 0 to 1')


def several(images: Picture | Sequence[Picture]) -> tuple[list[Picture], bool]:
    """A list of images, and whether a single one was given: what takes one gives one result.

    An array or a tensor with four axes is a list of images along its first.
    """
    if isinstance(images, (list, tuple)):
        return list(images), False
    if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        return list(images), False
    return [images], True
