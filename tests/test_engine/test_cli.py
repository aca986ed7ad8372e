"""Errors of the libraries that are the user's to mend are put in one line."""
import pytest
import torch
from mmseg.models import SegDataPreProcessor

from coma_mm.engine.cli import explain


def test_images_of_several_sizes_in_one_batch_of_validation():
    batch = dict(inputs=[torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)])
    with pytest.raises(AssertionError) as caught:
        SegDataPreProcessor(mean=[0.] * 3, std=[1.] * 3)(batch, training=False)
    assert 'batch_size=1' in explain(caught.value)


def test_other_assertions_keep_their_traceback():
    assert explain(AssertionError('something else')) is None
