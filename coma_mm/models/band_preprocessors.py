"""The data preprocessors of mmsegmentation and mmdetection for images of any number of bands."""
from collections.abc import Sequence
from typing import Any

import mmdet.registry
import mmseg.registry
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmseg.models import SegDataPreProcessor

from coma_mm.errors import UserError


class _AnyBands:
    """Sets the moments itself: mmengine's class, below the libraries', takes those of three channels or one.

    What it does to images knows no number of channels.

    Args:
        mean (Sequence[float], optional): Per band, in the values of the files.
        std (Sequence[float], optional): Likewise.
        **kwargs: Further arguments of the library's class.
    """

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if (mean is None) != (std is None) or mean is not None and len(mean) != len(std):
            raise UserError(f'{type(self).__name__}: mean={mean} and std={std}: expected one number for each band in '
                            'both')
        if mean is not None:
            self._enable_normalize = True
            self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
            self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)


@mmseg.registry.MODELS.register_module()
class BandsSegPreprocessor(_AnyBands, SegDataPreProcessor):
    """mmsegmentation's `SegDataPreProcessor` for any number of bands."""


@mmdet.registry.MODELS.register_module()
class BandsDetPreprocessor(_AnyBands, DetDataPreprocessor):
    """mmdetection's `DetDataPreprocessor` for any number of bands."""
