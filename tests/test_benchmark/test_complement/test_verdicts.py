import numpy as np
import pytest
from scipy import stats

from coma_mm.benchmark.complement.verdicts import Difference, difference, holm, pairs_needed, upper_sd, verdict


def test_the_interval_of_paired_differences_is_that_of_students_table():
    found = difference([4, 6, 8], [3, 4, 5])  # differences 1, 2, 3
    assert (found.pairs, found.mean, found.sd) == (3, 2, 1)
    assert found.high - found.mean == pytest.approx(4.303 / 3**0.5, abs=1e-3)
    assert found.mean - found.low90 == pytest.approx(2.920 / 3**0.5, abs=1e-3)


def test_the_p_value_is_scipys():
    first, second = np.random.default_rng(0).normal(size=(2, 7))
    assert difference(first, second).p == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_what_has_no_partner_is_refused():
    for pair in (([1.], [2.]), ([1., 2., 3.], [1., 2.])):
        with pytest.raises(ValueError):
            difference(*pair)


@pytest.mark.parametrize('low, high, low90, high90, word', [
    (.1, 2, .2, 1.9, 'better'), (-2, -.1, -1.9, -.2, 'worse'), (-.4, .3, -.3, .2, 'equivalent'),
    (.1, .4, .15, .35, 'better, and equivalent'), (-.4, -.1, -.35, -.15, 'worse, and equivalent'),
    (-.1, .9, 0, .8, 'undecided'), (-.6, .4, -.5, .3, 'undecided')])
def test_the_word_follows_from_the_intervals(low, high, low90, high90, word):
    assert verdict(Difference(5, (low + high) / 2, 1, low, high, low90, high90, .5)) == word


def test_the_number_of_pairs_grows_with_the_square_of_sd_and_is_that_of_the_tables():
    assert pairs_needed(5., .5) == pytest.approx((1.645 + 1.282)**2 * 100, rel=.01)  # of the normal distribution, for many
    # By hand for n = 10: t(.95; 9) + t(.9; 9) = 1.833 + 1.383, squared 10.34; n = 10 is enough up to sd = .5 √(10 / 10.34).
    assert pairs_needed(.491) == 10 and pairs_needed(.493) == 11
    assert pairs_needed(.0) == 2


def test_the_pairs_give_the_power_that_they_are_chosen_for():
    sd, rng = .6, np.random.default_rng(0)
    n = pairs_needed(sd)
    values = rng.normal(size=(4000, n)) * sd
    half, half90 = (stats.t.ppf(level, n - 1) * values.std(1, ddof=1) / n**.5 for level in (.975, .95))
    assert np.mean(values.mean(1) + .5 > half) > .79
    assert np.mean(abs(values.mean(1)) + half90 < .5) > .78  # the formula is of one side, and a little short for both


def test_the_upper_limit_of_a_spread_covers_it_as_often_as_it_says():
    values = np.random.default_rng(0).normal(size=(20000, 4))
    assert np.mean([upper_sd(sd, 4) > 1 for sd in values[:2000].std(1, ddof=1)]) == pytest.approx(.8, abs=.03)


def test_holm_is_that_of_the_worked_example():
    assert holm([.01, .04, .03, .005]) == pytest.approx([.03, .06, .06, .02])
    assert holm([.9, .8]) == [1, 1]
