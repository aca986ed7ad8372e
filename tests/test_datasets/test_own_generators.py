"""Transforms with random generators of their own: their samples, too, are functions of (seed, epoch, index)."""
import functools
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, Compose, RepeatDataset
from mmpretrain.registry import TRANSFORMS

from coma_mm.datasets import SampleIndex, SeededDataset
from coma_mm.datasets.own_generators import find_generators


class Draws:
    """A transform with any generator as a member, from which `draw` draws a number."""

    def __init__(self, generator, draw=None):
        self.generator, self.draw = generator, draw

    def __call__(self, results):
        draw = self.draw or (lambda generator: generator.random())
        return dict(results, drawn=(*results.get('drawn', ()), float(draw(self.generator))))


class Slotted:
    """It keeps its generator in a slot."""
    __slots__ = 'generator',

    def __init__(self):
        self.generator = random.Random()

    def random(self):
        return self.generator.random()


class Composed:
    """As albumentations' Compose, with a way of its own: the generators are not those that it was made with."""

    def __init__(self):
        self.set_random_seed(None)

    def set_random_seed(self, seed):
        self.generators = [np.random.default_rng(seed) for _ in range(2)]

    def random(self):
        return sum(one.random() for one in self.generators)


class Augmenter(Composed):
    """As imgaug's, whose method has another name."""
    set_random_seed = None

    def __init__(self):
        self.seed_(None)

    seed_ = Composed.set_random_seed


def draw_from(generator):
    return generator.random()


def closed():
    rng = np.random.default_rng()
    return lambda results: dict(results, drawn=rng.random())


def by_default():
    return Draws(None, eval('lambda _, held=random.Random(): held.random()'))


GLOBAL = random.Random()


def draw_globally(_):
    return GLOBAL.random()


class OfAClass:
    generator = np.random.default_rng()

    def random(self):
        return self.generator.random()


def draw_torch(generator):
    return torch.rand((), generator=generator)


TRANSFORM = dict(
    generator=lambda: Draws(np.random.default_rng()), philox=lambda: Draws(np.random.Generator(np.random.Philox())),
    state=lambda: Draws(np.random.RandomState(), np.random.RandomState.rand), python=lambda: Draws(random.Random()),
    torch=lambda: Draws(torch.Generator(), draw_torch), slot=lambda: Draws(Slotted()),
    nested=lambda: Draws(dict(a=[(1, np.random.default_rng())]), lambda held: held['a'][0][1].random()),
    partial=lambda: Draws(functools.partial(draw_from, np.random.default_rng()), lambda draw: draw()),
    method=lambda: Draws(np.random.default_rng().random, lambda draw: draw()),
    python_method=lambda: Draws(random.Random().random, lambda draw: draw()), closure=closed,
    default=by_default, everywhere=lambda: Draws(None, draw_globally),
    of_a_class=lambda: Draws(OfAClass()),
    composed=lambda: Draws(Composed()), augmenter=lambda: Draws(Augmenter()))


class Numbers(BaseDataset):
    """Samples without anything."""

    def load_data_list(self):
        return [{}] * 4


def data(*transforms, wrap=lambda dataset: dataset):
    return SeededDataset(wrap(Numbers(pipeline=list(transforms), serialize_data=False)))


def drawn(dataset, *index):
    return dataset[SampleIndex(*index)]['drawn']


@pytest.mark.parametrize('name', TRANSFORM)
def test_a_sample_is_a_function_of_seed_epoch_and_index(name):
    one, other = (data(TRANSFORM[name](), wrap=wrap) for wrap in (lambda x: x, lambda x: RepeatDataset(x, times=2)))
    places = [(index, seed, epoch) for index in (0, 3) for seed in (0, 1) for epoch in (0, 2)]
    found = [drawn(one, *place) for place in places]
    assert [drawn(other, *place) for place in reversed(places)] == found[::-1]
    assert len(set(found)) == len(found)


def test_two_generators_draw_different_numbers():
    first, second = drawn(data(Draws(np.random.default_rng(1)), Draws(np.random.default_rng(1))), 1)
    assert first != second


def test_they_are_found_in_a_copy_for_another_process_and_in_another_pipeline():
    dataset = data(Draws(np.random.default_rng()), Draws(random.Random()))
    expected = drawn(dataset, 2)
    assert drawn(pickle.loads(pickle.dumps(dataset)), 2) == expected
    dataset.pipeline = Compose([Draws(np.random.default_rng()), Draws(random.Random())])
    assert drawn(dataset, 2) == expected


def test_without_any_nothing_is_done_and_the_known_generators_are_left_alone(monkeypatch):
    monkeypatch.setattr('coma_mm.datasets.seeding.seed_own', None)
    dataset = data(Draws(random, lambda _: random.random()), Draws(random.random, lambda draw: draw()),
                   Draws(np.random.mtrand._rand), Draws(torch.default_generator, draw_torch))
    assert drawn(dataset, 1) == drawn(dataset, 1) != drawn(dataset, 2)


def test_what_a_data_set_lists_is_not_looked_through():
    dataset = Numbers(pipeline=[], serialize_data=False)
    dataset.data_list = [np.random.default_rng()]
    dataset.rng = np.random.default_rng()
    assert find_generators(dataset) == [dataset.rng]


def test_what_cannot_be_seeded_is_said_once(monkeypatch):
    lines = []
    monkeypatch.setattr('coma_mm.datasets.own_generators.print_log', lambda line, **_: lines.append(line))
    broken = Composed()
    monkeypatch.setattr(Composed, 'set_random_seed', lambda self, seed: {}[seed])
    dataset = data(Draws(random.SystemRandom()), Draws(broken))
    drawn(dataset, 0)
    line, = lines
    assert line.startswith('Samples will not be repeatable: the random numbers of Draws.generator') and '\n' not in line


def test_albumentations():
    pytest.importorskip('albumentations')
    step = dict(type='Albumentations', transforms=[
        dict(type='RandomBrightnessContrast', p=1.), dict(type='OneOf', transforms=[dict(type='GaussNoise', p=1.)], p=.5)])
    image = np.full((8, 8, 3), 99, np.uint8)
    sums = []
    for order in (range(4), reversed(range(4))):
        dataset = data(lambda results: dict(img=image.copy()), TRANSFORMS.build(step))
        sums.append({index: dataset[SampleIndex(index)]['img'].tobytes() for index in order})
    assert sums[0] == sums[1] and len({*sums[0].values()}) == 4


def test_imgaug():
    augmenters = pytest.importorskip('imgaug.augmenters')
    image = np.full((8, 8, 3), 99, np.uint8)
    found = []
    for order in (range(4), reversed(range(4))):
        sequence = augmenters.Sequential([augmenters.Add((-40, 40)), augmenters.Multiply((.5, 1.5))])
        dataset = data(lambda _, augment=sequence: dict(drawn=augment(image=image).tobytes()))
        found.append({index: drawn(dataset, index) for index in order})
    assert found[0] == found[1] and len({*found[0].values()}) == 4
