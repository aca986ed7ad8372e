"""A small share of `make fuzz`, and a test that it can see each kind of fault."""
import os
import random
import time

import pytest

from coma_mm.errors import UserError

from .campaigns.fuzz import run
from .campaigns.fuzz.families import FAMILIES, Family
from .campaigns.fuzz.mutate import damage, distort

SHARE = dict(option_texts=100, notes=100, checkpoints=100, pickles=150, images=150, maps=60, coco=40, states=2, options=4,
             configs=4)


@pytest.mark.parametrize('name', [*FAMILIES])
def test_damaged_input_is_refused_or_read_rightly(name, tmp_path):
    results = run.run_family(FAMILIES[name], range(SHARE[name]), tmp_path)
    assert len(results) == SHARE[name]
    assert {seed: result for seed, result in results.items() if result not in ('read', 'refused')} == {}


def test_faults_are_seen(tmp_path, monkeypatch):
    class Faulty(Family):
        name = 'faulty'

        def case(self, rng, folder):
            number = int(next(kinds))
            if number == 0:
                return 'read'
            if number == 1:
                raise UserError('one\nline')
            if number == 2:
                raise ValueError('a bug')
            if number == 3:
                os._exit(3)
            if number == 4:
                time.sleep(60)
            raise AssertionError('silently wrong')

    kinds = iter('0125')
    monkeypatch.setattr(run, 'SECONDS', 1)
    found = run.run_family(Faulty(), range(4), tmp_path)
    assert [found[seed].partition(':')[0] for seed in range(4)] == ['read', 'refused', 'crash', 'silently wrong']
    assert 'a bug' in found[2]
    for kind, expected in (('3', 'crash: exit code 3'), ('4', 'hang: more than 1 s')):
        kinds = iter(kind)
        assert run.run_family(Faulty(), [0], tmp_path) == {0: expected}


def test_cases_are_functions_of_their_seed():
    content = bytes(range(256)) * 4
    for seed in range(200):
        damaged = damage(content, random.Random(seed))
        assert damaged == damage(content, random.Random(seed)) != content
    values = dict(a=[1, dict(b='c')], d=(2, 3), e=dict(f=None))
    before = repr(values)
    distorted = [distort(values, random.Random(seed)) for seed in range(200)]
    assert repr(distorted) == repr([distort(values, random.Random(seed)) for seed in range(200)]) and repr(values) == before
    assert sum(one != values for one, _ in distorted) > 150
