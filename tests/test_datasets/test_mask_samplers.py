from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from coma_mm.datasets.mask_samplers import BlockMaskSampler, ColorNoiseMaskSampler, UniformMaskSampler, expand_units
from coma_mm.errors import UserError

from ..helpers.suites import MaskSamplerSuite

COLORS = ('green', 'blue', 'purple', 'red')


def masks(sampler, grid=(14, 14), draws=200):
    """Random masks, (draws, rows, columns), 1 where masked."""
    rng = np.random.default_rng(0)
    out = np.ones((draws, grid[0] * grid[1]))
    for mask in out:
        mask[sampler(grid, rng)[0]] = 0
    return out.reshape(draws, *grid)


def neighbour_correlation(out):
    """Pearson's, of all pairs of neighbours that lie inside the grid."""
    pairs = [(out[:, 1:], out[:, :-1]), (out[:, :, 1:], out[:, :, :-1])]
    a, b = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    return np.corrcoef(a, b)[0, 1]


def power(out):
    """Mean power of low, middle and high frequencies, below 1/8 and above 1/4 per patch, that of white noise as 1."""
    spectrum = (np.abs(np.fft.fft2(out - out.mean((1, 2), keepdims=True)))**2).mean(0)
    rows, columns = out.shape[1:]
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns))
    white = spectrum.sum() / (spectrum.size - 1)
    bands = ((frequency > 0) & (frequency < 1 / 8), (frequency >= 1 / 8) & (frequency < 1 / 4), frequency >= 1 / 4)
    return [spectrum[band].mean() / white for band in bands]


class TestUniformMaskSampler(MaskSamplerSuite):

    def build(self, ratio=0.6):
        return UniformMaskSampler(ratio)

    def test_default_is_the_papers(self):
        assert UniformMaskSampler().ratio == 0.6

    def test_uniform_over_subsets(self):
        sampler, rng = self.build(0.5), np.random.default_rng(0)
        subsets = {c: 0 for c in combinations(range(6), 3)}
        for _ in range(4000):
            subsets[tuple(sampler((2, 3), rng)[0].tolist())] += 1
        assert chisquare(list(subsets.values())).pvalue > 0.01


class ColorNoiseSuite(MaskSamplerSuite):
    color = None

    def build(self, ratio=0.6):
        return ColorNoiseMaskSampler(ratio, self.color)


class TestGreenNoise(ColorNoiseSuite):
    color = 'green'

    def test_is_the_default(self):
        assert ColorNoiseMaskSampler().color == 'green' and ColorNoiseMaskSampler().ratio == 0.6

    def test_small_clumps(self):
        low, middle, high = power(masks(self.build()))
        assert middle > 2 > 1.5 * low and high < 0.85
        uniform, red = (neighbour_correlation(masks(s)) for s in (UniformMaskSampler(), ColorNoiseMaskSampler(color='red')))
        assert uniform + 0.2 < neighbour_correlation(masks(self.build())) < red - 0.2


class TestBlueNoise(ColorNoiseSuite):
    color = 'blue'

    def test_dispersed(self):
        low, middle, high = power(masks(self.build()))
        assert low < 0.6 and middle < 0.6 and high > 1.05
        assert neighbour_correlation(masks(self.build())) < neighbour_correlation(masks(UniformMaskSampler())) - 0.1


class TestPurpleNoise(ColorNoiseSuite):
    color = 'purple'

    def test_middle_frequencies_are_missing(self):
        low, middle, high = power(masks(self.build()))
        assert middle < 0.8 and low > 0.9 and high > 1
        assert neighbour_correlation(masks(self.build())) < neighbour_correlation(masks(UniformMaskSampler()))


class TestRedNoise(ColorNoiseSuite):
    color = 'red'

    def test_large_clumps(self):
        low, middle, high = power(masks(self.build()))
        assert low > 5 and middle < low / 3 and high < 0.5
        assert neighbour_correlation(masks(self.build())) > 0.5


def test_the_measures_of_uniform_masks():
    """What the colours are compared to: flat, and no correlation but that of a fixed number."""
    out = masks(UniformMaskSampler())
    assert power(out) == pytest.approx([1, 1, 1], abs=0.05)
    assert abs(neighbour_correlation(out)) < 0.02


def test_the_bands_add_up_to_white_noise():
    bands = {color: ColorNoiseMaskSampler(color=color).noise((9, 5), np.random.default_rng(3)) for color in COLORS}
    white = np.random.default_rng(3).standard_normal((9, 5))
    np.testing.assert_allclose(bands['red'] + bands['green'] + bands['blue'], white)
    np.testing.assert_allclose(bands['red'] + bands['blue'], bands['purple'])


def blur(noise, sigma):
    """By a normalised Gaussian, cut off beyond 4 sigma, around the grid in both directions."""
    reach = round(4 * sigma)
    weights = {d: np.exp(-d**2 / (2 * sigma**2)) for d in range(-reach, reach + 1)}
    for axis in (0, 1):
        noise = sum(w * np.roll(noise, d, axis) for d, w in weights.items()) / sum(weights.values())
    return noise


@pytest.mark.parametrize('grid', [(7, 7), (3, 10)])
@pytest.mark.parametrize('color', COLORS)
def test_filters_are_gaussian_and_wrap_around(color, grid):
    white = np.random.default_rng(0).standard_normal(grid)
    weak, strong = blur(white, 0.75), blur(white, 1.5)
    expected = dict(red=strong, green=weak - strong, blue=white - weak, purple=white - (weak - strong))[color]
    sampler = ColorNoiseMaskSampler(0.5, color)
    np.testing.assert_allclose(sampler.noise(grid, np.random.default_rng(0)), expected, atol=1e-12)
    keep, rest = sampler(grid, np.random.default_rng(0))
    assert expected.flat[rest].min() > expected.flat[keep].max()


@pytest.mark.parametrize('color', COLORS)
@pytest.mark.parametrize('grid', [(2, 3), (14, 3)])
def test_every_patch_is_as_likely_on_small_grids(color, grid):
    counts = masks(ColorNoiseMaskSampler(0.5, color), grid, 3000).sum(0).ravel()
    assert chisquare(counts).pvalue > 0.01


def test_unknown_color():
    with pytest.raises(UserError, match="color='pink': expected one of green, blue, purple, red"):
        ColorNoiseMaskSampler(color='pink')


class TestBlockMaskSampler(MaskSamplerSuite):

    def build(self, ratio=0.6):
        return BlockMaskSampler(ratio)

    def test_uniform_over_patches(self):
        """They are not: rectangles lie inside the grid. But all four sides are alike, and every patch is masked."""
        share = masks(self.build(0.4), (7, 7), 3000).mean(0)
        assert share[3, 3] > 1.5 * share[0, 0] > 0
        for other in (share[::-1], share[:, ::-1], share.T):
            assert np.abs(share - other).max() < 0.05  # 4 standard deviations of a difference

    @pytest.mark.parametrize('grid', [(7, 7), (14, 14)])
    def test_clumped(self, grid):
        assert neighbour_correlation(masks(self.build(), grid)) > 0.5

    def test_made_of_rectangles(self):
        """A masked patch of 14×14 has masked neighbours on two sides at right angles: rectangles are 2 wide at least,
        but for the last few patches."""
        out = np.pad(masks(self.build()), ((0, 0), (1, 1), (1, 1))).astype(bool)
        above, below, left, right = out[:, :-2, 1:-1], out[:, 2:, 1:-1], out[:, 1:-1, :-2], out[:, 1:-1, 2:]
        corner = (above | below) & (left | right)
        assert corner[out[:, 1:-1, 1:-1]].mean() > 0.95


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    ratio=st.floats(0.01, 0.99),
    name=st.sampled_from(('uniform', 'block', *COLORS)),
    seed=st.integers(0, 2**32 - 1))
def test_any_grid_and_ratio(rows, columns, ratio, name, seed):
    """The number is exact on any grid, or refused; and drawing ends."""
    sampler = (UniformMaskSampler(ratio) if name == 'uniform' else BlockMaskSampler(ratio) if name == 'block' else
               ColorNoiseMaskSampler(ratio, name))
    n = rows * columns
    expected = round(n * (1 - ratio))
    if not 0 < expected < n:
        with pytest.raises(UserError, match='at least one must be kept'):
            sampler((rows, columns), np.random.default_rng(seed))
        return
    keep, rest = sampler((rows, columns), np.random.default_rng(seed))
    assert len(keep) == expected
    assert np.array_equal(np.sort(np.concatenate([keep, rest])), np.arange(n))


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), scale=st.integers(1, 4), data=st.data())
def test_expand_units(rows, columns, scale, data):
    ids = data.draw(st.sets(st.integers(0, rows * columns - 1)))
    units = np.zeros((rows, columns), bool)
    units.flat[list(ids)] = True
    expected = np.flatnonzero(np.kron(units, np.ones((scale, scale), bool)))
    out = expand_units(np.array(sorted(ids), np.int64), (rows, columns), scale)
    assert out.dtype == np.int64
    assert np.array_equal(out, expected)


@pytest.mark.parametrize('scale', [1, 2])
def test_expand_units_is_sorted_for_any_order(scale):
    out = expand_units(np.array([3, 0]), (2, 2), scale)
    assert (np.diff(out) > 0).all()
