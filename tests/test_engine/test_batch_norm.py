"""Batch normalisation of one value: warned of before training where that is sure, else explained when it comes."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmseg.models.decode_heads.psp_head import PPM
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from coma_mm.engine import batch_norm
from coma_mm.engine.explain import explain


@pytest.fixture
def warned(monkeypatch):
    """Gives what is warned of before a training."""

    def warned(model, samples, size, drop_last=False, sampler=SequentialSampler):
        lines = []
        monkeypatch.setattr(batch_norm, 'print_log', lambda line, **_: lines.append(line))
        data = range(samples)
        loader = DataLoader(data, size, sampler=sampler(data), drop_last=drop_last)
        batch_norm.warn_of_a_last_single_image(SimpleNamespace(model=model, train_dataloader=loader))
        return lines

    return warned


def pyramid(norm='BN', scales=(1, 2)):
    """UperNet's."""
    norm = dict(type=norm, num_groups=2) if norm == 'GN' else dict(type=norm)
    return PPM(scales, 4, 8, None, norm, dict(type='ReLU'), False)


def test_a_last_single_image_is_warned_of_where_batch_norm_sees_one_pixel_of_it(warned):
    line, = warned(pyramid(), 5, 2)
    assert '5 samples in batches of 2 leave one image for the last batch' in line and 'fails in 0,' in line
    assert 'train_dataloader.drop_last=True' in line


def test_there_is_no_false_alarm(warned):
    frozen = pyramid()
    frozen.train = lambda mode=True: nn.Module.train(frozen, False)
    for args in ((pyramid(), 6, 2), (pyramid(), 5, 2, True), (pyramid(), 5, 1), (pyramid(), 5, 2, False, InfiniteSampler),
                 (pyramid('GN'), 5, 2), (pyramid(scales=(2, )), 5, 2), (frozen, 5, 2), (nn.BatchNorm2d(4), 5, 2)):
        assert not warned(*args), args


def test_the_error_is_explained_when_it_comes():
    model = pyramid().train()
    model(torch.rand(2, 4, 8, 8))
    with pytest.raises(ValueError) as caught:
        model(torch.rand(1, 4, 8, 8))
    line = explain(caught.value)
    assert 'a batch of a single image gave it an input of shape (1, 8, 1, 1)' in line
    assert 'train_dataloader.batch_size=2' in line and 'drop_last=True' in line and "type='GN'" in line
    assert explain(ValueError('of another kind')) is None
