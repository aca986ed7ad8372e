"""The first convolution's weights for images of other bands than it was trained on."""
from collections.abc import Sequence

import torch

from coma_mm.datasets.bands import RGB
from coma_mm.errors import first_names


def first_convolution(weights: dict[str, torch.Tensor]) -> str | None:
    """The name of what sees the image: the first weights of four dimensions."""
    return next((name for name, value in weights.items() if value.dim() == 4), None)


def names_of(number: int, names: Sequence[str] | None) -> list[str]:
    """The names of bands in small letters; of three that nobody names: red, green and blue, as our models see them."""
    if names and len(names) == number:
        return [str(name).casefold() for name in names]
    return list(RGB) if number == 3 else [f'band {index}' for index in range(number)]


def adapt_stem(weight: torch.Tensor, there: Sequence[str], here: Sequence[str]) -> tuple[torch.Tensor, str]:
    """Take the first convolution to other bands.

    A band that it knows by name keeps its weights; every other one starts from the mean over red, green and blue, or over
    all bands where these are not known. All are scaled by the old number of bands over the new one, so that the response to
    an image that is equal in all bands stays what it was, if no band is left out. Adding bands and taking them away again
    gives the old weights.

    Args:
        weight (Tensor): (out, len(there), height, width).
        there (Sequence[str]): The bands that it was trained on, from `names_of`.
        here (Sequence[str]): Those that it is to see.

    Returns:
        tuple[Tensor, str]: (out, len(here), height, width), and what was done, in words.
    """
    if list(there) == list(here):
        return weight, ''
    mixed = [there.index(name) for name in RGB] if set(RGB) <= set(there) else list(range(len(there)))
    mean = weight[:, mixed].mean(1)
    parts = [weight[:, there.index(name)] if name in there else mean for name in here]
    known, new = [name for name in here if name in there], [name for name in here if name not in there]
    line = f'its {len(there)} bands became {len(here)}: ' + '; '.join(filter(None, [
        known and f'{first_names(known)} in their places',
        new and f'{first_names(new)} from the mean over {first_names(there[index] for index in mixed)}']))
    return torch.stack(parts, 1) * (len(there) / len(here)), line
