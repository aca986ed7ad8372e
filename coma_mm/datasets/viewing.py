"""Pictures, 8-bit RGB, of the images that a data set reads, whatever their bands and depth."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from .bands import Bands, Choice, picture
from .loading import LoadImage, read_image
from .samples import open_sample


def bands_read(dataset: Any) -> Choice | None:
    """The setting `bands` of the loading step of a data set, of those around it, or of a pipeline; None for 8-bit colour."""
    if isinstance(dataset, LoadImage):
        return dataset.bands
    parts = dataset if isinstance(dataset, (list, tuple)) else [
        getattr(dataset, name, None) for name in ('pipeline', 'transforms', 'dataset', 'datasets')]
    found = (bands_read(part) for part in parts if part is not None)
    return next((bands for bands in found if bands is not None), None)


def read_picture(sample: dict, bands: Choice | None = None) -> np.ndarray:
    """An image file to look at.

    Args:
        sample (dict): With `img_path`; see `read_encoded`.
        bands (int | Sequence, optional): Those that are read, of which the ones called red, green and blue are seen, or else
            the first three; each from its 2nd to its 98th percentile. Defaults to None: 8-bit colour as it is.

    Returns:
        np.ndarray: uint8 (H, W, 3), RGB.

    Raises:
        BadImageError: If the file cannot be decoded.
        UserError: If there is no such file.
    """
    if bands is None:
        return read_image(sample['img_path'])[..., ::-1]
    with open_sample(sample, bands) as image:
        return seen(image.read()[0], bands, image.info.names)


def seen(values: np.ndarray, bands: Choice, names: Sequence[str] = ()) -> np.ndarray:
    """Values (H, W, bands) as a picture, uint8 RGB; the bands to look at are found by their names, if these are known."""
    if not names and isinstance(bands, (list, tuple)):
        names = [str(band) for band in bands]
    return picture(values, **Bands(bands, list(names) or [''] * values.shape[2], {}).view())
