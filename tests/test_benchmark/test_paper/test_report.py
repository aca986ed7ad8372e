"""The report on runs: what there is of them is in it, and it opens where people read it."""
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from coma_mm.benchmark.counting import complexity
from coma_mm.benchmark.paper import coverage
from coma_mm.benchmark.paper.report import run as write_report
from coma_mm.engine.models import build_model

from ...helpers.browser import OVERFLOW, chromium, open_page
from ...helpers.logged_runs import config_of, imagenet_run, train, write_run
from ...test_visualization.test_report import Outline

PRETRAINING = 'shapes/coma_dyvit-tiny_shapes'


@pytest.fixture(scope='module')
def small():
    """With this the report counts no backbone and draws few masks; both take seconds, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        measure = coverage.measure
        patch.setattr(complexity, 'count', lambda name: [(dict(model=name, part='backbone', parameters=22e6), )])
        patch.setattr(coverage, 'measure', lambda: measure(10, size=96))
        yield patch


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Runs: three of ImageNet-1K, one of them diverged; a pre-training; one whose checkpoint is cut; a folder."""
    folder = tmp_path_factory.mktemp('report')
    for seed in range(2):
        imagenet_run(folder / f'work/<top> {seed}', 84. + seed, seed=seed)
    nan = float('nan')
    imagenet_run(folder / 'work/lost', entries=[*(train(i, nan, 1) for i in (1, 2, 3)), ({'accuracy/top1': .1}, 1)], seed=2)
    (folder / 'images').mkdir()
    for number in range(2):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (150, 100, 3), np.uint8)).save(
            folder / f'images/{number}.png')
    cfg = config_of(PRETRAINING, val_dataloader__dataset__data_root=str(folder / 'images'))
    for name in ('pretrain', 'pretrain_cut'):
        run = write_run(folder / 'work' / name, cfg, [train(step, 1 / step, 1) for step in (1, 2)], checkpoint='epoch_1.pth')
        torch.save(dict(state_dict=build_model(cfg).state_dict()), run / 'epoch_1.pth')
    content = (run / 'epoch_1.pth').read_bytes()
    (run / 'epoch_1.pth').write_bytes(content[:1000])
    (folder / 'work/notes').mkdir()
    return folder


@pytest.fixture(scope='module')
def report(folder, small):
    write_report(SimpleNamespace(work_dirs=folder / 'work', out=None))
    return folder / 'work/benchmark/report.html'


@pytest.fixture
def outline(report):
    return Outline(report.read_text(encoding='utf-8'))


def test_what_there_is_is_in_it(report, outline):
    assert [text for level, text in outline.headings if level == 2] == [
        'Beside the paper', 'Accuracy against pre-training', 'Ablations', 'Loss', 'Reconstructions', 'Coverage of patches',
        'Models', 'Runs', 'Folders that were skipped', 'Environment']
    row = next(row for row in outline.rows if row[1:4] == ['CoMA', 'DyViT-B', '800'])
    assert row[-4:] == ['84.6', '84.5 ± 6.4 (n = 2), 1 diverged', '−0.1', '[1][2][3]']
    html = report.read_text(encoding='utf-8')
    assert '&lt;top&gt; 0' in html and '<top>' not in html and '<strong>diverged</strong>' in html
    assert '5 runs found' in html and '2 of them belong beside a number of the paper’s' in html
    assert 'pretrain_cut: no picture: ' in html and 'pretrain, epoch_1.pth. Grey patches are hidden.' in html
    # Figures 1 and 5, losses of two tasks, one reconstruction, Figure 2.
    assert len(outline.values('src')) == 6 and all(outline.values('alt'))
    assert ['notes', 'no run in it'] in outline.rows and ['ViT-S', 'backbone', '22.0'] in outline.rows


def test_it_needs_nothing_else_and_its_links_lead_somewhere(report, outline):
    assert all(source.startswith('data:image/') for source in outline.values('src'))
    assert report.stat().st_size < 10_000_000
    links = set(outline.values('href'))
    files = {link for link in links if not link.startswith('#')}
    # A config, a log and a checkpoint of each run.
    assert len(files) == 15 and all((report.parent / unquote(file)).is_file() for file in files)
    assert {link[1:] for link in links - files} <= set(outline.values('id'))


def test_in_a_browser(report):
    complaints = []
    with chromium() as browser:
        page = open_page(browser, report, complaints, is_mobile=True, viewport=dict(width=360, height=800))
        assert page.evaluate(OVERFLOW) == 0
        page.set_viewport_size(dict(width=680, height=800))
        page.emulate_media(media='print', color_scheme='light')
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate('[...document.querySelectorAll("th button")].every((one) => one.textContent.trim())')
    assert complaints == []


def test_without_runs_there_are_the_papers_numbers_and_a_line_that_says_how_to_get_some(tmp_path, small, run_tool):
    lines = run_tool('benchmark.py', 'report', tmp_path, '--out', tmp_path / 'page.html').splitlines()
    assert lines[0].startswith('no runs: ') and lines[1].startswith(f'{tmp_path}/page.html: 0 runs')
    outline = Outline((tmp_path / 'page.html').read_text(encoding='utf-8'))
    row = next(row for row in outline.rows if row[1:4] == ['CoMA', 'DyViT-B', '800'])
    assert row[-4:] == ['84.6', '', '', '']
    assert {'Runs', 'Loss', 'Reconstructions'}.isdisjoint(text for _, text in outline.headings)


def test_a_missing_folder_is_one_line(tmp_path, run_tool):
    run_tool('benchmark.py', 'report', tmp_path / 'nowhere', code=2)
    assert not (tmp_path / 'nowhere').exists()
