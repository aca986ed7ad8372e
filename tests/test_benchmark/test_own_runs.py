"""The page about one's own runs."""
import os
import re
from argparse import Namespace

import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from coma_mm.benchmark import own_runs
from coma_mm.benchmark.paper import report
from coma_mm.commands import report as command
from coma_mm.errors import UserError
from coma_mm.runs.overview import overviews
from coma_mm.visualization.judged import f1, mean_iou

from ..helpers.made_runs import write_run
from ..test_visualization.test_report import Outline

CLASSES = dict(step=2, classes=['bolt', 'nut'], values={'IoU': [90., None], 'recall': [95., 50.]})


@pytest.fixture
def runs(tmp_path):
    """Three segmenters, a detector, a classifier, one that has just failed, and a folder of photographs."""
    write_run(tmp_path / 'runs/slow', values=(40., 62.), lr=.2, classes=CLASSES)
    write_run(tmp_path / 'runs/fast', values=(50., 71., 70.), classes=CLASSES)
    write_run(tmp_path / 'runs/broken', values=(30., ), ending=dict(state='failed', why='bad image <7.png>'))
    write_run(tmp_path / 'runs/boxes', scope='mmdet', model='FasterRCNN', metric='coco/bbox_mAP', values=(.2, .3))
    write_run(tmp_path / 'runs/labels', scope='mmpretrain', model='ImageClassifier', metric='accuracy/top1',
              classes=dict(CLASSES, values={'top-1': [80., 70.]}, confusion=[[8, 2], [3, 7]]))
    (tmp_path / 'runs/photos').mkdir()
    return tmp_path / 'runs'


def test_the_page_begins_with_ones_own_results_the_best_first_and_ends_with_the_papers_folded(runs, tmp_path):
    line = own_runs.write(runs, tmp_path / 'page/mine.html')
    assert re.fullmatch(r'.*mine.html: 5 runs, 1 other folders, 0.\d MB', line)
    html = (tmp_path / 'page/mine.html').read_text()
    page = Outline(html)
    assert [title for _, title in page.headings][:5] == [
        'Your runs', 'Results', 'Segmentation, mIoU', 'Detection, box AP', 'Classification, top-1']
    assert [title for level, title in page.headings if level == 2] == [
        'Results', 'Curves', 'By class', 'Predictions', 'Settings that differ', 'Folders that are no runs',
        'The paper’s tables']
    rows = {row[0]: row for row in reversed(page.rows)}
    assert rows['fast'][:9] == ['fast', '71', '70', '2', '3 of 4', '25 min 00 s', '8', 'stopped', 'bolts']
    assert [row[0] for row in page.rows[1:4]] == ['fast', 'slow', 'broken'] and rows['broken'][7] == 'failed'
    assert rows['optim_wrapper.optimizer.lr'][1:] == ['0.1', '0.2', '0.1']
    assert 'broken failed: bad image &lt;7.png&gt;' in html and 'Segmentation: mIoU 71, fast.' in html
    assert '../runs/fast/20260101_000000/20260101_000000.log' in page.values('href')
    assert html.index('<details>') < html.index('id="the-paper-s-tables"') and 'Confusion: ' in html
    captions = re.findall('<figcaption>(.*)</figcaption>', html)
    assert 'Segmentation: IoU by class at the last validation, of fast, slow.' in captions and len(captions) == 9


def test_runs_that_equal_the_best_one_stand_out_too(tmp_path):
    for name in ('one', 'two'):
        write_run(tmp_path / name, scope='mmpretrain', model='ImageClassifier', metric='accuracy/top1')
    table, = own_runs.sections(*overviews(tmp_path), tmp_path)[0].tables
    assert table.bold == {(0, 1), (1, 1)}


def test_a_page_of_no_runs_is_refused_and_not_written(tmp_path):
    with pytest.raises(UserError, match=f'^no run under {tmp_path}; expected work_dirs of trainings, such as coma-mm train'):
        own_runs.write(tmp_path, tmp_path / 'mine.html')
    (tmp_path / 'photos').mkdir()
    with pytest.raises(UserError, match=r'\(1 folder without one, as photos: no run in it\); expected'):
        own_runs.write(tmp_path, tmp_path / 'mine.html')
    with pytest.raises(UserError, match='^no folder'):
        own_runs.write(tmp_path / 'none', tmp_path / 'mine.html')
    assert not (tmp_path / 'mine.html').exists()


def test_a_folder_of_tests_alone_has_a_page_of_their_tables(tmp_path):
    start = write_run(tmp_path / 'tested') / '20260101_000000'
    (start / 'vis_data/scalars.json').unlink()
    (start / f'{start.name}.json').write_text('{"mIoU": 50.0}')
    own_runs.write(tmp_path, tmp_path / 'mine.html')
    assert 'There are tests alone' in (tmp_path / 'mine.html').read_text()


def test_predictions_that_cannot_be_had_are_said_and_cost_no_page(runs, tmp_path):
    found, others = overviews(runs)
    section = own_runs._predictions(own_runs.grouped(found), 8)
    assert not section.pictures and len(section.notes) == 3
    assert section.notes[0].startswith('fast: no predictions: ') and f'no checkpoint in {runs}/fast' in section.notes[0]


def test_pictures_that_a_run_has_drawn_are_shown(runs):
    folder = runs / 'fast/20260101_000000/vis_data/vis_image'
    folder.mkdir()
    for number in range(9):
        Image.new('RGB', (8, 8)).save(folder / f'val_{number}_10.png')
    section = own_runs._predictions(own_runs.grouped(overviews(runs)[0]), 0)
    assert len(section.pictures) == own_runs.DRAWN and section.pictures[0].caption.endswith('drawn by the run.')


def test_a_pre_training_has_the_curves_of_its_features_and_its_first_and_last_reconstructions(tmp_path):
    run = write_run(tmp_path / 'coma', (.9, .8), 'reconstruction/masked', 'mmpretrain', 'CoMA')
    curves = run / '20260101_000000/vis_data'
    with open(curves / 'scalars.json', 'a') as file:
        file.write('{"probe/rankme_stage1": 5.0, "step": 0}\n{"probe/rankme_stage1": 6.0, "step": 2}\n')
    (curves / 'vis_image').mkdir()
    for count, step in enumerate((90, 100, 110)):
        Image.new('RGB', (8, 8)).save(curves / f'vis_image/reconstructions_{step}.png')
        os.utime(curves / f'vis_image/reconstructions_{step}.png', (count, count))
    found = {one.title: one for one in own_runs.sections(*overviews(tmp_path), tmp_path)}
    assert found['Results'].tables[0].title == 'Pre-training, error, masked'
    assert found['Features while training'].pictures[0].caption == 'coma.'
    first, last = found['Predictions'].pictures
    assert 'coma: reconstructions after 90 iterations' in first.caption and ' 110 iterations' in last.caption
    assert not found['Predictions'].notes


def test_predictions_are_judged_against_the_truth():
    truth = torch.tensor([[0, 0, 1, 255]]).numpy()
    assert mean_iou(truth, torch.tensor([[0, 1, 1, 5]]).numpy()) == .5 and mean_iou(truth[:, 3:], truth[:, :1]) == 1
    boxes = torch.tensor([[0., 0., 8., 8.], [20., 20., 28., 28.]])
    objects = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]))

    def score(boxes, labels, scores):
        return f1(objects, InstanceData(bboxes=boxes, labels=torch.tensor(labels), scores=torch.tensor(scores)))

    assert score(boxes, [0, 1], [.9, .9]) == 1 and score(boxes, [0, 0], [.9, .9]) == .5
    assert score(boxes, [0, 1], [.9, .1]) == pytest.approx(2 / 3)  # one is not certain enough
    assert score(boxes[[0, 0]], [0, 0], [.9, .8]) == .5 and score(boxes[:0], [], []) == 0
    nothing = InstanceData(bboxes=boxes[:0], labels=torch.tensor([]))
    assert f1(nothing, InstanceData(bboxes=boxes[:0], labels=torch.tensor([]), scores=torch.tensor([]))) == 1


def test_the_paper_page_is_there_as_before(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(report, 'run', seen.append)
    args = Namespace(work_dirs=str(tmp_path), out=None, predictions=0, paper=True)
    command.run(args)
    assert seen == [args]
    args.paper = False
    write_run(tmp_path / 'a')
    command.run(args)
    assert (tmp_path / 'your_runs.html').is_file() and len(seen) == 1


def test_a_run_whose_name_is_no_text_has_links_on_the_page(tmp_path):
    write_run(tmp_path / os.fsdecode(b'odd\xff'))
    assert ': 1 run, ' in own_runs.write(tmp_path, tmp_path / 'page.html')
    assert 'href="odd%FF/20260101_000000/20260101_000000.log"' in (tmp_path / 'page.html').read_text()
