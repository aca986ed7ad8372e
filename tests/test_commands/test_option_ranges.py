"""Numbers on the command line outside their range are named with the range, whatever the command."""
import argparse
from importlib import import_module

import pytest

from coma_mm.commands import COMMANDS, _Parser, benchmark, visualize
from coma_mm.errors import UserError

NAMES = [*(name for name in COMMANDS if name not in ('benchmark', 'visualize')),
         *(f'benchmark.{name}' for name in benchmark.COMMANDS)]


def parser_of(name):
    parser = _Parser(prog=name)
    import_module(f'coma_mm.commands.{name}').add_arguments(parser)
    return parser


@pytest.mark.parametrize(('line', 'expected'), [
    ('linear_probe a b --lr nan', '--lr=nan: expected a number above 0'),
    ('linear_probe a b --lr inf', '--lr=inf: expected a number above 0'),
    ('linear_probe a b --epochs 0', '--epochs=0: expected a whole number, 1 or more'),
    ('linear_probe a b --l2 -1', '--l2=-1: expected a number, 0 or more'),
    ('linear_probe a b --seed x', '--seed=x: expected a whole number, 0 or more, up to 4294967295'),
    ('knn a b --k 5 0', '--k=0: expected a whole number, 1 or more'),
    ('knn a b --temperature nan', '--temperature=nan: expected a number above 0'),
    ('train a --extend-to 1.5', '--extend-to=1.5: expected a whole number, 1 or more'),
    ('check_data folder a --workers -3', '--workers=-3: expected a whole number, 1 or more'),
    ('pack_dataset a b --quality 101', '--quality=101: expected a whole number from 1 to 100'),
    ('demo --budget nan', '--budget=nan: expected a number above 0'),
    ('study --jobs 0', '--jobs=0: expected a whole number, 1 or more'),
    ('benchmark.speed --batch-size 0', '--batch-size=0: expected a whole number, 1 or more'),
    ('benchmark.speed --repeats 0', '--repeats=0: expected a whole number, 1 or more'),
    ('benchmark.dataload a --workers 1 -1', '--workers=-1: expected a whole number, 0 or more'),
    ('benchmark.dataload a --batches 0', '--batches=0: expected a whole number, 1 or more'),
    ('benchmark.coverage --ratio nan', '--ratio=nan: expected a number above 0 and below 1'),
])
def test_a_number_outside_its_range_is_named(line, expected):
    name, *args = line.split()
    with pytest.raises(UserError) as caught:
        parser_of(name).parse_args(args)
    assert str(caught.value) == f'{expected} (see {name} --help)'


@pytest.mark.parametrize('name', [*NAMES, 'visualize'])
def test_every_option_that_is_a_number_has_a_range(name):
    parsers = [parser_of(name)]
    if name == 'visualize':
        parsers = next(action for action in parsers[0]._actions if isinstance(action, argparse._SubParsersAction)).choices
        assert list(parsers) == list(visualize.SUBCOMMANDS)
        parsers = parsers.values()
    for action in (action for parser in parsers for action in parser._actions if action.dest != 'local_rank'):
        assert action.type not in (int, float), action
        default = action.default[0] if isinstance(action.default, list) and action.default else action.default
        assert action.type or isinstance(default, (bool, str, type(None))), action
