"""k-NN against a literal reference, with many equal similarities and votes."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coma_mm.errors import UserError
from coma_mm.evaluation.features import Features
from coma_mm.evaluation.knn import knn_accuracy, nearest, usual_ks


def features(generator, n, num_classes):
    """Corners of a cube, of different lengths: their cosines are multiples of a half, exactly."""
    corners = generator.choice([-1., 1.], (n, 4)) * generator.choice([0.5, 1., 4.], (n, 1))
    return Features(torch.tensor(corners, dtype=torch.float32), torch.tensor(generator.integers(0, num_classes, n)))


def reference(train, test, k, temperature):
    """Accuracies by sorting everything."""
    known, asked = (x.values.double().numpy() / np.linalg.norm(x.values, axis=1, keepdims=True) for x in (train, test))
    hits, classes = dict(top1=0, top5=0), {}
    for query, label in zip(asked, test.labels.tolist(), strict=True):
        similarity = [float(np.dot(query, one)) for one in known]
        votes = {}
        for i in sorted(range(len(known)), key=lambda i: (-similarity[i], i))[:k]:
            vote = np.exp(similarity[i] / temperature)
            votes[int(train.labels[i])] = votes.get(int(train.labels[i]), 0) + vote
        order = sorted(votes, key=lambda c: (-round(votes[c], 6), c))
        hits['top1'] += label in order[:1]
        hits['top5'] += label in order[:5]
        classes.setdefault(label, []).append(label in order[:1])
    found = {name: 100 * hit / len(asked) for name, hit in hits.items()}
    return dict(found, per_class=100 * np.mean([np.mean(one) for one in classes.values()]))


@given(st.integers(0, 10**6), st.integers(12, 40), st.integers(1, 12), st.integers(2, 9), st.integers(1, 9))
def test_equals_sorting_everything(seed, n, k, num_classes, chunk):
    generator = np.random.default_rng(seed)
    train, test = features(generator, n, num_classes), features(generator, 8, num_classes)
    found = knn_accuracy(train, test, num_classes, (k, 12), temperature=0.6, chunk=chunk)
    for number, values in found.items():
        assert values == pytest.approx(reference(train, test, number, 0.6)), number


def test_every_image_is_its_own_nearest():
    train = Features(torch.randn(50, 8), torch.arange(50) % 7)
    assert knn_accuracy(train, train, 7, (1, ))[1] == dict(top1=100, top5=100, per_class=100)


def test_temperature_weighs_the_near_against_the_many():
    train = Features(torch.tensor([[1., 0.], [.8, .6], [.8, .6]]), torch.tensor([0, 1, 1]))
    test = Features(torch.tensor([[2., 0.]]), torch.tensor([0]))
    for temperature, top1 in ((0.001, 100), (0.07, 100), (10., 0)):
        assert knn_accuracy(train, test, 2, (3, ), temperature)[3]['top1'] == top1


def test_of_equally_similar_ones_the_first_are_taken():
    similarity = torch.tensor([[1., 3., 2., 3., 2., 2.], [0., 0., 0., 0., 0., 0.], [6., 5., 4., 3., 2., 1.]])
    values, indices = nearest(similarity, 4)
    assert indices.tolist() == [[1, 3, 2, 4], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert values.tolist() == [[3, 3, 2, 2], [0, 0, 0, 0], [6, 5, 4, 3]]


def test_of_the_usual_numbers_those_are_taken_that_there_are_images_for():
    assert [usual_ks(n) for n in (5, 20, 150, 200)] == [[5], [10, 20], [10, 20, 100], [10, 20, 100, 200]]


def test_impossible_settings_give_one_line():
    train = Features(torch.randn(5, 2), torch.zeros(5, dtype=torch.int64))
    for ks, temperature, expected in (((1, 6), 0.07, 'k=6 is more than the 5 train images'), ((0, ), 0.07, 'k=0'),
                                      ((1, ), 0., 'temperature=0.0')):
        with pytest.raises(UserError, match=expected):
            knn_accuracy(train, train, 1, ks, temperature)
