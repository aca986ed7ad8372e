"""What a resumed checkpoint says about files removes none but the run's own checkpoints."""
import logging
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from coma_mm.engine import LossSpikeHook, WholeCheckpointHook


def resumed(work_dir, said, **settings):
    """The hook in a run that was resumed from a checkpoint whose message hub says so, after it saved twice."""
    hub = MessageHub(f'{work_dir}')
    hub.runtime_info.update(said)
    runner = SimpleNamespace(work_dir=str(work_dir), message_hub=hub, logger=logging.getLogger(), iter=4, _resume=True,
                             _load_from=f'{work_dir}/epoch_4.pth')
    hook = WholeCheckpointHook(**settings)
    hook.save = lambda runner, name, meta: hook._write(runner, f'{work_dir}/{name}', {})
    hook.before_train(runner)
    for step in (5, 6):
        hook._save_checkpoint_with_step(runner, step, {})
    return hook


@pytest.mark.parametrize('max_keep_ckpts', [1, 2])
def test_the_steps_to_remove_are_whole_numbers(tmp_path, max_keep_ckpts):
    work_dir = tmp_path / 'run'
    (work_dir / 'epoch_').mkdir(parents=True)
    (work_dir / 'epoch_3.pth').mkdir()
    others = [tmp_path / 'thesis.pth', work_dir / 'epoch_' / 'one.pth', work_dir / 'epoch_3.pth' / 'letter.txt']
    for path in others:
        path.write_text('mine')
    (tmp_path / 'folder.pth').mkdir()
    for step in (1, 2, 4):
        (work_dir / f'epoch_{step}.pth').write_text('old')
    (work_dir / 'epoch_4.pth').unlink()
    (work_dir / 'epoch_4.pth').symlink_to(tmp_path / 'thesis.pth')
    kept = ['/../../thesis', '/../../folder', '/one', '3', 1, True, None, -1, 2.5, 2, 3, 4]
    hook = resumed(work_dir, dict(keep_ckpt_ids=kept), max_keep_ckpts=max_keep_ckpts)
    assert all(path.read_text() == 'mine' for path in others) and (tmp_path / 'folder.pth').is_dir()
    assert sorted(path.name for path in work_dir.glob('epoch_[1256].pth')) == [
        f'epoch_{step}.pth' for step in (5, 6)[2 - max_keep_ckpts:]]
    assert list(hook.keep_ckpt_ids) == [5, 6][2 - max_keep_ckpts:]


@pytest.mark.parametrize('kept', ['123', 7, {1: 2}, None])
def test_steps_that_are_no_list_are_none(tmp_path, kept):
    assert list(resumed(tmp_path, dict(keep_ckpt_ids=kept), max_keep_ckpts=3).keep_ckpt_ids) == [5, 6]


def test_only_names_of_checkpoints_are_removed(tmp_path):
    names = ('provenance.json', 'last_checkpoint', 'other.pth', 'best_other.pth', 'config.py')
    for name in names:
        (tmp_path / name).write_text('mine')
        resumed(tmp_path, dict(interrupted_ckpt=f'/elsewhere/{name}', best_ckpt=name, last_ckpt=name), save_best='acc')
    assert all((tmp_path / name).exists() for name in names)
    for name in ('stopped_3.pth', 'epoch_3.pth', 'best_acc_epoch_3.pth'):
        (tmp_path / name).write_text('ours')
        resumed(tmp_path, dict(interrupted_ckpt=f'/elsewhere/{name}'))
        assert not (tmp_path / name).exists()


def test_the_best_checkpoint_is_one_by_its_name(tmp_path):
    ours = 'best_acc_epoch_3.pth'
    for said, best in ((f'/elsewhere/{ours}', f'{tmp_path}/{ours}'), ('config.py', None), (7, None)):
        assert resumed(tmp_path, dict(best_ckpt=said), save_best='acc').best_ckpt_path == best
        hook = resumed(tmp_path, {'best_ckpt_acc': said, 'best_ckpt_loss': None}, save_best=['acc', 'loss'])
        assert hook.best_ckpt_path_dict == dict(acc=best, loss=None)


def test_the_good_checkpoint_is_in_the_runs_folder_whatever_is_said(tmp_path):
    hook = LossSpikeHook()
    hook.saver = SimpleNamespace(out_dir=str(tmp_path))
    assert [hook._path(said) for said in ('/a/iter_3.pth', 7)] == [f'{tmp_path}/iter_3.pth', f'{tmp_path}/7']
