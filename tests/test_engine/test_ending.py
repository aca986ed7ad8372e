"""How a run ended is in its folder."""
import json

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from coma_mm.engine.train import train
from coma_mm.errors import Stopped, UserError
from tests.helpers.faulty_runs import make_cfg


@HOOKS.register_module()
class EndsHook(Hook):
    """Raises an error after an iteration, or before the first one."""

    error = None

    def __init__(self, after=2):
        self.after = after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.after:
            raise self.error


@pytest.fixture
def raised(monkeypatch):
    return lambda error: monkeypatch.setattr(EndsHook, 'error', error)


def ended(folder):
    return [{key: note[key] for key in ('state', 'why', 'iter')}
            for note in (json.loads(path.read_text()) for path in sorted(folder.glob('*/ended.json')))]


@pytest.mark.parametrize('error, state, why', [
    (Stopped('stopped by SIGTERM after 2 of 8 iterations'), 'stopped', 'stopped by SIGTERM after 2 of 8 iterations'),
    (UserError('no image 7.png'), 'failed', 'no image 7.png'),
    (KeyError('depth'), 'failed', "KeyError: 'depth'"),
    (RuntimeError('CUDA out of memory.\nTried to allocate 2 GiB'), 'failed', None)])
def test_why_a_run_ended_is_noted_in_one_line(tmp_path, raised, error, state, why):
    cfg = make_cfg(tmp_path, iterations=8)
    cfg.custom_hooks.append(dict(type='EndsHook'))
    raised(error)
    with pytest.raises(type(error)):
        train(cfg)
    note, = ended(tmp_path)
    assert (note['state'], note['iter']) == (state, 2) and note['why'] == (why or note['why'])
    assert 'memory' in note['why'] or why
    assert '\n' not in note['why']


def test_a_run_that_came_to_its_end_says_so_and_one_that_was_refused_nothing(tmp_path, raised):
    train(make_cfg(tmp_path / 'whole', iterations=2))
    assert ended(tmp_path / 'whole') == [dict(state='finished', why='', iter=2)]
    cfg = make_cfg(tmp_path / 'refused', iterations=2)
    cfg.custom_hooks.append(dict(type='EndsHook', after=0))
    raised(UserError('bad'))
    with pytest.raises(UserError):
        train(cfg)
    assert not (tmp_path / 'refused').exists()
