"""Very long images: their middle is cut out before they are enlarged, where all of them would fill the memory."""
from mmpretrain.datasets.transforms import ResizeEdge as _ResizeEdge
from mmpretrain.registry import TRANSFORMS
from numpy import ndarray

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
    """

    def transform(self, results: dict) -> dict:
        """Resize an image; see the class."""
        if self.edge == 'short':
            results['img'] = cut_middle(results['img'], self.scale)
        return super().transform(results)
