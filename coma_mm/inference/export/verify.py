"""Whether an exported program computes what the model does."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coma_mm.errors import UserError
from coma_mm.prepare.shape_scenes import render_scene

from .exportable import Exportable, channels_of
from .formats import AXES, Outputs

TOLERANCE = 1e-3
"""The largest relative difference."""
MOST_APART = 0.02
"""Share of the objects that only one of the two may find: where two overlap by almost exactly the threshold of NMS, the last
digit decides which remains."""


@dataclass
class Verified:
    """A comparison.

    Args:
        shapes (list[tuple[int, ...]]): Of the images, (B, C, H, W).
        difference (float): The largest relative one.
        objects (int | None): How many a detector found in all of them. Defaults to None.
    """
    shapes: list[tuple[int, ...]]
    difference: float
    objects: int | None = None

    def __str__(self) -> str:
        shapes = ', '.join('×'.join(map(str, shape)) for shape in self.shapes)
        found = '' if self.objects is None else f' ({self.objects} objects)'
        return f'on {shapes}{found}: largest relative difference {self.difference:.1e}'


def example_images(model: nn.Module, side: int, free: dict[int, str], number: int = 3) -> list[torch.Tensor]:
    """Pictures for a model, normalised as its preprocessor does: scenes of CoMA-Shapes, or noise if channels are not three.

    Args:
        model (nn.Module): With a `data_preprocessor`.
        side (int): In px, of the first; 64 at least.
        free (dict[int, str]): The dimensions of which the others have other sizes, see `AXES`.
        number (int): How many. Defaults to 3.

    Returns:
        list[Tensor]: (B, C, H, W) each.
    """
    channels = channels_of(model)
    mean, std = (getattr(model.data_preprocessor, name, None) for name in ('mean', 'std'))
    images = []
    for index in range(number):
        # The others have odd sides, multiples of no stride.
        height = side + (1 - index) * side // 4 + 3 * index | 1 if index and 2 in free else side
        width = side + (index - 2) * side // 3 + 5 * index | 1 if index and 3 in free else side
        batch = index + 1 if 0 in free else 1
        if channels == 3:
            scenes = [render_scene(0, 'val', 10 * index + i, max(height, width), 'easy').image[:height, :width]
                      for i in range(batch)]
            image = torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float()
        else:  # of bands of any depth
            image = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(index))
        if mean is not None and channels == 3:
            image = (image - mean.cpu().view(-1, 1, 1)) / std.cpu().view(-1, 1, 1)
        images.append(image.contiguous())
    return images


def verify(model: nn.Module, module: Exportable, run: Callable[[torch.Tensor], Outputs], images: list[torch.Tensor]
           ) -> Verified:
    """Compare a loaded program with the model, as its library computes it.

    Args:
        model (nn.Module): The model, on the CPU.
        module (Exportable): What was exported of it.
        run (Callable): The program.
        images (list[Tensor]): What to compare on.

    Returns:
        Verified: The difference, `TOLERANCE` at most.

    Raises:
        UserError: If it is larger.
    """
    pairs = []
    for image in images:
        with torch.no_grad():
            pairs.append((module.by_library(model, image), run(image)))
    objects = None
    if 'boxes' in module.outputs:
        objects = sum(len(expected[0]) for expected, _ in pairs)
        difference = _objects_difference(pairs, [max(image.shape[-2:]) for image in images])
    else:
        difference = max(_difference(a, b) for expected, found in pairs for a, b in zip(expected, found, strict=True))
    shapes = [tuple(image.shape) for image in images]
    verified = Verified(shapes, difference, objects)
    if not difference <= TOLERANCE:  # NaN is not either
        raise UserError(f'the exported program differs from the model {verified}; {TOLERANCE:g} is allowed, and nothing was '
                        'written')
    return verified


def _difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """The largest difference of two tensors, by the largest value."""
    if expected.shape != found.shape:
        return float('inf')
    if not expected.numel():
        return 0.
    largest = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((expected - found).abs().max() / largest)


def _objects_difference(pairs: list[tuple[Outputs, Outputs]], sides: list[int]) -> float:
    """The largest difference of the objects that both found: boxes by the image's side, scores and masks by 1.

    Which of two with the same score comes first may differ. Infinite, if more than `MOST_APART` were found by one alone.
    """
    largest, apart, total = 0., 0, 0
    for (expected, found), side in zip(pairs, sides, strict=True):
        boxes, scores, labels, *masks = expected
        other_boxes, other_scores, other_labels, *other_masks = found
        total += len(boxes)
        left = torch.ones(len(other_boxes), dtype=torch.bool)
        for i in range(len(boxes)):
            distance = (other_boxes - boxes[i]).abs().amax(1) / side if len(left) else boxes.new_zeros(0)
            distance = distance.masked_fill(~left | (other_labels != labels[i]), float('inf'))
            j = int(distance.argmin()) if len(left) else -1
            if j < 0 or not distance[j] <= 10 * TOLERANCE:
                apart += 1
                continue
            left[j] = False
            differences = [distance[j], (scores[i] - other_scores[j]).abs()]
            differences += [(a[i] - b[j]).abs().max() for a, b in zip(masks, other_masks, strict=True)]
            largest = max(largest, *map(float, differences))
        apart += int(left.sum())
    return largest if apart <= MOST_APART * total else float('inf')


def free_choices(batch: bool) -> list[dict[int, str]]:
    """Which dimensions may be of any length: those to try, the most general first.

    Args:
        batch (bool): Whether the model takes several images at a time.

    Returns:
        list[dict[int, str]]: See `AXES`.
    """
    sides = {axis: name for axis, name in AXES.items() if axis}
    return [AXES, {0: AXES[0]}, {}] if batch else [sides, {}]
