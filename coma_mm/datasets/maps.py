"""Segmentation maps: one class id for each pixel, which is all that mmsegmentation reads, as 8 bits."""
import functools
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from coma_mm.errors import UserError

IGNORED = (-1, 65535)
"""Values of deeper maps that become 255, which is ignored by default, when 8 bits are taken of them."""
_path = ContextVar('path', default=None)


def map_problem(values: np.ndarray) -> str | None:
    """What is wrong with the values of a segmentation map, and what to do, if anything is.

    Maps of 16 or 32 bits and of floats are right if all their values are whole numbers of 8 bits, or -1 or 65535.

    Args:
        values (np.ndarray): As the file has them, of shape (H, W), or with channels (H, W, C).

    Returns:
        str | None: In words, to follow the file's name.
    """
    if values.ndim == 3 and values.shape[-1] > 1:
        equal = (values == values[..., :1]).all()
        return (f'has {values.shape[-1]} channels; expected one with a class id per pixel (as it is, it does not fit its '
                'image)' + (
                ': all of these are equal, so write one of them, Image.open(PATH).getchannel(0).save(PATH)' if equal else
                ': give each colour its class id, and write these as a grey PNG, or as a palette PNG for Pillow to decode'))
    if values.dtype in (np.uint8, bool):
        return None
    with np.errstate(invalid='ignore'):
        right = np.isin(values, IGNORED) | (values >= 0) & (values <= 255) & (values == np.floor(values))
    if right.all():
        return None
    wrong = values[~right]
    value = wrong[0] if (wrong != np.floor(wrong)).any() else wrong.max()
    return (f'has the value {value} ({values.dtype}); expected class ids of 0 to 255, as only 8 bits are read: write the '
            'classes as a grey 8-bit PNG, without numbers of instances')


def check_maps() -> None:
    """Have mmsegmentation's `LoadAnnotations` refuse maps whose values it would change; once is as good as twice.

    Wherever a config names it, and whatever inherits from it, `_load_seg_map` then raises a UserError that names the file.
    """
    from mmseg.datasets.transforms import loading
    if isinstance(loading.mmcv, SimpleNamespace):
        return
    load = loading.LoadAnnotations._load_seg_map

    @functools.wraps(load)
    def load_named(self: Any, results: dict) -> None:
        token = _path.set(results['seg_map_path'])
        try:
            load(self, results)
        finally:
            _path.reset(token)
        shape, expected = results['gt_seg_map'].shape, tuple(results.get('ori_shape', ()))[:2]
        if expected and shape != expected:
            raise UserError(f'the segmentation map {results["seg_map_path"]} does not fit its image '
                            f'{results.get("img_path", "?")}: it is of {shape[-1]}×{shape[0]} px; expected '
                            f'{expected[1]}×{expected[0]}, one class id for each pixel of the image')

    loading.LoadAnnotations._load_seg_map = load_named
    loading.mmcv = SimpleNamespace(imfrombytes=_decode)  # all that the module uses of it


def _decode(*args: Any, **kwargs: Any) -> np.ndarray:
    """mmcv's `imfrombytes`, which looks at the values if they are a map's."""
    values = mmcv.imfrombytes(*args, **kwargs)
    if (path := _path.get()) and (problem := map_problem(values)):
        raise UserError(f'the segmentation map {path} {problem}')
    return values


@TRANSFORMS.register_module()
class MapClassIds(BaseTransform):
    """Give other class ids to the values of a segmentation map, e.g. 1 to the 255 of a map of 0 and 255.

    It belongs behind `LoadAnnotations`, in the pipelines of training, validation and testing, and sees what that makes of
    a map: with `reduce_zero_label=True` 0 and 255 are 255 already. Changed key: `gt_seg_map`, np.ndarray of shape (H, W).

    Args:
        ids (dict[int, int]): The class id of each value that has another one; 255 to ignore it.
    """

    def __init__(self, ids: dict[int, int]):
        self.table = np.arange(256, dtype=np.uint8)
        for value, class_id in ids.items():
            self.table[int(value)] = class_id

    def transform(self, results: dict) -> dict:
        """Change the map."""
        results['gt_seg_map'] = self.table[results['gt_seg_map']]
        return results

    def __repr__(self) -> str:
        changed = np.flatnonzero(self.table != np.arange(256))
        return f'{type(self).__name__}(ids={ {int(value): int(self.table[value]) for value in changed} })'
