"""The page that `make gpu` writes: a function of what was found, whatever of it is missing."""
import json
import re
import sys
from pathlib import Path

import pytest

from ..campaigns.gpu import run as command
from ..campaigns.gpu import work
from ..campaigns.gpu.parts import PARTS
from ..campaigns.gpu.scale import Scale, scale
from ..campaigns.gpu.summary import GOALS, page_name, summary

ROOT = Path(__file__).parents[2]


def row(name, batch=512, size=224, **more):
    return dict(name=name, batch=batch, size=size, images_per_second=1000., step_bytes=2**30, **more)


def found(**parts):
    return dict(device='cuda', card='NVIDIA H100 80GB HBM3', minutes=9, started='now', version='1', batches=[512, 256],
                inference=[224], parts={name: dict(title='T', ended='finished', seconds=3., results=results)
                                        for name, results in parts.items()})


def test_cells_are_empty_where_nothing_was_run():
    for nothing in ({}, found(), found(speed={})):
        page = summary(nothing)
        assert f'0 of {len(GOALS)} goals are met, 0 are missed, {len(GOALS)} were not measured.' in page
        assert '| Training from JPEGs × the step alone |  |  | 0.95 |' in page
        assert 'None' not in page.replace('version None, begun at None, with None', '')


def test_goals_are_met_or_missed_by_what_was_found():
    mae = {'pretrain/mmpretrain-mae': 1.2}
    page = summary(found(
        speed=dict(speed=dict(rows=[row('pretrain/coma-none', ratios=mae), row('pretrain/coma-frozen', ratios=mae)])),
        compiled=dict(speed=dict(rows=[row('pretrain/coma-frozen', ratios={'pretrain/mmpretrain-mae': 0.9})])),
        **{'end-to-end': dict(end_to_end=dict(batch=512, workers=15, images='drawn', images_per_second=960., waiting=0.02))},
        inference=dict(speed=dict(rows=[row('inference/dyvit', ratios={'inference/vit': 1.})]))))
    assert '3 of 8 goals are met, 2 are missed, 3 were not measured.' in page
    assert "| CoMA `'none'` × mmpretrain's MAE ViT-B, eager | missed | 1.20 | 1.5 |" in page
    assert "| CoMA `'frozen'` × mmpretrain's MAE ViT-B, eager | met | 1.20 | 1.15 |" in page
    assert "| CoMA `'frozen'` × mmpretrain's MAE ViT-B, both compiled | missed | 0.90 | 1 |" in page
    assert '| Training from JPEGs × the step alone | met | 0.96 | 0.95 |' in page
    assert '| 512 | 15 | drawn | 960 | 0.96 | 2 |' in page


def test_failures_are_on_the_page():
    page = summary(found(
        smoke=dict(checks={'k-NN': dict(ended='wrong', says='AssertionError: a | b', seconds=1.)}),
        speed=dict(speed=dict(rows=[dict(row('pretrain/coma-none'), note='out of memory')])),
        tests=dict(tests=dict(tests=4, failures=1, errors=0, skipped=0, failed=['test_x']))))
    assert '0 of 1 checks that were begun are right' in page and 'AssertionError: a \\| b' in page
    assert 'out of memory' in page and '- failed: test\\_x' in page or '- failed: test_x' in page


def test_the_page_is_named_by_the_card():
    assert page_name(found()) == 'gpu_h100'
    assert page_name(dict(card='NVIDIA GeForce RTX 4090')) == 'gpu_rtx_4090' and page_name({}) == 'gpu'


@pytest.mark.parametrize('page', sorted((ROOT / 'docs/results').glob('gpu_*.md')), ids=lambda page: page.stem)
def test_published_pages_are_what_their_results_say(page):
    assert page.read_text() == summary(json.loads(page.with_suffix('.json').read_text()))


def test_the_parts_that_matter_fit_into_nine_minutes():
    """As far as the estimates are right; parts that measure no time run side by side."""
    names = [part.name for part in PARTS]
    assert len(names) == len({*names})
    assert all(part.seconds <= part.limit for part in PARTS)
    assert all(hasattr(work, name) for part in PARTS for name in (part.work, part.prepare) if name)
    until = PARTS[:names.index('data') + 1]
    together = [part.seconds for part in until if not part.alone]
    assert len(together) <= scale('cuda', 'out').together
    assert sum(part.seconds for part in until if part.alone) + max(together) < 540


def test_the_scale_reaches_the_other_process():
    given = scale('cuda', '/x', '/images')
    assert Scale.from_text(given.as_text()) == given and given.path('a', 'b') == Path('/x/a/b')


def test_parts_by_name_keep_their_order_and_a_cpu_compiles_only_if_it_is_told():
    def names(only, device):
        return [part.name for part in command.chosen(only, device)]

    assert names(None, 'cuda') == [part.name for part in PARTS]
    assert names(['compiled', 'smoke'], 'cpu') == ['smoke', 'compiled']
    assert {*names(None, 'cuda')} - {*names(None, 'cpu')} == {'compiled', 'upernet-compiled', 'compiled-smaller'}


def test_whole_on_a_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['run.py', '--device', 'cpu', '--only', 'data', 'environment', '--out',
                                      str(tmp_path / 'out')])
    command.main()
    shown = capsys.readouterr().out
    assert re.findall(r'^(\S+): finished in \d+ s$', shown, re.MULTILINE) == ['environment', 'data'], shown
    page = (tmp_path / 'out/summary.md').read_text()
    assert page == summary(json.loads((tmp_path / 'out/results.json').read_text()))
    assert '**This was not a GPU' in page and f'0 of {len(GOALS)} goals are met' in page
    assert re.search(r'## Loading alone\n\n.*\n.*\n\| 1 \| \d+ \| \d+ \| \d+\.\d\d \|', page)
    assert re.search(r'\| copies, TB/s \(read and written\) \| 0\.\d\d \|', page)


def test_wrong_options_are_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / 'file').touch()
    for options, line in {
            ('--only', 'smok'): "--only='smok': expected one of environment, .*; did you mean 'smoke'",
            ('--device', 'cuda'): 'no GPU that torch can use here; to try the parts at tiny size take --device cpu',
            ('--device', 'cpu', '--images', str(tmp_path / 'no')): 'no such folder; expected one with JPEGs',
            ('--device', 'cpu', '--out', str(tmp_path)): 'the folder is not empty; take another one'}.items():
        monkeypatch.setattr(sys, 'argv', ['run.py', *options])
        with pytest.raises(SystemExit) as leaving:
            command.main()
        assert leaving.value.code == 2
        assert re.search(line, capsys.readouterr().err)
