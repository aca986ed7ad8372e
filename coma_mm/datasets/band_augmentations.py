"""Augmentation of images of any bands and depth; and which steps of the libraries know red, green and blue alone."""
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from coma_mm.config_tree import type_name, walk
from coma_mm.errors import UserError
from coma_mm.ranges import SHARE, number

RGB_ONLY = frozenset((
    # mmcv, mmseg, mmdet and mmpretrain
    'AdjustGamma AutoAugment AutoContrast Brightness CLAHE Color ColorJitter ColorTransform Contrast Equalize '
    'Invert Lighting PhotoMetricDistortion Posterize RGB2Gray RandAugment RandomGrayscale Sharpness Solarize SolarizeAdd '
    'ToPIL YOLOXHSVRandomAug '
    # albumentations, inside of Albu
    'ChromaticAberration FancyPCA HEStain HueSaturationValue ISONoise PlanckianJitter RGBShift RandomToneCurve RandomFog '
    'RandomRain RandomShadow RandomSnow RandomSunFlare Spatter ToSepia').split())
"""Steps that take an image for 8-bit colour, or for a picture of the world in sunlight."""


def check_rgb_steps(dataset: Any) -> None:
    """Refuse steps that know colours alone in pipelines that read other bands.

    Args:
        dataset (dict): The config of a data set, with pipelines and other data sets at any depth.

    Raises:
        UserError: Naming the step.
    """
    for one in walk(dataset):
        pipeline = one.get('pipeline')
        if not isinstance(pipeline, (list, tuple)):
            continue
        bands = next((step['bands'] for step in pipeline if isinstance(step, dict) and step.get('bands') is not None), None)
        count = len(bands) if isinstance(bands, (list, tuple)) else bands
        if count in (None, 3):
            continue
        for name in (type_name(step) for step in walk(list(pipeline))):
            if name in RGB_ONLY:
                raise UserError(f'the step {name} of a pipeline knows red, green and blue alone, and its images have bands='
                                f'{bands}; take it out, or take steps for any bands: BandGain, BandDrop, RandomRotate90 '
                                '(docs/formats.md)')


@TRANSFORMS.register_module()
class RandomVerticalFlip(BaseTransform):
    """Turns images, and their segmentation maps, upside down.

    Changed keys: `img`, `gt_seg_map` if it is there.

    Args:
        prob (float): Share of the images that are flipped. Defaults to 0.5.

    Raises:
        UserError: `prob` outside [0, 1]; boxes or masks, which mmdetection's `RandomFlip` flips with the image.
    """

    def __init__(self, prob: float = 0.5):
        self.prob = SHARE.check(f'{type(self).__name__}: prob', prob)

    def transform(self, results: dict) -> dict:
        """Flip, or leave as it is."""
        return _turn(self, results, lambda image: image[::-1]) if np.random.random_sample() < self.prob else results


@TRANSFORMS.register_module()
class RandomRotate90(BaseTransform):
    """Rotates images, and their segmentation maps, by 90, 180 or 270 degrees: for views from above.

    An image that is not square is rotated by 180 degrees, as a batch has one size. Changed keys: `img`, `gt_seg_map` if
    it is there.

    Args:
        prob (float): Share of the images that are rotated. Defaults to 0.75, at which all directions are as frequent.

    Raises:
        UserError: `prob` outside [0, 1]; boxes or masks, which it does not rotate.
    """

    def __init__(self, prob: float = 0.75):
        self.prob = SHARE.check(f'{type(self).__name__}: prob', prob)

    def transform(self, results: dict) -> dict:
        """Rotate, or leave as it is."""
        if np.random.random_sample() >= self.prob:
            return results
        turns = np.random.randint(1, 4)
        height, width = results['img'].shape[:2]
        return _turn(self, results, lambda image: np.rot90(image, turns if height == width else 2))


def _turn(step: BaseTransform, results: dict, turn: Any) -> dict:
    if found := [key for key in ('gt_bboxes', 'gt_masks') if key in results]:
        raise UserError(f'{type(step).__name__} does not turn {" and ".join(found)}; take RandomFlip for these')
    turned = {key: np.ascontiguousarray(turn(results[key])) for key in ('img', 'gt_seg_map') if key in results}
    return results | turned


@TRANSFORMS.register_module()
class BandGain(BaseTransform):
    """Multiplies each band by a number of its own, and adds noise: what light, air and sensors do.

    Changed key: `img`, whose type stays: integers are rounded, and cut off at the ends of their range.

    Args:
        gain (float): Each factor is drawn uniformly from 1 - gain to 1 + gain. Defaults to 0.1.
        noise (float): Standard deviation of the noise, of the normal distribution, as a share of the band's own in the
            image. Defaults to 0.

    Raises:
        UserError: `gain` outside [0, 1], or `noise` below 0.
    """

    def __init__(self, gain: float = 0.1, noise: float = 0.):
        self.gain = SHARE.check('BandGain: gain', gain)
        self.noise = number(0).check('BandGain: noise', noise)

    def transform(self, results: dict) -> dict:
        """Change the values."""
        image = results['img']
        rng = np.random.default_rng(np.random.randint(2**32, size=4, dtype=np.uint32))
        values = image * rng.uniform(1 - self.gain, 1 + self.gain, image.shape[2]).astype(np.float32)
        if self.noise:
            values += rng.standard_normal(image.shape, np.float32) * (self.noise * image.std((0, 1), np.float32))
        if image.dtype.kind == 'u':
            np.clip(np.rint(values, out=values), 0, np.iinfo(image.dtype).max, out=values)
        return results | dict(img=values.astype(image.dtype))


@TRANSFORMS.register_module()
class BandDrop(BaseTransform):
    """Takes bands away at random: nothing of a dropped one is left in the image. One band at least stays.

    Changed key: `img`. Added key: `dropped_bands` (list[int]).

    Args:
        prob (float): With which each band is dropped. Defaults to 0.1.
        fill (float | Sequence[float]): The value in its place, the same for every image, so that it tells nothing of this
            one: for all bands or for each. The bands' means, of which normalising makes 0, are the natural choice. Defaults
            to 0.

    Raises:
        UserError: `prob` outside [0, 1], or as many values as there are no bands.
    """

    def __init__(self, prob: float = 0.1, fill: float | Sequence[float] = 0.):
        self.prob = SHARE.check('BandDrop: prob', prob)
        self.fill = np.atleast_1d(np.asarray(fill, np.float64))

    def transform(self, results: dict) -> dict:
        """Drop bands, or none."""
        image = results['img']
        bands = image.shape[2]
        if len(self.fill) not in (1, bands):
            raise UserError(f'BandDrop: fill has {len(self.fill)} values, and the image has {bands} bands; expected one '
                            'value for each')
        stays, drop = np.random.randint(bands), np.random.random_sample(bands) < self.prob
        drop[stays] = False
        if drop.any():
            fill = np.broadcast_to(self.fill, bands)
            image = image.copy()
            image[..., drop] = (np.rint(fill) if image.dtype.kind == 'u' else fill).astype(image.dtype)[drop]
        return results | dict(img=image, dropped_bands=np.flatnonzero(drop).tolist())
