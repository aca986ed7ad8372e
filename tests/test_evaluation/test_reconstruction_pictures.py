"""The picture at each validation of a pre-training: who gets it, how many are kept, and what it never stops."""
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.runner import IterBasedTrainLoop
from mmengine.visualization import LocalVisBackend

from coma_mm.errors import UserError
from coma_mm.evaluation import ReconstructionsHook, reconstruction_pictures
from coma_mm.models import MaskedAutoencoder
from coma_mm.visualization.tracking import ValidationPicturesHook

WHITE = np.full((8, 8, 3), 255, np.uint8)


class Tracker:
    """Keeps what it is given."""

    def __init__(self):
        self.given = []

    def add_image(self, name, image, step):
        self.given.append((name, image.shape, step))


@pytest.fixture
def run(tmp_path):
    """What the hook looks at of a run of 100 iterations, whose work dir is a local one, and which a tracker follows."""
    loop = object.__new__(IterBasedTrainLoop)
    local, tracker = LocalVisBackend(str(tmp_path)), Tracker()
    return SimpleNamespace(
        model=object.__new__(MaskedAutoencoder), _train_loop=loop, train_loop=loop, iter=0, max_iters=100, hooks=[],
        logger=logging.getLogger('run'), val_dataloader=SimpleNamespace(dataset=[0]), tracker=tracker,
        visualizer=SimpleNamespace(_vis_backends=dict(local=local, tracker=tracker)))


def validate(hook, run, *iterations):
    for run.iter in iterations:
        run._train_loop._iter = run.iter
        hook.after_val_epoch(run)


def drawn(folder):
    return [int(file.stem.partition('_')[2]) for file in reconstruction_pictures.pictures_in(folder / 'vis_image')]


def test_the_first_picture_and_the_latest_ones_are_kept_and_a_tracker_has_all(run, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction_pictures, 'reconstruction_picture', lambda *_: WHITE)
    hook = ReconstructionsHook(keep=4, max_share=1.)
    hook.before_train(run)
    steps = [9, 20, 100, 110, 120]
    for count, step in enumerate(steps, 1):
        validate(hook, run, step)
        assert drawn(tmp_path) == (steps[:count] if count < 5 else [9, 100, 110, 120])
    assert run.tracker.given == [('val/reconstructions', (8, 8, 3), step) for step in steps]
    run.hooks = [ValidationPicturesHook()]  # of --tracker, which draws more finely
    validate(hook, run, 130)
    assert drawn(tmp_path) == [9, 110, 120, 130] and len(run.tracker.given) == 5


def test_pictures_that_would_take_too_long_are_left_out_but_for_the_first_and_the_last(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(reconstruction_pictures, 'reconstruction_picture', lambda *_: WHITE)
    hook = ReconstructionsHook(max_share=0.)
    hook.before_train(run)
    validate(hook, run, 10, 20, 30, 100)
    assert drawn(tmp_path) == [10, 100]
    with caplog.at_level(logging.INFO):
        hook.after_train(run)
    line, = caplog.messages
    assert line.startswith('Drawing 2 pictures of reconstructions took 0.')
    assert line.endswith(' of the time of this run; 2 validations have none, for max_share=0')


def test_what_cannot_be_drawn_is_said_once_and_other_models_have_no_picture(run, tmp_path, monkeypatch, caplog):
    def draw(*_):
        torch.rand(1), np.random.rand()
        return {}['ids_keep']

    monkeypatch.setattr(reconstruction_pictures, 'reconstruction_picture', draw)
    hook, before = ReconstructionsHook(), (torch.get_rng_state(), np.random.get_state()[1].copy())
    hook.before_train(run)
    validate(hook, run, 10, 20)
    hook.after_train(run)
    assert caplog.messages == ["cannot draw the reconstructions (KeyError: 'ids_keep'); training goes on without pictures"]
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    run.model = torch.nn.Identity()
    hook.before_train(run)
    validate(hook, run, 30)
    assert len(caplog.messages) == 1 and drawn(tmp_path) == []
    with pytest.raises(UserError, match='ReconstructionsHook: keep=1: expected a whole number, 2 or more'):
        ReconstructionsHook(keep=1)
