"""Frozen features: the order of the images, what kind of features, and the places of labels."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import nn

from coma_mm.errors import UserError
from coma_mm.evaluation.features import Features, Probe, accuracies, extract, ranks


class Backbone(nn.Module):
    """Gives its input, scaled."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.))

    def forward(self, x):
        return x, self.scale * x


def classifier(**kwargs):
    return ImageClassifier(Backbone(), data_preprocessor=dict(mean=[0.] * 3, std=[1.] * 3), **kwargs).eval()


class Loader(list):
    """Batches of two images, with the attribute that counts them."""

    def __init__(self, images):
        samples = [DataSample(metainfo=dict(img_path=f'{i}.jpg')).set_gt_label(i % 3) for i in range(len(images))]
        self.dataset = images
        super().__init__(dict(inputs=images[i:i + 2], data_samples=samples[i:i + 2]) for i in range(0, len(images), 2))


def test_maps_are_averaged_in_the_loaders_order():
    images = torch.randn(5, 3, 4, 6)
    found = extract(classifier(), Loader(images), 'test')
    torch.testing.assert_close(found.values, 2 * images.mean((2, 3)))
    assert found.labels.tolist() == [0, 1, 2, 0, 1]
    assert not found.values.requires_grad and not found.values.is_inference()
    pooled = extract(classifier(neck=dict(type='mmpretrain.GlobalAveragePooling')), Loader(images), 'test')
    torch.testing.assert_close(pooled.values, found.values)
    half = extract(classifier(), Loader(images), 'test', amp=True).values
    assert half.dtype == torch.float32


def test_what_is_no_finite_vector_is_refused():
    images = torch.randn(5, 3, 4, 6)
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match='features of 3.jpg are NaN or infinite'):
        extract(classifier(), Loader(images), 'test')
    model = classifier()
    model.backbone.forward = lambda x: (x.flatten(2), )
    with pytest.raises(UserError, match=r'of shape \(2, 3, 24\); expected one vector per image'):
        extract(model, Loader(images), 'test')


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 6))
def test_places_are_those_of_a_stable_sort(seed, rows, classes):
    generator = np.random.default_rng(seed)
    scores, labels = generator.integers(0, 3, (rows, classes)), generator.integers(0, classes, rows)
    expected = [sorted(range(classes), key=lambda c, row=row: (-row[c], c)).index(label)
                for row, label in zip(scores, labels, strict=True)]
    assert ranks(torch.tensor(scores), torch.tensor(labels)).tolist() == expected


def test_a_score_of_nan_comes_last():
    nan = float('nan')
    assert ranks(torch.tensor([[nan, nan], [nan, 1], [1, nan]]), torch.tensor([0, 0, 0])).tolist() == [7, 7, 0]


def test_accuracies():
    assert accuracies(torch.tensor([0, 1, 4, 5]), torch.zeros(4, dtype=torch.int64)) == dict(top1=25, top5=75, per_class=25)
    # Always the largest class: right for eight of ten, and for one class of two.
    labels = torch.tensor([3] * 8 + [1] * 2)
    assert accuracies((labels == 1).long(), labels) == dict(top1=80, top5=100, per_class=50)


def test_scores_that_are_no_numbers_classify_nothing():
    scores, labels = torch.full((3, 4), torch.nan), torch.tensor([0, 1, 2])
    assert accuracies(ranks(scores, labels), labels) == dict(top1=0, top5=0, per_class=0)


def test_the_largest_class_is_named_beside_guessing():
    labels = [torch.tensor([1] * 5 + [0, 2, 3, 4]), torch.tensor([1] * 16 + [0] * 5 + [2] * 4)]
    found = Probe(*(Features(torch.zeros(len(one), 2), one) for one in labels), facts={})
    assert found.summary()['largest_class'] == 64 and found.summary()['chance']['top1'] == 20
    assert str(found).endswith('guessing: top-1 20.00 %, top-5 100.00 %; always the largest class: top-1 64.00 %')
