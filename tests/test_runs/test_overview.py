"""What is known of a run from its folder, of any library, whatever became of it."""
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.hooks import CheckpointHook

from coma_mm.errors import UserError
from coma_mm.locks import is_held, locked
from coma_mm.runs.comparing import short_names
from coma_mm.runs.metrics import GREATER, LESS
from coma_mm.runs.overview import Overview, differing, overview, overviews, run_of

from ..helpers.made_runs import write_run

TABLE = """+------------+-------+-------+
|   Class    |  IoU  |  Acc  |
+------------+-------+-------+
| background | 96.53 | 98.37 |
|  red bolt  |  nan  |  90.1 |
+------------+-------+-------+
"""


@pytest.mark.parametrize('options, task, metric', [
    (dict(), 'segmentation', 'mIoU'),
    (dict(scope='mmdet', model='FasterRCNN', metric='coco/bbox_mAP', data='CocoDataset'), 'detection', 'coco/bbox_mAP'),
    (dict(scope='mmpretrain', model='ImageClassifier', metric='accuracy/top1'), 'classification', 'accuracy/top1'),
    (dict(scope='mmpretrain', model='MAE', metric='val_loss'), 'pre-training', 'val_loss'),
    (dict(scope='mmpretrain', model='MineToRetrieve', metric='retrieval/Recall@1'), 'MineToRetrieve', 'retrieval/Recall@1')])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_run_of_any_library_is_known_at_a_glance(tmp_path, options, task, metric, by_epoch):
    run = overview(write_run(tmp_path, values=(50., 61., 60.), by_epoch=by_epoch, **options), 'a')
    unit = 1 if by_epoch else 10
    assert (run.task, run.data, run.metric, run.state) == (task, 'bolts', metric, 'stopped')
    assert run.curve == [(1 * unit, 50.), (2 * unit, 61.), (3 * unit, 60.)] and run.last == (3 * unit, 60.)
    assert (run.done, run.total) == (3 * unit, 4 * unit)
    assert run.best == {True: (2 * unit, 61.), False: (1 * unit, 50.), None: None}[run.higher]
    assert run.images_per_s == 8 and run.hours == pytest.approx(25 / 60) and len(run.losses) == 6
    assert run.losses[-1][0] == 3 * unit and run.settings['optim_wrapper.optimizer.lr'] == .1


@pytest.mark.parametrize('options, state, why', [
    (dict(values=(1., 2., 3., 4.)), 'finished', ''),
    (dict(), 'stopped', 'it left no word'),
    (dict(age=1), 'running', ''),
    (dict(age=1, ours=True), 'stopped', 'it left no word: killed, or its machine went down'),
    (dict(ours=True, ending=dict(state='failed', why='CUDA out of memory\x1b')), 'failed', 'CUDA out of memory\\x1b'),
    (dict(ours=True, ending=dict(state='finished', why='')), 'finished', ''),  # early, as one may ask for
    (dict(ending=['odd']), 'stopped', 'it left no word'),
    (dict(loss=float('nan')), 'failed', 'the loss is not finite')])
def test_the_state_of_a_run_and_why(tmp_path, options, state, why):
    run = overview(write_run(tmp_path, **options), 'a')
    assert (run.state, run.why) == (state, why)


def test_one_that_holds_its_lock_runs_and_says_how_long_it_takes_yet(tmp_path):
    write_run(tmp_path, age=0, ours=True)
    (tmp_path / 'new').mkdir()
    with locked(tmp_path), locked(tmp_path / 'new'):
        (tmp_path / 'new/20260101_000000').mkdir()
        runs, others = overviews(tmp_path)
        code = f'from coma_mm.locks import is_held; print([is_held({str(tmp_path)!r} + name) for name in ("", "/none")])'
        found = subprocess.run([sys.executable, '-c', f'import sys; sys.argv = ["coma-mm"]; {code}'], text=True,
                               capture_output=True, check=True)
    assert found.stdout == '[True, False]\n' and not is_held(tmp_path) and not others
    first, second = runs
    assert (first.state, second.state) == ('running', 'starting')
    assert first.left == pytest.approx(20 * 60, abs=5)  # a minute to an iteration, of which 20 are left


def test_amid_the_first_epoch_losses_are_by_the_part_of_it_that_is_done(tmp_path):
    write_run(tmp_path, values=(50., ))
    scalars, = tmp_path.glob('*/vis_data/scalars.json')
    scalars.write_text(scalars.read_text().splitlines()[0] + '\n')
    log, = tmp_path.glob('*/*.log')
    log.write_text(log.read_text().splitlines()[0] + '\n')
    run = overview(tmp_path, 'a')
    assert run.done == .5 and run.losses == [(.5, .2)] and run.metric == 'loss'


def test_what_came_before_a_start_that_failed_is_still_there(tmp_path):
    write_run(tmp_path, ours=True, ending=dict(state='stopped', why='stopped by SIGTERM'))
    (tmp_path / '20260102_000000').mkdir()
    (tmp_path / '20260102_000000/ended.json').write_text(json.dumps(dict(state='failed', why='no space left')))
    run = overview(tmp_path, 'a')
    assert (run.state, run.why, run.last) == ('failed', 'no space left', (2, 60.))
    (tmp_path / 'b/20260102_000000').mkdir(parents=True)
    (tmp_path / 'b/20260102_000000/ended.json').write_text(json.dumps(dict(state='failed', why='bad image')))
    assert overview(tmp_path / 'b', 'b').why == 'bad image'


def test_values_by_class_are_read_from_the_note_or_from_what_was_printed(tmp_path):
    noted = dict(step=2, classes=['a', 'b'], values={'IoU': [1., None]})
    assert overview(write_run(tmp_path / 'a', classes=noted), 'a').classes == noted
    found = overview(write_run(tmp_path / 'b', log=TABLE), 'b').classes
    assert found == dict(step=2, classes=['background', 'red bolt'], values=dict(IoU=[96.53, None], Acc=[98.37, 90.1]))
    odd = dict(classes=['a'], values={'IoU': [1., 2.]})
    assert overview(write_run(tmp_path / 'c', classes=odd), 'c').classes is None


def test_settings_that_differ_are_few_and_none_is_a_path_of_output(tmp_path):
    runs = [overview(write_run(tmp_path / name, **options), name) for name, options in (
        ('a', dict(lr=.2)), ('b', dict(backbone='DyViT')), ('c', dict(epochs=8)))]
    assert differing(runs) == {'optim_wrapper.optimizer.lr': [.2, .1, .1], 'train_cfg.max_epochs': [4, 4, 8],
                               'model.backbone.type': ['ResNet', 'DyViT', 'ResNet']}


def test_what_is_no_run_is_said_and_costs_no_other(tmp_path):
    write_run(tmp_path / 'a')
    write_run(tmp_path / 'b')
    next((tmp_path / 'b').glob('*/vis_data/config.py')).write_text('model = 5\n')
    (tmp_path / 'photos').mkdir()
    runs, others = overviews(tmp_path)
    assert [run.name for run in runs] == ['a']
    assert others == [('b', 'its config has no key model'), ('photos', 'no run in it')]
    with pytest.raises(UserError, match=f'^no folder {tmp_path}/none; expected one with work_dirs'):
        overviews(tmp_path / 'none')


@pytest.mark.parametrize('name, expected', [
    ('none', 'no run or checkpoint .*/none; expected the work_dir of a training'),
    ('photos', r'.*/photos is no run \(nothing was logged .*\); expected the work_dir'),
    ('.', r'.* is no run \(.*\); .*; it has runs in it: a$'), ('a/notes.txt', '.*notes.txt is no run')])
def test_a_path_that_is_no_run_is_one_line(tmp_path, name, expected):
    write_run(tmp_path / 'a')
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'a/notes.txt').touch()
    with pytest.raises(UserError, match=expected):
        run_of(tmp_path / name)


def test_a_checkpoint_stands_for_its_run_at_its_epoch(tmp_path):
    write_run(tmp_path / 'a')
    for name, step in (('epoch_2.pth', 2), ('best_mIoU_epoch_1.pth', 1), ('model.pth', None)):
        (tmp_path / 'a' / name).touch()
        run, found = run_of(tmp_path / 'a' / name)
        assert (run.folder, found) == (tmp_path / 'a', step)


def test_a_probe_of_random_weights_is_not_the_best_of_a_run():
    run = Overview(Path('run'), 'run', 'finished', metric='probe/rankme_stage4', higher=True,
                   curve=[(0, 9.), (1, 7.), (2, 8.)])
    assert run.best == (2, 8.) and replace(run, curve=[(0, 9.)]).best is None


def test_names_of_metrics_are_judged_as_mmengine_does():
    assert (list(GREATER), list(LESS)) == (CheckpointHook._default_greater_keys, CheckpointHook._default_less_keys)


@pytest.mark.parametrize('classes', [
    [], dict(classes=5, values=[]), dict(classes=['a'], values=[]), dict(classes=['a'], values=dict(IoU=['x'])),
    dict(classes=['a'], values=dict(IoU=[1.]), confusion=[[1., 2.]]),
    dict(classes=['a'], values=dict(IoU=[1.]), confusion=3)])
def test_classes_of_another_form_are_left_out_and_the_run_is_shown(tmp_path, classes):
    run = overview(write_run(tmp_path, classes=classes), 'a')
    assert run.classes is None and run.last == (2, 60.)


def test_a_torn_line_of_the_log_and_a_clock_that_is_behind_do_not_matter(tmp_path):
    torn = '2026/13/45 25:61:61 - mmengine - INFO - Epoch(train)  [3][ 5/10]  lr: 1\n'
    run = overview(write_run(tmp_path / 'a', log=torn), 'a')
    assert run.last == (2, 60.) and run.done == 2
    ahead = overview(write_run(tmp_path / 'b', age=-86_400), 'b')
    assert ahead.left == pytest.approx(1800, rel=.5)


def test_names_are_printed_in_one_line_whatever_is_in_them(tmp_path):
    write_run(tmp_path / 'two\nlines')
    write_run(tmp_path / os.fsdecode(b'odd\xff'))
    assert [run.name for run in overviews(tmp_path)[0]] == ['odd\\udcff', 'two\\nlines']
    assert short_names([str(tmp_path / 'two\nlines'), str(tmp_path / 'b')]) == ['two\\nlines', 'b']


def test_each_file_of_a_run_is_read_once_and_a_line_that_is_being_written_is_left_out(tmp_path, monkeypatch):
    write_run(tmp_path, values=(50., ))
    write_run(tmp_path, values=(60., 61.), name='20260102_000000', log=TABLE)
    with open(tmp_path / '20260102_000000/vis_data/scalars.json', 'a') as file:
        file.write('{"lr": 0.1, "loss": 0.2, "st')
    opened = []
    monkeypatch.setattr('coma_mm.files.open_regular', lambda path, *_: opened.append(path) or open(path, 'rb'))
    run = overview(tmp_path, 'a')
    assert run.curve == [(1, 60.), (2, 61.)] and len(run.losses) == 4 and run.classes['step'] == 2
    read = sorted(path.name for path in opened if path.name.endswith(('.log', 'scalars.json')))
    assert read == ['20260102_000000.log', 'scalars.json', 'scalars.json']  # the first start's log is of a run before it


def test_runs_behind_links_are_found_once_and_a_link_upward_ends_nothing(tmp_path):
    write_run(tmp_path / 'disk/a')
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/runs').symlink_to(tmp_path / 'disk')
    (tmp_path / 'work/same').symlink_to(tmp_path / 'disk/a')
    (tmp_path / 'disk/up').symlink_to(tmp_path / 'work')
    write_run(tmp_path / 'work/own')
    (tmp_path / 'work/last').symlink_to('own')
    runs, others = overviews(tmp_path / 'work')
    assert [run.name for run in runs] == ['own', 'runs/a'] and others == []
