"""Images on their way to a model."""
from types import SimpleNamespace

import numpy as np
import torch
from mmpretrain.models import ClsDataPreprocessor

from coma_mm.models import MaskedImagePreprocessor
from coma_mm.visualization import prepare


def test_a_grey_image_is_prepared_as_one_of_three_equal_channels():
    grey = np.random.default_rng(0).integers(0, 256, (32, 64), np.uint8)
    for preprocessor in (MaskedImagePreprocessor(), ClsDataPreprocessor([127.] * 3, [50.] * 3, to_rgb=True)):
        one, other = (prepare(SimpleNamespace(data_preprocessor=preprocessor), image)
                      for image in (grey, np.stack([grey] * 3, -1)))
        assert one.shape == (1, 3, 32, 64) and torch.equal(one, other)
