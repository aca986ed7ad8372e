"""A small share of `make fuzz` and `make inputs`, and tests that they can see each kind of fault."""
import os
import random
import time

import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer

from coma_mm.errors import UserError
from coma_mm.models.attention import Block

from .campaigns import residual_stream
from .campaigns.fuzz import run
from .campaigns.fuzz.families import FAMILIES, Family
from .campaigns.fuzz.mutate import damage, distort
from .campaigns.inputs import run as inputs
from .campaigns.inputs.case import PRETRAINING, Case, train

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


def test_wrong_inputs_end_in_a_clear_line(tmp_path):
    cases = {case.name: case for case in inputs.all_cases()}
    assert len(cases) == len(inputs.all_cases()) > 600
    campaign = inputs.Campaign(tmp_path, tasks=())
    for name in ('linear_probe --lr nan', f'{PRETRAINING}: train_cfg.max_epochs=0', 'train: no list of categories',
                 "SHAPES_ROOT=''", 'exported: a JPEG', 'command line: an unknown command'):
        kind, code, text = campaign.run(cases[name])
        assert (kind, code) == ('clear line', 2), text


def test_how_a_wrong_input_ends_is_told_apart(tmp_path, monkeypatch):
    campaign = inputs.Campaign(tmp_path, tasks=())
    case = Case('faulty', 'a case', train(PRETRAINING), says='range')
    ends = {
        'clear line': lambda: print('error: x=3: expected the range 0 to 2') or exit(2),
        'misleading': lambda: print('error: ValueError: the range') or exit(2),
        'traceback': lambda: 1 / 0, 'silent': lambda: print('done'), 'hang': lambda: time.sleep(60)}
    monkeypatch.setattr(inputs, 'SECONDS', 1)
    for kind, end in ends.items():
        monkeypatch.setattr(inputs.commands, 'main', end)
        assert campaign.run(case)[0] == kind


@pytest.mark.parametrize(('kind', 'dtype'), zip(residual_stream.KINDS, (
    torch.float32, torch.bfloat16, torch.float32, torch.float32), strict=True))
def test_the_kinds_of_streams_that_are_compared_are_such_in_every_block(kind, dtype):
    model, seen = residual_stream.build(kind, 0), []
    for block in (*model.backbone.modules(), *model.decoder.blocks):
        if isinstance(block, (Block, TransformerEncoderLayer)):
            block.register_forward_hook(lambda block, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    drawn = torch.zeros(1, 3, residual_stream.SIZE, residual_stream.SIZE, dtype=torch.uint8)
    data = model.data_preprocessor(residual_stream.masked(drawn, 0, 0, torch.arange(1)))
    with residual_stream.autocast(kind):
        model(**data, mode='loss')
    assert seen == (24 + 4) * [(dtype, dtype)]
