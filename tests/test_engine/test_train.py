"""A run keeps to its own files: in a folder that it shares, and when it fails at its start."""
import os
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS

from coma_mm.engine import StopHook
from coma_mm.engine import train as train_module
from coma_mm.engine.train import train
from coma_mm.errors import UserError
from coma_mm.locks import locked
from coma_mm.weights import load_weights_only
from tests.helpers.faulty_runs import make_cfg


@HOOKS.register_module()
class OthersHook(StopHook):
    """While a run starts, others write into its folder; then it fails."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for path in others(runner.work_dir, runner.timestamp):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('of others')
        raise ValueError('bad')


def others(work_dir, timestamp):
    return [Path(work_dir, *parts) for parts in (
        ('notes.txt', ), ('19990101_000000', '19990101_000000.log'), ('epoch_1.pth', ), ('test', 'metrics.json'),
        (timestamp, 'mine.txt'), (timestamp, 'vis_data', 'mine.json'))]


def files(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())


@pytest.mark.parametrize('before', [(), ('notes.txt', 'provenance.json', 'any.py', '20260101_000000/vis_data/config.py')])
def test_a_run_that_fails_at_its_start_removes_what_it_has_written_and_nothing_else(tmp_path, before):
    folder = tmp_path / 'a/b'
    for name in before:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('before')
    cfg = make_cfg(folder)
    cfg._filename = 'any.py'
    cfg.custom_hooks = [dict(type='OthersHook')]
    with pytest.raises(ValueError, match='bad'):
        train(cfg)
    stamp, = {path.parent.name for path in folder.glob('*/mine.txt')}
    assert files(folder) == sorted({*others(folder, stamp), *(folder / name for name in before)})
    # Without others it leaves nothing, empty folders included.
    cfg = make_cfg(tmp_path / 'c/d', model=dict(type='NoModel'))
    with pytest.raises(KeyError):
        train(cfg)
    assert not (tmp_path / 'c').exists()


def test_two_runs_of_one_second_have_their_own_folders_of_logs(tmp_path):
    now = time.time()
    taken = {time.strftime('%Y%m%d_%H%M%S', time.localtime(now + second)) for second in range(20)}
    for name in taken:
        (tmp_path / name).mkdir()
    train(make_cfg(tmp_path, iterations=1))
    own, = {path.name for path in tmp_path.iterdir() if path.is_dir()} - taken
    assert (tmp_path / own / f'{own}.log').exists() and not files(tmp_path / min(taken))


def iterations(path):
    return load_weights_only(path)['meta']['iter']


def test_a_new_run_does_not_start_among_an_older_ones_checkpoints(tmp_path, monkeypatch):
    train(make_cfg(tmp_path, iterations=4, resume=True))  # there is nothing to resume
    before = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    expected = (rf'{tmp_path} holds checkpoints of an earlier run \(iter_4.pth, last_checkpoint\), .*\(--resume\).*'
                r'\(--overwrite\), or choose another --work-dir')
    with pytest.raises(UserError, match=expected):
        train(make_cfg(tmp_path, iterations=8))
    assert {path: path.stat().st_mtime_ns for path in files(tmp_path)} == before
    monkeypatch.setenv('RANK', '1')  # left over: without a launcher each process is a run
    (tmp_path / 'last_checkpoint').unlink()
    with pytest.raises(UserError, match=r'\(iter_4.pth\)'):
        train(make_cfg(tmp_path, iterations=8))
    train(make_cfg(tmp_path, iterations=6), overwrite=True)
    assert iterations(tmp_path / 'iter_6.pth') == 6
    train(make_cfg(tmp_path, iterations=8, resume=True))
    assert iterations(tmp_path / 'iter_8.pth') == 8


def test_a_run_in_the_place_of_another_one_never_goes_on_with_it(tmp_path, monkeypatch):
    train(make_cfg(tmp_path, iterations=4))
    note = tmp_path / 'last_checkpoint'
    before = note.read_bytes()
    with pytest.raises(KeyError):  # bad input changes nothing
        train(make_cfg(tmp_path, iterations=8, model=dict(type='NoModel')), overwrite=True)
    assert note.read_bytes() == before

    def killed(*_):
        raise SystemExit(137)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):  # by a signal, while it is being built
        patch.setattr('coma_mm.engine.train.check_data_roots', killed)
        train(make_cfg(tmp_path, iterations=8), overwrite=True)
    assert not note.exists()
    train(make_cfg(tmp_path, iterations=2, resume=True))  # as torchrun starts it again; the old one had 4
    assert {path.name for path in tmp_path.glob('*.pth')} == {'iter_2.pth', 'iter_4.pth'}


def test_nor_does_a_run_that_branches_off_from_another_one(tmp_path):
    for name in 'ab':
        train(make_cfg(tmp_path / name, iterations=4))
    for resumed, refused in (('a', True), ('b', False)):
        cfg = make_cfg(tmp_path / 'b', iterations=6, resume=True, load_from=str(tmp_path / resumed / 'iter_4.pth'))
        if refused:
            with pytest.raises(UserError, match='b holds checkpoints of an earlier run'):
                train(cfg)
        else:
            train(cfg)


def test_a_folder_for_checkpoints_alone_is_guarded_too(tmp_path):
    hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4, out_dir=str(tmp_path / 'big')))
    train(make_cfg(tmp_path / 'a/run', iterations=4, default_hooks=hooks))
    with pytest.raises(UserError, match='big/run holds checkpoints of an earlier run'):
        train(make_cfg(tmp_path / 'b/run', iterations=4, default_hooks=hooks))
    with locked(tmp_path / 'big/run'), pytest.raises(UserError, match='big/run is in use'):
        train(make_cfg(tmp_path / 'b/run', default_hooks=hooks), overwrite=True)
    assert not (tmp_path / 'b').exists()
    train(make_cfg(tmp_path / 'a/run', iterations=8, default_hooks=hooks, resume=True))
    assert iterations(tmp_path / 'big/run/iter_8.pth') == 8


def test_only_unfinished_files_of_ones_own_names_are_cleared_away(tmp_path):
    names = ['iter_7.pth.tmp', 'stopped_3.pth.tmp', 'best_acc_iter_7.pth.tmp', 'mine.pth.tmp', 'iter_x.pth.tmp', 'a.tmp']
    for name in names:
        (tmp_path / name).write_text('')
    train(make_cfg(tmp_path, iterations=1))
    assert {path.name for path in tmp_path.glob('*.tmp')} == {*names[3:]}


def test_of_a_run_of_several_processes_the_first_one_has_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr('coma_mm.engine.train._train', lambda cfg, hooks, extend: os.listdir(tmp_path))
    monkeypatch.setattr('coma_mm.locks.PATIENCE', 0)
    cfg = make_cfg(tmp_path, launcher='pytorch')
    monkeypatch.setenv('RANK', '1')
    with locked(tmp_path):
        assert train(cfg) == ['.lock']
        monkeypatch.setenv('RANK', '0')
        with pytest.raises(UserError, match=f'is in use: .* process {os.getpid()}'):
            train(cfg)
    assert train(cfg) == ['.lock'] and not files(tmp_path)


def test_a_test_looks_for_class_ids_out_of_range_too(monkeypatch):
    monkeypatch.setattr(train_module, '_check_checkpoint', lambda path: None)
    monkeypatch.setattr(train_module, '_run', lambda cfg, *args: ([hook.type for hook in cfg.custom_hooks], {}, None))
    cfg = Config(dict(load_from='', test_dataloader={}, test_cfg={}, test_evaluator={}, custom_hooks=[dict(type='MyHook')]))
    assert train_module.test(cfg) == ['MyHook', 'LabelCheckHook', 'SummaryHook']
    assert train_module.test(cfg) == ['MyHook', 'LabelCheckHook', 'SummaryHook']
