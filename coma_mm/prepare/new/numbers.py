"""The numbers of a run by the size of its data: update, batch, learning rate, image size."""
from collections.abc import Sequence

from coma_mm.errors import UserError
from coma_mm.ranges import whole

ARCHS = ('tiny', 'small', 'base')
WIDTHS = dict(tiny=(32, 64, 128, 256), small=(96, 192, 384, 768), base=(112, 224, 448, 896))
"""Channels of the stages of DyViT, as in `coma_mm.models.dyvit.ARCHS`."""


def power_of_two(limit: float, low: int, high: int) -> int:
    """The largest power of two up to a limit, from `low` to `high`."""
    number = low
    while number * 2 <= min(limit, high):
        number *= 2
    return number


def share_out(update: int, gpus: int, most: int, images: int) -> tuple[int, int]:
    """Share the images of an update out to GPUs and batches.

    Args:
        update (int): Images that an update is to have.
        gpus (int): How many GPUs there are.
        most (int): Images that a batch on a GPU may have.
        images (int): Of an epoch.

    Returns:
        tuple[int, int]: Images of a batch, and of an update: near to what was asked for, as that may leave a remainder.

    Raises:
        UserError: If there is less than an image for each GPU.
    """
    if images < gpus:
        raise UserError(f'--gpus {gpus}: the {images} images that are trained on are less than one for each; take fewer')
    update = min(update, images)
    batch = max(1, min(update // gpus, most))
    return batch, batch * gpus * max(1, update // (batch * gpus))


def image_size(size: int | None, side: int, sizes: Sequence[int], multiple: int = 32) -> int:
    """The size to which images are brought.

    Args:
        size (int, optional): As it was asked for.
        side (int): Shorter side of the images in px.
        sizes (Sequence[int]): What there is to choose from, the largest first.
        multiple (int): What a size that was asked for must be a multiple of. Defaults to 32.

    Returns:
        int: In px.

    Raises:
        UserError: If the size that was asked for is no such multiple.
    """
    if size is None:
        return next((one for one in sizes if one <= side), sizes[-1])
    whole(1).check('--size', size)
    if size % multiple:
        near = max(1, size // multiple) * multiple
        raise UserError(f'--size {size}: expected a multiple of {multiple} px, for instance {near}')
    return size


def length(epochs: int | None, usual: int, fewest: int, images: int, update: int) -> tuple[int, str]:
    """The length of a run.

    Args:
        epochs (int, optional): As it was asked for.
        usual (int): Epochs of the config that is inherited.
        fewest (int): Updates that a run has at least.
        images (int): Of an epoch.
        update (int): Images of an update.

    Returns:
        tuple[int, str]: Epochs, and the reason.
    """
    if epochs:
        return epochs, 'as was asked for'
    if usual * images >= fewest * update:
        return usual, 'as in the config that it inherits'
    return -(-fewest * update // images), f'{fewest} updates, as the images are few'


def scaled(rate: float, update: int, base: int) -> str:
    """A learning rate by the linear rule, in words."""
    if update == base:
        return f'lr {plain(rate)}'
    return f'lr {plain(rate * update / base)} by the linear rule ({plain(rate)} × {update}/{base})'


def plain(number: float) -> str:
    """A number as people write it: 1.5e-4."""
    mantissa, _, exponent = f'{number:.3e}'.partition('e')
    if -2 <= int(exponent) <= 2:
        return f'{number:.4g}'
    return f'{mantissa.rstrip("0").rstrip(".")}e{int(exponent)}'
