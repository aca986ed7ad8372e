"""Runs of somebody else: nothing of them is run or imported, and a damaged one costs no other its place."""
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from coma_mm.benchmark.paper import report
from coma_mm.benchmark.paper.ablation import ablation
from coma_mm.benchmark.paper.collect import collect, read, write
from coma_mm.benchmark.paper.efficiency import efficiency
from coma_mm.benchmark.paper.tables import build, list_runs, to_latex, to_markdown
from coma_mm.benchmark.paper.tables import run as write_tables

from ...helpers.logged_runs import COMA, config_of, imagenet_run, train, write_run, write_test

DEEP = '[' * 3000 + ']' * 3000
VALUES = [7, -1, 1.5, 10**30, 10**400, float('nan'), float('inf'), True, None, '', 'text', '$x^$', '\x1b[2J', '\udcff', '\0',
          '../../..', [], [1], {}, {'a': {'b': 1}}, [{'type': 5}], {'type': ['a']}, '=1+1']


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A whole run, its pre-training, and another of both to damage, with a test."""
    folder = tmp_path_factory.mktemp('runs')
    cfg = config_of('coma/coma_dyvit-base_8xb512-amp-coslr-800e_in1k')
    for name in ('whole', 'victim'):
        write_run(folder / name / 'before', cfg, [train(10, 1., 1), ({'reconstruction/masked': .5}, 1)], dict(COMA, seed=0),
                  'epoch_800.pth')
        imagenet_run(folder / name / 'run', origin=dict(checkpoint=str(folder / name / 'before/epoch_800.pth')))
        tuned = config_of('classification/dyvit-base_8xb128-coslr-100e_in1k')
        write_test(folder / name / 'run', tuned, folder / name / 'run/epoch_100.pth', {'accuracy/top1': 84.})
    return folder


def replaced(tree, rng):
    """A copy of what JSON holds with one of its values, at any depth, exchanged."""
    if isinstance(tree, dict) and tree and rng.random() < .9:
        key = rng.choice(list(tree))
        return {**tree, key: replaced(tree[key], rng)}
    return rng.choice(VALUES)


def damage_json(file, rng):
    lines = file.read_text().splitlines()
    for number in range(len(lines)) if rng.random() < .5 else [rng.randrange(len(lines))]:
        lines[number] = json.dumps(replaced(json.loads(lines[number]), rng))
    file.write_text('\n'.join(lines))


def damage_config(file, rng):
    lines = file.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if ' = ' in line or '=' in line]
    number = rng.choice(keys)
    key = lines[number].partition('=')[0]
    lines[number] = f'{key}={rng.choice(VALUES)!r},' if lines[number].endswith(',') else f'{key}={rng.choice(VALUES)!r}'
    file.write_text('\n'.join(lines), errors='replace')


def damage_bytes(file, rng):
    content = file.read_bytes()
    at = rng.randrange(len(content) + 1)
    inserted = bytes(rng.randrange(256) for _ in range(9))
    file.write_bytes(rng.choice([b'', content[:at], content[:at] + inserted + content[at:], DEEP.encode(),
                                 b'a = ' + DEEP.encode(), b'\xff\xfe' * 99, b'\0' * 99, b'9' * 5000]))


def exchange(file, rng):
    file.unlink()
    what = rng.choice(['folder', 'pipe', '/dev/zero', '/nowhere', file])
    if what == 'folder':
        file.mkdir()
    elif what == 'pipe':
        os.mkfifo(file)
    else:
        file.symlink_to(what)


def test_a_damaged_run_costs_no_other_its_rows_and_nothing_raises(runs, tmp_path):
    whole, _ = collect(runs / 'whole')
    assert set(whole['run']) == {'before', 'run'} and set(whole['split']) == {'train', 'val', 'test'}
    shutil.copytree(runs / 'whole', tmp_path / 'whole', symlinks=True)
    for seed in range(40):
        rng = random.Random(seed)
        shutil.rmtree(tmp_path / 'victim', ignore_errors=True)
        shutil.copytree(runs / 'victim', tmp_path / 'victim')
        for _ in range(rng.randint(1, 3)):
            files = sorted(file for file in (tmp_path / 'victim').rglob('*') if file.is_file() and file.stat().st_size)
            file = rng.choice(files)
            kinds = [damage_bytes, exchange] + 3 * [damage_json if file.suffix == '.json' else damage_config]
            try:
                rng.choice(kinds)(file, rng)
            except (ValueError, IndexError, RecursionError):  # it was damaged before
                damage_bytes(file, rng)
        frame, skipped = collect(tmp_path)
        found = frame[frame['run'].str.startswith('whole/')]
        assert len(found) == len(whole), (seed, skipped)
        assert found['value'].tolist() == whole['value'].tolist() and found['status'].eq('finished').any(), seed
        if seed % 20 == 0:
            tables, cited = build(frame)
            for text in (*map(to_markdown, tables), *map(to_latex, tables), list_runs(cited, '.')):
                text.encode()
            for picture in (ablation(frame, tmp_path), efficiency(frame), *report._losses(frame, tmp_path).pictures):
                picture.image.savefig('/dev/null', format='png', dpi=20)
            write(frame, tmp_path / 'runs.csv')
            assert len(read(tmp_path / 'runs.csv')) == len(frame)


def test_what_a_config_names_is_not_imported_and_not_built(runs, tmp_path, monkeypatch):
    (tmp_path / 'hostile_module.py').write_text('raise SystemExit("imported")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(subprocess, 'Popen', lambda *_, **__: pytest.fail('it ran'))
    shutil.copytree(runs / 'victim', tmp_path / 'runs')
    file = tmp_path / 'runs/before/dumped.py'
    text = file.read_text()
    for hostile in ("dict(type='hostile_module')", "dict(type='hostile_module.Model')", "dict(type='a.hostile_module')",
                    "dict(type='CoMA', neck=dict(type='subprocess.Popen', args='id'))",
                    "dict(type='CoMA', neck=dict(_scope_='hostile_module', type='CoMA'))"):
        for one in (file, *(tmp_path / 'runs/before').glob('*/vis_data/config.py')):
            one.write_text(f'{text}\nmodel = {hostile}\n')
        frame, _ = collect(tmp_path / 'runs')
        assert 'run' in set(frame['run'])
        part = report._reconstructions(frame, tmp_path / 'runs')
        assert not part or not part.pictures and 'no picture: ' in part.notes[0]


def test_names_that_are_code_elsewhere_are_text(runs, tmp_path, monkeypatch, capsys):
    name = '=cmd() $\\frac$ `a` <b> |c| \x1b[31m\nd ![e](f) ä'
    imagenet_run(tmp_path / 'work' / name)
    file = tmp_path / 'work' / name / 'provenance.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(command=name, backbone_from=COMA | dict(algorithm=name))))
    (tmp_path / 'work' / f'{name} empty').mkdir()
    write_tables(SimpleNamespace(work_dirs=tmp_path / 'work', out=None, write=False))
    frame, skipped = collect(tmp_path / 'work')
    assert '\x1b' not in capsys.readouterr().out and '\x1b' not in skipped[0].path
    out = tmp_path / 'work/benchmark'
    assert (out / 'runs.csv').read_text().count("'=cmd()") >= 3 and set(read(out / 'runs.csv')['run']) == {name}
    for picture in report._losses(frame, tmp_path / 'work').pictures:
        picture.image.savefig(tmp_path / 'losses.png')
    monkeypatch.setattr(report.complexity, 'count', lambda name: [])
    parts = [report._losses(frame, tmp_path / 'work'), report._runs(frame, [], '.'), report._skipped(skipped)]
    report.visualization.write_report(tmp_path / 'page.html', name, name, parts)
    page = (tmp_path / 'page.html').read_text()
    assert '<b>' not in page and '\x1b' not in page and '&lt;b&gt;' in page
    runs = list_runs(frame.drop_duplicates('run').to_dict('records'), '.')
    assert runs.count('\n') == 1 and '`` ' in runs and '\x1b' not in runs


def test_a_folder_whose_name_is_no_text_is_named_and_skipped(runs, tmp_path):
    shutil.copytree(runs / 'whole', tmp_path / 'whole')
    os.rename(shutil.copytree(runs / 'victim/run', tmp_path / 'odd'), os.fsencode(tmp_path) + b'/\xff')
    frame, skipped = collect(tmp_path)
    assert set(frame['run']) == {'whole/before', 'whole/run'} and skipped[0].path == '\\udcff'
    write(frame, Path(tmp_path, 'runs.csv'))
