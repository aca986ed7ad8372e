"""What a run of ours leaves is what is read."""
import pytest

from coma_mm.engine.train import train
from coma_mm.errors import UserError
from coma_mm.runs.overview import overview, run_of

from ..helpers.faulty_runs import make_cfg
from ..test_engine.test_ending import EndsHook


def test_a_training_of_ours_is_read_as_it_was_whether_it_failed_or_came_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(EndsHook, 'error', UserError('no image 7.png'))
    for name, hooks in (('whole', []), ('broken', [dict(type='EndsHook', after=5)])):
        cfg = make_cfg(tmp_path / name, visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]))
        cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
        cfg.custom_hooks += hooks
        if hooks:
            with pytest.raises(UserError):
                train(cfg)
        else:
            train(cfg)
    whole, broken = (overview(tmp_path / name, name) for name in ('whole', 'broken'))
    assert (whole.state, whole.done, whole.total, whole.unit, whole.metric) == ('finished', 8, 8, 'iteration', 'loss')
    assert [step for step, _ in whole.losses] == [*range(1, 9)] and whole.images_per_s > 0
    assert (broken.state, broken.why, broken.done) == ('failed', 'no image 7.png', 5)
    assert run_of(tmp_path / 'broken/iter_4.pth')[1] == 4 and whole.settings['optim_wrapper.optimizer.lr'] == .01
