"""Images as people have them in Python, as the models take them."""
import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from coma_mm.datasets.loading import as_color, read_image
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
