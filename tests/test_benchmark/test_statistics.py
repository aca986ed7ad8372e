import numpy as np
from scipy import stats

from coma_mm.benchmark.statistics import half_width, interval


def test_the_interval_is_that_of_student():
    assert interval([1, 2, 3]) == '2.0 ± 2.5'  # 4.303 · 1 / √3, from a table
    assert interval([50.]) == '50.0' and interval([4., 4.]) == '4.0 ± 0.0'
    values = np.random.default_rng(0).normal(30, 9, 5)
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert interval(values.tolist()) == f'{values.mean():.1f} ± {(high - low) / 2:.1f}'


def test_fewer_than_two_values_have_no_spread():
    assert half_width([]) is None and half_width([1.]) is None
