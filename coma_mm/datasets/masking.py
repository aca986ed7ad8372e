"""Pipeline steps of masked pre-training: flip a sample, draw its mask, pack both."""
from collections.abc import Iterable

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TASK_UTILS, TRANSFORMS
from mmpretrain.structures import DataSample

from coma_mm.errors import UserError, choice
from coma_mm.ranges import whole

from .mask_samplers import expand_units
from .seeding import seeded_generators

MASKS = ('ids_keep', 'ids_rest', 'second_keep', 'second_rest')
"""Indices of patches that a sample may have."""


@TRANSFORMS.register_module()
class RandomHorizontalFlip(BaseTransform):
    """mmcv's `RandomFlip` for images alone, in a fraction of its time: the same flips from the same random numbers.

    Required keys: `img`. Added keys: `flip` (bool), `flip_direction` ('horizontal' or None).

    Args:
        prob (float): Share of the images that are flipped. Defaults to 0.5.

    Raises:
        UserError: `prob` outside [0, 1].
    """

    def __init__(self, prob: float = 0.5):
        if not 0 <= prob <= 1:
            raise UserError(f'RandomHorizontalFlip: prob={prob} is outside [0, 1]')
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Flip, or leave as it is."""
        flip = np.random.random_sample() < self.prob  # np.random.choice, which mmcv calls, checks its arguments at length
        results.update(flip=flip, flip_direction='horizontal' if flip else None)
        if flip:
            results['img'] = mmcv.imflip(results['img'])
        return results


@TRANSFORMS.register_module()
class PatchMask(BaseTransform):
    """Draws which patches of a sample are kept.

    The generator is seeded from NumPy's global one, which the data set seeds per sample: the mask is a function of
    (seed, epoch, sample index), the same on every device and for any number of workers and processes.

    Required keys: `img`. Added keys: `ids_keep`, `ids_rest` (ascending int64 indices of patches, raster order); with
    `pair='independent'` also `second_keep`, `second_rest`.

    Args:
        sampler (dict): A mask sampler. Defaults to `dict(type='UniformMaskSampler', ratio=0.6)`.
        patch_size (int): Side of the model's patch in px. Defaults to 32.
        unit (int, optional): Side in px of what is masked as one, a multiple of the patch. Defaults to the patch.
        pair (str): What the second branch of `CoMA` sees. 'complementary': the patches that are masked for the first.
            'independent', the control for it: those that are masked in a second draw, which knows nothing of the first but
            is of the same distribution, and so as many. The first draw is the same bits in both. Defaults to
            'complementary'.

    Raises:
        UserError: A unit that is no multiple of the patch, an image that is no multiple of the unit, a ratio that
            leaves no patch, or an unknown `pair`.
    """
    PAIRS = ('complementary', 'independent')

    def __init__(self, sampler: dict | None = None, patch_size: int = 32, unit: int | None = None,
                 pair: str = 'complementary'):
        self.pair = choice('PatchMask: pair', pair, self.PAIRS)
        whole(1).check('PatchMask: patch_size', patch_size)
        unit = patch_size if unit is None else whole(1).check('PatchMask: unit', unit)
        if unit % patch_size:
            raise UserError(f'PatchMask: unit={unit} px is not a multiple of the patch of {patch_size} px')
        self.sampler = TASK_UTILS.build(sampler or dict(type='UniformMaskSampler'))
        self.unit = unit
        self.scale = unit // patch_size

    def transform(self, results: dict) -> dict:
        """Add the indices."""
        height, width = results['img'].shape[:2]
        if height % self.unit or width % self.unit:
            raise UserError(f'PatchMask: image of {width}×{height} px: both sides must be multiples of {self.unit} px; '
                            'set the crop size of the pipeline')
        grid = (height // self.unit, width // self.unit)
        rng = np.random.default_rng(np.random.randint(2**32, size=4, dtype=np.uint32))
        keep, rest = self.sampler(grid, rng)
        drawn = dict(ids_keep=keep, ids_rest=rest)
        if self.pair == 'independent':
            drawn['second_rest'], drawn['second_keep'] = self.sampler(grid, rng)  # it sees what is masked
        return results | {key: expand_units(ids, grid, self.scale) for key, ids in drawn.items()}


def draw_masks(size: tuple[int, int], samples: Iterable[tuple[int, ...]], sampler: dict | None = None,
               patch_size: int = 32, unit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the masks of given images as training draws those of its samples.

    Args:
        size (tuple[int, int]): Height and width of the images in px.
        samples (Iterable[tuple[int, ...]]): What the mask of each image depends on: seed, epoch and sample index.
        sampler, patch_size, unit: See `PatchMask`.

    Returns:
        tuple[Tensor, Tensor]: `ids_keep` and `ids_rest`, int64, one row per sample.
    """
    step = PatchMask(sampler, patch_size, unit)
    drawn = []
    for sample in samples:
        with seeded_generators(*sample):
            drawn.append(step.transform(dict(img=np.empty((*size, 0)))))
    return tuple(torch.from_numpy(np.stack([one[key] for one in drawn])) for key in ('ids_keep', 'ids_rest'))


@TRANSFORMS.register_module()
class PackMaskedImage(BaseTransform):
    """Packs a masked image for `default_collate`: `inputs` (C, H, W) uint8, what `PatchMask` has drawn, and `data_samples`
    with the meta keys.

    Args:
        meta_keys (tuple[str]): What to keep of the sample's description. Defaults to ('sample_idx', 'img_path').
    """

    def __init__(self, meta_keys: tuple[str, ...] = ('sample_idx', 'img_path')):
        self.meta_keys = meta_keys

    def transform(self, results: dict) -> dict:
        """Pack."""
        data_sample = DataSample()
        for key in self.meta_keys:
            if key in results:  # DataSample(metainfo=...) would copy deeply what nobody else keeps
                data_sample.set_field(results[key], key, field_type='metainfo')
        return dict(
            inputs=torch.from_numpy(_planes(results['img'])),
            **{key: torch.from_numpy(results[key]) for key in MASKS if key in results},
            data_samples=data_sample)


def _planes(image: np.ndarray) -> np.ndarray:
    """Copy of an image (H, W, C), or (H, W), as (C, H, W); OpenCV is several times faster at it than NumPy."""
    image = image if image.ndim == 3 else image[..., None]
    height, width, channels = image.shape
    planes = np.empty((channels, height, width), image.dtype)
    if image.strides[1] < 0:  # a view, mmcv's horizontal flip; OpenCV would copy it byte by byte
        image = cv2.flip(image[:, ::-1], 1)
    cv2.split(image, list(planes))
    return planes
