"""Very long images: their middle is cut out before they are enlarged, where all of them would fill the memory."""
from typing import Any

from mmpretrain.datasets.transforms import ResizeEdge as _ResizeEdge
from mmpretrain.registry import TRANSFORMS
from numpy import ndarray

from .resizing import is_picture, resize_bands

LONGEST = 65535
"""Sides in px up to which images are enlarged whole: those of the longest JPEG."""


def cut_middle(image: ndarray, short_side: int, longest: int = LONGEST) -> ndarray:
    """Cut the ends of an image off that would be too long when its short side is scaled.

    Args:
        image (ndarray): (H, W) or (H, W, C).
        short_side (int): What its short side will be, in px.
        longest (int): What its long side may be then, in px. Defaults to `LONGEST`.

    Returns:
        ndarray: A view of the image's middle, or the image itself if it is no longer than that.
    """
    axis = int(image.shape[1] > image.shape[0])
    length, short = image.shape[axis], image.shape[1 - axis]
    surplus = length - longest * short // short_side
    if surplus <= 0:
        return image
    start = -(-surplus // 2)  # as much at either end: what is cropped from the middle later is where it was
    return image[start:length - start] if axis == 0 else image[:, start:length - start]


@TRANSFORMS.register_module(force=True)
class ResizeEdge(_ResizeEdge):
    """mmpretrain's `ResizeEdge`, which would make 860,000 × 256 px of 20,000 × 6: 10 GB while it resizes.

    Where the result would be longer than `LONGEST`, the image's middle is resized, from which `CenterCrop` takes its part.
    Images of other bands than grey and colour, and of other depths than 8 bits, are resized with antialiasing, as pictures
    are by Pillow.

    Args:
        scale (int | tuple[int, int]): What the edge will be, in px; or (H, W), to fill both: the smallest size from which
            `CenterCrop` can take that.
        edge (str): 'short', 'long', 'width' or 'height'; for a pair it is found. Defaults to 'short'.
        **kwargs: The further arguments of mmpretrain's.
    """

    def __init__(self, scale: int | tuple[int, int], edge: str = 'short', **kwargs: Any):
        super().__init__(scale, edge, **kwargs)
        self.sides = None if isinstance(scale, int) else tuple(scale)

    def transform(self, results: dict) -> dict:
        """Resize an image; see the class."""
        if self.sides:
            height, width = results['img'].shape[:2]
            results['img'] = cut_middle(results['img'], self.sides[0] if width >= height else self.sides[1])
            sizes = results['img'].shape[:2]
            factor = max(side / size for side, size in zip(self.sides, sizes, strict=True))
            results['scale'] = tuple(max(round(size * factor), side)
                                     for size, side in zip(sizes, self.sides, strict=True))[::-1]
            self._resize_img(results)
            return results
        if self.edge == 'short':
            results['img'] = cut_middle(results['img'], self.scale)
        return super().transform(results)

    def _resize_img(self, results: dict) -> None:
        """mmpretrain's, for images that Pillow does not know as well."""
        image = results['img']
        if is_picture(image):
            super()._resize_img(results)
            return
        width, height = results['scale']
        results['img'] = resize_bands(image, (height, width), self.interpolation)
        results['img_shape'] = height, width
        results['scale_factor'] = width / image.shape[1], height / image.shape[0]
