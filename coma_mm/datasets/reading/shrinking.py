"""Windows of scenes that are many times larger than what becomes of them, read by strips and shrunk at once."""
import numpy as np
import torch
import torch.nn.functional as F

from .base import Window
from .read import BandImage

LARGE = 2**24
"""Windows of so many px are shrunk while they are read, and so many are read at a time."""


def read_for(image: BandImage, window: Window, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Read a window that is to be resized.

    A large one is averaged over squares, so that it still has at least twice the size's sides, and the memory does not
    depend on it. It is cut to whole squares, by less than half a pixel of the result.

    Args:
        image (BandImage): Open.
        window (tuple[int]): Top, left, height and width in px.
        size (tuple[int, int]): Height and width in px that it will have.

    Returns:
        tuple[np.ndarray, float]: Its values, of the image's type, and the share of them without data, see `BandImage.read`.
    """
    top, left, height, width = window
    side = min(height // size[0], width // size[1]) // 2
    if height * width <= LARGE or side < 2 or not image.windowed:
        return image.read(window)
    height, width = height // side, width // side
    shrunk = np.empty((height, width, image.shape[2]), image.info.dtype)
    gaps, rows = 0., max(1, LARGE // (width * side * side))
    for row in range(0, height, rows):
        count = min(rows, height - row)
        part, share = image.read((top + row * side, left, count * side, width * side))
        means = F.avg_pool2d(torch.from_numpy(part.astype(np.float32))[None].permute(0, 3, 1, 2), side)
        means = means[0].permute(1, 2, 0).numpy()
        shrunk[row:row + count] = np.rint(means) if shrunk.dtype.kind == 'u' else means
        gaps += share * count / height
    return shrunk, gaps
