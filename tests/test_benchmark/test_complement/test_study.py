"""What is decided when, and a whole study on noise whose measures are made up."""
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from coma_mm.benchmark.complement import page, study
from coma_mm.benchmark.complement.arms import ARMS, build
from coma_mm.benchmark.complement.study import CONTROL, MORE_CONTROL, PILOT, Job, Study, decide, phases, side_by_side
from coma_mm.errors import Stopped, UserError

from .test_trainer import SMALL, pack  # noqa: F401


def runs(phase, arms, seeds, value, factor=1.):
    """Results whose second stage of two has what `value` says of (arm, seed, budget)."""
    return {Job(phase, arm, seed, factor).name: dict(points={
        budget: dict(linear=[10., value(arm, seed, float(budget))]) for budget in ('0.5', '1', '2')})
        for arm in arms for seed in seeds}


def test_nothing_is_decided_before_p_and_a_are_complete():
    control = runs('control', 'P', CONTROL, lambda arm, seed, budget: 20 + budget + seed / 10)
    del control[Job('control', 'P', 3, 1.).name]
    assert decide({}, control) == dict(factor=1.)
    assert [jobs[0].phase for jobs in phases(SMALL, decide({}, control))] == ['control']


def test_p_and_a_fix_the_best_stage_and_that_there_is_something_to_see():
    decisions = decide({}, runs('control', 'P', CONTROL, lambda arm, seed, budget: 20 + budget + seed / 10 * budget))
    assert decisions['stage'] == 1 and decisions['sees'] and decisions['control']['mean'] == pytest.approx(1.2)
    assert [jobs[0].phase for jobs in phases(SMALL, decisions)] == ['control', 'downstream', 'pilot']


def test_what_five_pairs_leave_open_ten_may_show():
    results = runs('control', 'P', CONTROL, lambda arm, seed, budget: 20 + budget * (.01 if seed < 4 else 1.))
    decisions = decide({}, results)
    assert 'sees' not in decisions and decisions['looks'][0]['pairs'] == 5
    assert [job.seed for job in next(phases(SMALL, decisions))] == list(range(10))
    assert decide(decisions, results) == decisions
    results |= runs('control', 'P', MORE_CONTROL, lambda arm, seed, budget: 20 + budget * 1.)
    decisions = decide(decisions, results)
    assert decisions['sees'] and decisions['control']['pairs'] == 10 and decisions['factor'] == 1


def test_the_page_tells_an_earlier_look():
    results = runs('control', 'P', CONTROL, lambda arm, seed, budget: 20 + budget * (.01 if seed < 4 else 1.))
    decisions = decide({}, results)
    facts = dict(settings=dict(fractions=[1.]), runs={}, decisions=decisions)
    assert re.search(r'in 5 pairs, which left it open\. More pairs are under way\.$', page.state(page.Results(facts)))
    results |= runs('control', 'P', MORE_CONTROL, lambda arm, seed, budget: 20 + budget * 1.)
    facts['decisions'] = decide(decisions, results)
    assert re.search(r'in 10 pairs; 97\.5 %: \S+, \S+, with 1 times .*sees something', page.state(page.Results(facts)))


def test_a_study_that_does_not_see_twice_the_budget_is_made_longer_and_at_last_given_up():
    results, decisions, factors = {}, {}, []
    for factor in (1., 1., 2., 2., 4., 4.):
        factors.append(decisions.get('factor', 1.))
        results |= runs('control', 'P', range(10), lambda arm, seed, budget: 20 + (-1)**seed * budget, factor)
        decisions = decide(decisions, results)
    assert factors == [1, 1, 2, 2, 4, 4] and decisions['sees'] is False and len(decisions['looks']) == 6
    assert [jobs[0].phase for jobs in phases(SMALL, decisions)] == ['control']


def test_the_pilots_spread_fixes_the_number_of_pairs_once():
    results = runs('control', 'P', CONTROL, lambda arm, seed, budget: 20 + budget + seed / 10 * budget)
    results |= runs('pilot', 'BC', PILOT, lambda arm, seed, budget: 20 + (arm == 'C') * (seed - 100) * .1)
    decisions = decide({}, results)
    assert decisions['pilot']['sd'] == pytest.approx(np.std([0, .1, .2, .3], ddof=1))
    assert decisions['pairs_needed'] == 4 and decisions['pairs'] == study.FEWEST == 5
    results |= runs('pilot', 'BC', PILOT, lambda arm, seed, budget: 20 + (arm == 'C') * (seed - 100))
    assert decide(decisions, results) == decisions
    assert decide({}, results)['pairs'] == study.MOST < decide({}, results)['pairs_needed']
    last = [jobs for jobs in phases(replace(SMALL, arms=('A', 'B', 'C', 'P', 'D')), decisions)]
    assert [job.name for job in last[3][:3]] == ['B-0-x1', 'C-0-x1', 'B-1-x1'] and {job.arm for job in last[4]} == {'D'}
    assert {job.arm for job in last[1] + last[5]} == {study.SCRATCH, *'ABCD'}


def test_an_arm_that_beats_mae_is_confirmed_on_fresh_seeds_or_not():
    results = runs('control', 'P', range(10), lambda arm, seed, budget: 20 + budget + seed / 10 * budget)
    results |= runs('pilot', 'BC', PILOT, lambda arm, seed, budget: 20 + seed / 100)
    results |= runs('main', 'BC', CONTROL, lambda arm, seed, budget: 20 + seed / 100)
    results |= runs('others', 'L', CONTROL, lambda arm, seed, budget: 22 + seed / 5)
    arms = ('A', 'B', 'C', 'L', 'P')
    del results['L-4-x1']
    assert 'candidates' not in decide({}, results, arms)
    results |= runs('others', 'L', CONTROL, lambda arm, seed, budget: 22 + seed / 5)
    decisions = decide({}, results, arms)
    assert decisions['candidates'] == ['L'] and decide({}, results)['candidates'] == []
    *_, before, again, fresh = phases(replace(SMALL, arms=arms), decisions)
    assert {job.arm for job in before} == {*'BCL'} and {job.arm for job in again} == {'P'}
    assert [job.name for job in fresh] == [f'L-{seed}-x1' for seed in MORE_CONTROL]

    def confirmed(gain):
        ours = runs('fresh', 'L', MORE_CONTROL, lambda arm, seed, budget: 21 + seed / 10 + gain + seed / 50) if gain else {}
        kept = {name: dict(phase='fresh' if name in ours else 'main',
                           settings=dict(arm=name[0], seed=int(name[2]), factor=1.),
                           points={budget: dict(point, knn=point['linear']) for budget, point in one['points'].items()})
                for name, one in {**results, **ours}.items() if name[1:4] != '-10'}
        return page.Results(dict(settings=dict(fractions=[1.]), arms=arms, decisions=decisions, runs=kept))

    assert not confirmed(gain=None).confirmed()
    for gain, word in ((1., 'confirmed'), (-1., 'not confirmed')):
        found = confirmed(gain)
        assert found.confirmed()['L'].mean == pytest.approx(gain + .14) and found.exploratory()['L', 'A'].pairs == 5
        assert re.search(rf'L - A on fresh seeds, 5 pairs: -?\d\.\d+ \(\S+ \S+\) points, {word};', page.state(found))


@pytest.fixture
def short(monkeypatch, pack):  # noqa: F811
    """A function that makes a study with few and short runs and made-up measures."""
    for name, value in dict(CONTROL=range(2), MORE_CONTROL=range(2, 4), PILOT=range(100, 102), FEWEST=2, MOST=2).items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(page, 'MORE_CONTROL', study.MORE_CONTROL)
    monkeypatch.setattr(study, 'read_pack', lambda path: pack)
    monkeypatch.setattr(study.Trainer, 'save', lambda self, path: None)  # which waits for the disk
    monkeypatch.setattr(study, 'environment', lambda: dict(Processor='one'))
    monkeypatch.setattr(study, 'commit', cache(study.commit))
    calls = []

    def measure(model, scale, pack):
        calls.append(1)
        value = float(len(calls)) + (scale.batch == 0)
        return dict(linear=[1., value], knn=[1., value], rankme=[1., 2.], reconstruction=.5)

    def measure_downstream(model, scale, pack, seed, stops):
        tuned.append(next(iter(model.state_dict().values())))
        return dict(finetuned=float(len(tuned)), dense=[1., 2.])

    tuned = []
    monkeypatch.setattr(study, 'measure', measure)
    monkeypatch.setattr(study.downstream, 'measure_downstream', measure_downstream)

    def make(folder, **options):
        scale = replace(SMALL, updates=2, fractions=(1., ), **options)
        return Study('cpu', 'photographs', folder, folder / 'facts.json', scale=scale)

    return make


def test_a_study_runs_to_its_end_and_its_facts_make_the_page(short, tmp_path, capsys):
    stopped = short(tmp_path)
    with pytest.raises(Stopped):
        stopped.run(minutes=0.)
    assert short(tmp_path).run()
    assert 'fresh: C-3-x1, update 0; runs of this phase that are left: 1\n' in capsys.readouterr().out
    facts = json.loads((tmp_path / 'facts.json').read_text())['cpu']
    assert facts['decisions']['candidates'] == ['B', 'C']  # which are measured later, and so made up to be better
    pretrained = {*(f'P-{seed}-x1' for seed in range(4)),
                  *(f'{arm}-{seed}-x1' for arm in 'BC' for seed in (0, 1, 2, 3, 100, 101))}
    assert set(facts['runs']) == pretrained | {
        f'downstream-{arm}-{seed}-x1' for arm in (study.SCRATCH, *'ABC') for seed in range(2)}
    for run in facts['runs'].values():
        assert re.fullmatch('[0-9a-f]{64}', run['settings_hash']) and re.fullmatch(r'[0-9a-f]{40}\+?', run['commit'])
    weights = {facts['runs'][name]['points']['1']['weights'] for name in pretrained}
    assert len(weights) == 16 and all(re.fullmatch('[0-9a-f]{64}', one) for one in weights)
    assert facts['decisions']['pairs'] == 2 and facts['decisions']['sees']
    capsys.readouterr()
    assert short(tmp_path).run() and not capsys.readouterr().out  # nothing is left to do

    target = tmp_path / 'page.md'
    target.write_text('# Title\n\n<!-- complement-study:results -->\nold\n<!-- /complement-study -->\n\n## More\n')
    page.write_page(tmp_path / 'facts.json', target)
    text = target.read_text()
    assert text.startswith('# Title') and text.endswith('## More\n') and 'old' not in text
    assert re.search(r'\*\*C - B: .* points, \w+', text) and '| B - A | 2 |' in text and 'by Holm' in text
    assert 'B - A on fresh seeds, 2 pairs: ' in text
    assert re.search(r'\| scratch \| 2 \| \S+ \| 1.00 \| 2.00 \|', text) and '| A - scratch | 2 |' in text
    assert (tmp_path / page.FIGURE).stat().st_size > 1000
    page.write_page(tmp_path / 'facts.json', target)
    assert target.read_text() == text
    target.write_text('<!-- complement-study:photographs -->\n<!-- /complement-study -->\nMore')
    page.write_page(tmp_path / 'facts.json', target)
    assert re.search(r'\| from scratch \| 2 \| \S+ \|  \|', target.read_text()) and target.read_text().endswith('More')


def test_runs_with_other_settings_are_not_taken_for_the_studys(short, tmp_path):
    one = short(tmp_path)
    job = Job('main', 'C', 7, 1.)
    one._do(job)
    path = tmp_path / 'cpu' / job.name / 'result.json'
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != 'done'}))
    with pytest.raises(UserError, match='other settings'):
        short(tmp_path, lr=.5)._do(job)


def test_processes_side_by_side_end_as_one():
    with pytest.raises(Stopped):
        side_by_side(['-c', 'raise SystemExit(75)'], 2)
    with pytest.raises(UserError, match=r'2 processes ended with the codes \[2, 2\]'):
        side_by_side(['-c', 'raise SystemExit(2)'], 2)


def test_a_page_without_its_place_or_facts_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match='run the study first'):
        page.write_page(tmp_path / 'none.json', tmp_path / 'page.md')
    (tmp_path / 'facts.json').write_text('{')
    with pytest.raises(UserError, match='facts.json: cannot read the facts'):
        Study('cpu', 'photographs', tmp_path, tmp_path / 'facts.json').run()
    (tmp_path / 'facts.json').write_text('{}')
    (tmp_path / 'page.md').write_text('nothing')
    with pytest.raises(UserError, match='expected <!--'):
        page.write_page(tmp_path / 'facts.json', tmp_path / 'page.md')


def test_fine_tuning_begins_with_the_weights_that_an_arm_ended_with(short, tmp_path, monkeypatch):
    begun = {}

    def measure_downstream(model, *_):
        begun[len(begun)] = {key: value.clone() for key, value in model.state_dict().items()}
        return dict(finetuned=1., dense=[1., 2.])

    one = short(tmp_path)
    monkeypatch.setattr(study.downstream, 'measure_downstream', measure_downstream)
    for job in (Job('main', 'C', 0, 1.), Job('downstream', 'C', 0, 1.), Job('downstream', study.SCRATCH, 0, 1.)):
        one._do(job)
    ended = torch.load(tmp_path / 'cpu' / 'C-0-x1' / 'weights-1.pth', weights_only=True)['state_dict']
    fresh = build(one.scale, ARMS['A'], 0).state_dict()
    assert all(torch.equal(begun[0][key], ended[key]) and torch.equal(begun[1][key], fresh[key]) for key in fresh)
    assert not torch.equal(ended['backbone.stem.weight'], fresh['backbone.stem.weight'])
    with pytest.raises(UserError, match='C-1-x1.weights-1.pth is missing: .* from another folder; go on in that'):
        one._do(Job('downstream', 'C', 1, 1.))


def test_the_settings_of_the_studys_runs_are_those_that_it_began_with(tmp_path):
    """So runs that are there go on: their hash must be the same."""
    one = Study('cpu', 'photographs', tmp_path, tmp_path / 'facts.json')
    one._pack = SimpleNamespace(digest='photographs')
    found = {job.name: hashlib.sha256(json.dumps(one.settings(job), sort_keys=True).encode()).hexdigest()
             for job in (Job('control', 'P', 0, 1.), Job('main', 'B', 1, 1.), Job('pilot', 'C', 100, 2.))}
    assert found == {'P-0-x1': 'ceddd37fcb658ba796f9d418efb9ad8418a55622c3b7db97b25d8f4ddf5ab92a',
                     'B-1-x1': '8aa46ddbf4fda0b24670bb78a734b84e59385aa23a2ba8f7f3b3a110f76f628b',
                     'C-100-x2': '540a906abf4e5187c08cf39c9e3b894e093d8e6489bbd05a211a273cafc10b12'}
