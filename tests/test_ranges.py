"""What values a setting may have: NaN is in no range, and the words say what the check does."""
import argparse
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coma_mm.errors import UserError
from coma_mm.ranges import SEED, SHARE, SWITCH, Values, above, each, number, steps, whole

NUMBERS = st.one_of(st.integers(-10, 10), st.floats())
ANY = st.one_of(NUMBERS, st.booleans(), st.text(max_size=4), st.none(), st.lists(st.integers(), max_size=2))
RANGES = st.builds(Values, st.sampled_from([int, float]), st.integers(-3, 0), st.integers(1, 3), st.booleans(),
                   st.booleans(), st.booleans(), st.just(()), st.just(False), st.just(0))


@given(RANGES, ANY)
def test_what_is_in_a_range_is_a_finite_number_between_its_ends(values, value):
    if value in values:
        assert type(value) in (int, float) and math.isfinite(value) and values.low <= value <= values.high
        assert not (values.above and value == values.low or values.below and value == values.high)
        assert type(value) is int or values.kind is float
        assert value == int(value) or not (values.steps or values.kind is int)


@given(RANGES, st.integers(-4, 4))
def test_every_whole_number_inside_is_in_the_range(values, value):
    inside = values.low + values.above <= value <= values.high - values.below
    assert (value in values) == inside


@given(RANGES, ANY)
def test_a_check_gives_the_value_or_names_it_in_one_line(values, value):
    try:
        assert values.check('loader.workers', value) is value and value in values
    except UserError as error:
        assert value not in values
        assert str(error).startswith(f'loader.workers={value!r}: expected {values}')


@given(RANGES, NUMBERS)
def test_an_option_takes_the_text_of_what_is_in_the_range_alone(values, value):
    try:
        assert values(repr(value)) == value and value in values
    except argparse.ArgumentTypeError as error:
        assert value not in values or values.kind is int
        assert str(error) == f'{repr(value)!r}: expected {values}'


@given(RANGES, st.lists(ANY, max_size=3))
def test_a_list_is_as_good_as_the_worst_of_its_items(values, items):
    wrong = each(values).wrong([items], 'betas')
    bad = [index for index, item in enumerate(items) if item is not None and each(values).wrong(item)]
    assert (wrong is None) == (not bad)
    assert not bad or wrong[0].startswith(f'betas.0.{bad[0]}')
    assert items in values or values.wrong(items, 'betas') == ('betas', items)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, True, '1', None, [1]])
@pytest.mark.parametrize('values', [whole(), number(), steps(0), SHARE, SEED, above(0)])
def test_no_range_holds_what_is_no_finite_number(values, value):
    assert value not in values


@pytest.mark.parametrize(('values', 'words'), [
    (whole(1), 'a whole number, 1 or more'), (whole(1, also=((-1, 'never'), )), 'a whole number, 1 or more, or -1 (never)'),
    (SEED, 'a whole number, 0 or more, up to 4294967295'), (number(), 'a number'), (above(0), 'a number above 0'),
    (above(0, 1), 'a number above 0, up to 1'), (above(0, 1, below=True), 'a number above 0 and below 1'),
    (number(0, 1, below=True), 'a number from 0 to below 1'), (steps(1), 'a whole number, 1 or more'),
    (number(high=2), 'a number, 2 or less'), (SWITCH, 'a bool (True or False)'), (Values(dict), 'a dict')])
def test_a_range_in_words(values, words):
    assert str(values) == words


def test_numbers_of_steps_may_be_written_with_an_exponent():
    assert 160e3 in steps(1) and 1.5 not in steps(1) and 160e3 not in whole(1)


def test_a_switch_is_no_text_but_may_be_0_or_1():
    assert all(value in SWITCH for value in (True, False, 0, 1))
    assert all(value not in SWITCH for value in ('False', 'yes', '1', 2, None))
    with pytest.raises(UserError, match=r"shuffle='False': expected a bool \(True or False\) \(it is a text here"):
        SWITCH.check('shuffle', 'False')


@pytest.mark.parametrize('value', [0.9, [0.9], [0.9, 0.9, 0.9], [0.9, 2], None])
def test_a_list_of_a_length(value):
    pair = each(number(0, 1), 2)
    assert pair.wrong([0.9, 0.95]) is None and pair.wrong((0, 1)) is None
    with pytest.raises(UserError, match='expected a list of 2, each a number from 0 to 1'):
        pair.check('betas', value)
