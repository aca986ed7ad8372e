import csv
from argparse import ArgumentParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coma_mm.benchmark.paper import coverage
from coma_mm.commands.benchmark import coverage as command
from coma_mm.datasets.masking import PatchMask
from coma_mm.datasets.seeding import SampleIndex, SeededDataset
from coma_mm.errors import UserError

from ...helpers.small_models import small_batch, small_coma

MASKED, ALL = (False, True), (True, True)
TEACHING = {
    'none': dict(zip(coverage.EFFECTS, (MASKED, MASKED, MASKED), strict=True)),
    'frozen': dict(zip(coverage.EFFECTS, (ALL, MASKED, MASKED), strict=True)),
    'decoder': dict(zip(coverage.EFFECTS, (ALL, ALL, MASKED), strict=True)),
    'full': dict(zip(coverage.EFFECTS, (ALL, ALL, ALL), strict=True)),
}


@pytest.mark.parametrize('complement', coverage.MODES)
def test_what_the_loss_makes_of_each_patch(complement):
    """Against the gradient of the loss by each branch's prediction, in another model, with several images."""
    assert coverage.patches_that_teach(complement) == TEACHING[complement]

    model, batch = small_coma(complement), small_batch(grid=(2, 3))
    predictions, patch_errors = [], model.head.patch_errors

    def keep_gradients(pred, images, ids):
        if pred.requires_grad:
            pred.retain_grad()
        predictions.append((pred, ids))
        return patch_errors(pred, images, ids)

    def taught(pred, ids):
        return torch.zeros(3, 6, dtype=torch.bool).scatter_(1, ids, pred.grad.abs().sum(2) > 0)

    model.head.patch_errors = keep_gradients
    model(**batch, mode='loss')['loss'].backward()
    adaptive, *evaluation = predictions
    masked = torch.zeros(3, 6, dtype=torch.bool).scatter_(1, batch['ids_rest'], True)
    assert torch.equal(taught(*adaptive), masked)
    kept = coverage.select(masked.numpy(), TEACHING[complement]['teaches the decoder']) & ~masked.numpy()
    if complement == 'none':
        assert not evaluation
    elif complement == 'frozen':
        assert not evaluation[0][0].requires_grad
        assert not kept.any()
    else:
        np.testing.assert_array_equal(taught(*evaluation[0]), kept)
        np.testing.assert_array_equal(kept, ~masked)


def test_masks_are_those_of_training():
    class OneImage:
        """A data set of images without content, which draws what comes before the mask from another generator."""

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return PatchMask(dict(type='BlockMaskSampler', ratio=.5)).transform(dict(img=np.empty((96, 96, 3))))

    dataset = SeededDataset(OneImage())
    masks = coverage.draw_masks(dict(type='BlockMaskSampler', ratio=.5), 6, size=96, seed=5)
    for epoch, mask in enumerate(masks):
        np.testing.assert_array_equal(np.flatnonzero(mask), dataset[SampleIndex(0, 5, epoch)]['ids_rest'])


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_iterations_until(times, seed):
    chosen = np.random.default_rng(seed).random((30, 2, 2)) < .6
    lengths, seen = [], []
    for now in chosen:
        seen.append(now)
        if np.sum(seen, 0).min() >= times:
            lengths.append(len(seen))
            seen = []
    expected = np.mean(lengths) if lengths else None
    assert coverage.iterations_until(chosen, times) == pytest.approx(expected)


def test_variation():
    chosen = np.zeros((10, 1, 2), bool)
    chosen[:2, 0, 0] = chosen[:6, 0, 1] = True  # 2 and 6 times: mean 4, standard deviation 2
    assert coverage.variation(chosen) == pytest.approx(.5)
    rng = np.random.default_rng(0)
    drawn = [rng.permuted(np.tile(np.arange(20) < 12, (100, 1)), axis=1)[:, None] for _ in range(200)]
    squares = [coverage.variation(x)**2 for x in drawn]
    assert np.sqrt(np.mean(squares)) == pytest.approx(coverage.variation_by_chance(drawn[0]), rel=.05)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp('coverage')
    parser = ArgumentParser()
    command.add_arguments(parser)
    coverage.run(parser.parse_args(['--iterations', '30', '--size', '96', '--out', str(out)]))
    return out


def test_the_files(written):
    assert sorted(path.name for path in written.iterdir()) == ['coverage.csv', 'coverage.md', 'coverage.png']
    with Image.open(written / 'coverage.png') as picture:
        assert min(picture.size) > 500
    rows = list(csv.DictReader((written / 'coverage.csv').open()))
    assert len(rows) == len(coverage.SAMPLERS) * len(coverage.MODES) * len(coverage.EFFECTS)
    by = {(row['sampler'], row['complement'], row['effect']): row for row in rows}
    assert by['blocks', 'frozen', 'reconstructed']['variation'] == '0'
    assert by['blocks', 'frozen', 'reconstructed']['iterations_until_5'] == '5'
    assert by['blocks', 'frozen', 'reconstructed']['iterations_until_100'] == ''  # of 30
    assert by['blocks', 'frozen', 'teaches the encoder'] != by['blocks', 'full', 'teaches the encoder']
    text = (written / 'coverage.md').read_text()
    assert "| 'frozen' | all | masked | masked |" in text
    assert all(f'| masked, {name} |' in text for name in coverage.SAMPLERS)


def test_one_scale():
    masks = {name: coverage.draw_masks(sampler, 5, 64) for name, sampler in coverage.SAMPLERS.items()}
    fig = coverage.coverage_figure(masks, TEACHING)
    maps = [ax.images[0] for ax in fig.axes if ax.images]
    assert len(maps) == 6 * len(masks)
    assert {(x.norm.vmin, x.norm.vmax, x.cmap.name) for x in maps} == {(0, 100, 'viridis')}


def test_a_size_that_is_no_multiple_of_the_patch(tmp_path):
    parser = ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(UserError, match='multiples of 32'):
        coverage.run(parser.parse_args(['--size', '100', '--out', str(tmp_path / 'new')]))
    assert not (tmp_path / 'new').exists()
