"""At each validation the trackers of a run get a picture, which changes nothing of the run."""
import io
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.visualization import LocalVisBackend
from PIL import Image

from coma_mm.engine import ComaRunner
from coma_mm.visualization import tracking
from coma_mm.visualization.tracking import ValidationPicturesHook, as_array
from tests.helpers.small_models import model_settings


class Backend:
    """Keeps what it is given."""

    def __init__(self):
        self.given = []

    def add_image(self, name, image, step):
        self.given.append((name, image.shape, step))


def run(model, *backends):
    """What the hook looks at of a run, after its 118th iteration."""
    return SimpleNamespace(
        visualizer=SimpleNamespace(_vis_backends=dict(enumerate(backends))), model=model, logger=logging.getLogger('run'),
        val_dataloader=SimpleNamespace(dataset=[0]), _train_loop=SimpleNamespace(iter=118))


@pytest.mark.parametrize('kind, name', [
    ('MaskedAutoencoder', 'reconstructions'), ('BaseSegmentor', 'predictions'), ('BaseDetector', 'predictions'),
    ('BaseClassifier', 'predictions')])
def test_each_task_has_its_picture(monkeypatch, kind, name):
    drawn, backend = [], Backend()

    def draw(model, dataset, number):
        torch.rand(1), np.random.rand()  # as a pipeline may
        drawn.append((model, dataset, number))
        return Figure(figsize=(2, 1))

    monkeypatch.setitem(tracking.FIGURES, kind, (name, draw))
    model = type('Mine', (type(kind, (torch.nn.Module, ), {}), ), {})()
    before = torch.get_rng_state(), np.random.get_state()[1]
    ValidationPicturesHook(number=3).after_val_epoch(run(model, backend, LocalVisBackend('.')))
    assert drawn == [(model, [0], 3)] and backend.given == [(f'val/{name}', (tracking.DPI, 2 * tracking.DPI, 3), 118)]
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


def test_nothing_is_drawn_without_a_tracker_or_for_another_model(monkeypatch):
    monkeypatch.setattr(tracking, 'FIGURES', dict(Linear=('predictions', None)))
    ValidationPicturesHook().after_val_epoch(run(torch.nn.Linear(1, 1), LocalVisBackend('.')))
    ValidationPicturesHook().after_val_epoch(run(torch.nn.ReLU(), Backend()))


def test_what_cannot_be_drawn_is_said_once_and_training_goes_on(monkeypatch, caplog):
    monkeypatch.setitem(tracking.FIGURES, 'Linear', ('predictions', lambda *_: {}['masks']))
    hook, backend = ValidationPicturesHook(), Backend()
    for _ in range(2):
        hook.after_val_epoch(run(torch.nn.Linear(1, 1), backend))
    assert backend.given == [] and caplog.messages == [
        "cannot draw the predictions for the tracker (KeyError: 'masks'); training goes on without pictures"]


def test_a_figure_is_an_image_in_its_colours():
    figure = Figure(figsize=(1, 2), facecolor=(1., 0., 0.))
    image = as_array(figure)
    assert image.shape == (2 * tracking.DPI, tracking.DPI, 3) and image.dtype == np.uint8
    assert (image == [255, 0, 0]).all()


@pytest.fixture(scope='module')
def pretraining(tmp_path_factory):
    """The config of a pre-training of two epochs of two iterations, tracked by TensorBoard."""
    tmp_path = tmp_path_factory.mktemp('pretraining')
    (tmp_path / 'images').mkdir()
    for index in range(4):
        Image.fromarray(np.random.randint(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / f'images/{index}.png')
    pipeline = [dict(type='LoadImage'), dict(type='PatchMask'), dict(type='PackMaskedImage')]
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='default_collate'),
                  dataset=dict(type='ImageFolder', data_root=str(tmp_path / 'images'), pipeline=pipeline))
    return Config(dict(
        default_scope='mmpretrain', work_dir=str(tmp_path / 'run'), randomness=dict(seed=0),
        model=dict(type='CoMA', data_preprocessor=dict(type='MaskedImagePreprocessor'), **model_settings()),
        train_dataloader=loader, val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(type='ReconstructionError'),
        train_cfg=dict(by_epoch=True, max_epochs=2), optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[dict(type='IterationSeedHook'), dict(type='EvaluationModelHook'),
                      dict(type='ValidationPicturesHook', number=1)],
        visualizer=dict(type='Visualizer', vis_backends=[
            dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])))


@pytest.fixture(scope='module')
def tracked(pretraining):
    """The runner of that run, which has ended."""
    pytest.importorskip('tensorboard', reason="needs the extra 'test'")
    runner = ComaRunner.from_cfg(Config(pretraining.to_dict()))
    runner.train()
    return runner


def test_tensorboard_has_curves_and_pictures_over_iterations(tracked):
    from tensorboard.backend.event_processing import event_accumulator
    found = event_accumulator.EventAccumulator(f'{tracked.log_dir}/vis_data')
    found.Reload()
    curves = {name: [point.step for point in found.Scalars(name)] for name in found.Tags()['scalars']}
    for name in ('loss', 'lr', 'images_per_s', 'data_share', 'host_memory'):
        assert curves[f'train/{name}'] == [1, 2, 3, 4], name
    assert curves['val/reconstruction/masked'] == curves['val/time'] == [2, 4]
    assert all(name.split('/')[0] in ('train', 'val') for name in curves)
    pictures = found.Images('val/reconstructions')
    assert [picture.step for picture in pictures] == [2, 4]
    shown = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)))
    assert shown.shape[2] == 3 and shown.std() > 20


def test_what_is_drawn_changes_nothing_of_the_run(pretraining, tracked):
    cfg = Config(dict(pretraining.to_dict(), work_dir=f'{pretraining.work_dir}-bare'))
    cfg.merge_from_dict(dict(custom_hooks=cfg.custom_hooks[:2], visualizer=dict(vis_backends=[])))
    runner = ComaRunner.from_cfg(cfg)
    runner.train()
    weights = tracked.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in runner.model.state_dict().items())
