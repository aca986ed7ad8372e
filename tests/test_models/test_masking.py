from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from coma_mm.models.masking import UniformMaskSampler, expand_units

from .suites import MaskSamplerSuite


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
