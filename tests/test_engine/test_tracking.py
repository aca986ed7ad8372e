"""Trackers show everything over iterations, and a run does without them if it must."""
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.visualization import LocalVisBackend, MLflowVisBackend, Visualizer, WandbVisBackend
from mmengine.visualization.vis_backend import BaseVisBackend

from coma_mm.engine.tracking import host_memory, set_up, trackers


class Backend(BaseVisBackend):
    """Keeps what it is given."""
    experiment = None

    def __init__(self):
        super().__init__('.')
        self.given, self.closed = [], False

    def _init_env(self):
        pass

    def add_scalars(self, scalars, step=0, file_path=None, **kwargs):
        self.given.append((scalars, step))

    def add_image(self, name, image, step=0, **kwargs):
        self.given.append((name, step))


class Wandb(WandbVisBackend):
    """Talks to a stand-in of the package, which has no `join`, an old name of `finish`."""

    def _init_env(self):
        self.rows, self.closed = [], False
        self._wandb = SimpleNamespace(log=lambda row, commit=True: self.rows.append(row), Image=lambda image: image.shape,
                                      finish=lambda: setattr(self, 'closed', True))


class Mlflow(MLflowVisBackend):
    """Talks to a stand-in of the package."""

    def _init_env(self):
        self.rows = []
        self._mlflow = SimpleNamespace(log_metrics=lambda row, step: self.rows.append((row, step)),
                                       log_image=lambda image, name: self.rows.append(name))


class Failing(Backend):

    def add_scalars(self, *args, **kwargs):
        raise ConnectionError('no such server\n…')


@pytest.fixture
def runner(caplog):
    caplog.set_level(logging.INFO)
    return SimpleNamespace(_train_loop=SimpleNamespace(iter=118), logger=logging.getLogger('tracked'))


def visualizer(runner, *backends):
    built = Visualizer(name='tracked', vis_backends=list(backends))
    set_up(built, runner)
    return built


def log(built):
    """What mmengine's LoggerHook logs of an iteration, and of the validation after it, at the number of the epoch."""
    built.add_scalars(dict(loss=2., time=.5, iter=118), step=118, file_path='a.json')
    built.add_scalars(dict(mIoU=30., time=.1), step=1, file_path='a.json')


def test_metrics_are_at_the_iteration_and_times_of_validation_have_their_own_names(runner):
    backend = Backend()
    log(visualizer(runner, backend))
    (train, at), (val, later) = backend.given
    assert (at, later) == (118, 118)
    assert train.pop('train/host_memory') == pytest.approx(host_memory(), rel=.5)
    assert train == {'train/loss': 2., 'train/time': .5} and val == {'val/mIoU': 30., 'val/time': .1}


def test_names_that_have_their_place_already_keep_it(runner):
    backend = Backend()
    built = visualizer(runner, backend)
    built.add_scalars({'val/mIoU': 30.}, step=1, file_path='a.json')
    built.add_scalars(dict(own=1.), step=7)  # of another hook
    assert backend.given == [({'val/mIoU': 30.}, 118), (dict(own=1.), 7)]


def test_files_of_the_work_dir_are_as_mmengine_writes_them(runner, tmp_path):
    backend = LocalVisBackend(str(tmp_path))
    built = visualizer(runner, backend)
    log(built)
    assert trackers(built) == []
    lines = [json.loads(line) for line in (tmp_path / 'scalars.json').read_text().splitlines()]
    assert lines == [dict(loss=2., time=.5, iter=118, step=118), dict(mIoU=30., time=.1, step=1)]


def test_a_visualizer_of_an_earlier_run_in_the_process_counts_the_new_ones_iterations(runner):
    backend = Backend()
    built = visualizer(runner, backend)
    set_up(built, SimpleNamespace(_train_loop=dict(), logger=runner.logger))  # nothing is trained
    log(built)
    assert backend.given[1] == ({'val/mIoU': 30., 'val/time': .1}, 0)


def test_weights_and_biases_gets_the_iteration_with_each_row(runner):
    backend = Wandb('.')
    built = visualizer(runner, backend)
    log(built)
    built.add_image('val/predictions', np.zeros((2, 3, 3), np.uint8), 118)
    assert [row['iter'] for row in backend.rows] == [118, 118, 118]
    assert backend.rows[1]['val/mIoU'] == 30. and backend.rows[2]['val/predictions'] == (2, 3, 3)
    built.close()
    assert backend.closed


def test_mlflow_keeps_the_picture_of_each_validation(runner, monkeypatch):
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://here')
    backend, own = Mlflow('.'), Mlflow('.', tracking_uri='http://there')
    built = Visualizer(name='tracked', vis_backends=[backend])
    built._vis_backends['own'] = own
    set_up(built, runner)
    assert (backend._tracking_uri, own._tracking_uri) == ('http://here', 'http://there')
    log(built)
    for step in (118, 236):
        built.add_image('val/predictions', np.zeros((2, 3, 3), np.uint8), step)
    assert backend.rows[1] == ({'val/mIoU': 30., 'val/time': .1}, 118)
    assert backend.rows[2:] == ['val/predictions_00000118.png', 'val/predictions_00000236.png']


def test_a_tracker_that_fails_is_said_once_and_the_others_go_on(runner, caplog):
    backend = Backend()
    built = visualizer(runner, Failing(), backend)
    log(built)
    log(built)
    assert len(backend.given) == 4
    assert caplog.messages == ['cannot write to Failing: no such server; training goes on']
