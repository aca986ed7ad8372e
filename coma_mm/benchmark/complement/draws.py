"""Random numbers as a function of (seed, epoch, image), computed wherever the images are: order, crops, flips and masks.

A number is a hash of what it is drawn for (SplitMix64's mixing function, Steele et al. 2014), in whole numbers alone, so
that it is the same bits on a CPU and on a GPU, for any batch size and in any arm of the study.
"""
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

_STEPS = ((30, -4658895280553007687), (27, -7723592293110705685), (31, 1))
_GOLDEN = -7046029254386353131
ORDER, CROP, MASK = 0, 1, 16
"""The first of the numbers of an image that its place in the epoch, its crop and flip, and its masks are made of."""


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Scatter int64 numbers; products wrap around, and shifts bring in zeros."""
    for shift, factor in _STEPS:
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x


def uniforms(seed: int, epoch: torch.Tensor, image: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """Numbers in [0, 1).

    Args:
        seed (int): Of the run.
        epoch (Tensor): int64, (B, ).
        image (Tensor): Indices, int64, (B, ).
        first (int): The first number's place.
        count (int): How many numbers of each image.

    Returns:
        Tensor: float64, (B, count).
    """
    state = _mix(_mix(_mix(torch.full_like(image, seed + 1) * _GOLDEN) + epoch) * _GOLDEN + image)
    places = torch.arange(first + 1, first + count + 1, device=image.device)
    return ((_mix(state[:, None] + places * _GOLDEN) >> 11) & ((1 << 53) - 1)).double() * 2.**-53


def order(seed: int, epoch: int, images: int, device: torch.device | str = 'cpu') -> torch.Tensor:
    """Tensor: The indices of all images in the order of an epoch."""
    ids = torch.arange(images, device=device)
    return uniforms(seed, torch.full_like(ids, epoch), ids, ORDER, 1)[:, 0].argsort()


class Masks(NamedTuple):
    """Ascending indices of patches, int64, (B, K) and (B, n - K), as `PatchMask` draws them.

    Args:
        ids_keep (Tensor): What the first branch sees.
        ids_rest (Tensor): What it does not see, and predicts.
        second_keep (Tensor, optional): What the second branch sees in the place of `ids_rest`.
        second_rest (Tensor, optional): What that does not see, and predicts.
    """
    ids_keep: torch.Tensor
    ids_rest: torch.Tensor
    second_keep: torch.Tensor | None = None
    second_rest: torch.Tensor | None = None


def draw_masks(seed: int, epoch: torch.Tensor, image: torch.Tensor, patches: int, keep: int,
               pair: str = 'complementary') -> Masks:
    """Uniform masks; with `pair='independent'` a second one, which leaves the first one as it is.

    Args:
        seed, epoch, image: See `uniforms`.
        patches (int): Of an image.
        keep (int): How many of them the first branch sees.
        pair (str): 'complementary' or 'independent', as of `PatchMask`. Defaults to 'complementary'.

    Returns:
        Masks: With `pair='independent'` all four.
    """
    found = []
    for number in range(1 + (pair == 'independent')):
        places = uniforms(seed, epoch, image, MASK + number * patches, patches).argsort(1)
        kept, rest = places[:, :keep].sort(1).values, places[:, keep:].sort(1).values
        found += [kept, rest] if number == 0 else [rest, kept]  # the second branch sees what is masked
    return Masks(*found)


def crop(images: torch.Tensor, seed: int, epoch: torch.Tensor, image: torch.Tensor, area: tuple[float, float] = (0.2, 1.),
         ratio: float = 4 / 3) -> torch.Tensor:
    """Cut out a part of random size and shape of each image, mirror half of them, and resize them (bilinearly).

    Args:
        images (Tensor): Square, uint8, (B, 3, S, S).
        seed, epoch, image: See `uniforms`.
        area (tuple[float, float]): Bounds of the part's share of the image. Defaults to (0.2, 1), MAE's.
        ratio (float): Bound of width over height, and its inverse. Defaults to 4 / 3, MAE's.

    Returns:
        Tensor: float32, (B, 3, S, S), in 0 to 255.
    """
    u = uniforms(seed, epoch, image, CROP, 5)
    share = area[0] + (area[1] - area[0]) * u[:, 0]
    shape = ((2 * u[:, 1] - 1) * math.log(ratio)).exp()
    width, height = (share * shape).sqrt().clamp(max=1), (share / shape).sqrt().clamp(max=1)
    zero = torch.zeros_like(share)
    mirrored = 1 - 2 * (u[:, 4] < 0.5).double()
    theta = torch.stack([width * mirrored, zero, (2 * u[:, 2] - 1) * (1 - width),
                         zero, height, (2 * u[:, 3] - 1) * (1 - height)], 1).view(-1, 2, 3).float()
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode='border', align_corners=False)
