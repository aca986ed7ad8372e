"""Five lines of Python: the verbs of the package."""
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

import coma_mm
from coma_mm import api
from coma_mm.errors import UserError
from coma_mm.weights import load_weights_only

from .helpers.described import write_checkpoint

SMALL = {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
         'val_dataloader.num_workers': 0, 'val_dataloader.persistent_workers': False}


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A folder of 48 images of noise, and the folder to work in."""
    folder = tmp_path_factory.mktemp('api')
    os.makedirs(folder / 'photos')
    rng = np.random.default_rng(0)
    for number in range(48):
        Image.fromarray(rng.integers(0, 256, (72, 80, 3), np.uint8)).save(folder / f'photos/{number}.png')
    return folder


@pytest.fixture(scope='module')
def pretrained(photos):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(photos)
        return coma_mm.pretrain('photos', arch='tiny', epochs=2, out='runs/mine', options=SMALL)


def test_the_package_hands_on_what_the_api_offers():
    assert set(coma_mm.VERBS) == set(api.__all__) <= set(dir(coma_mm)) and coma_mm.load is api.load
    with pytest.raises(AttributeError, match="module 'coma_mm' has no attribute 'pretrian'"):
        coma_mm.pretrian  # noqa: B018


def test_a_run_from_python_is_the_run_of_the_tool(photos, pretrained):
    """To the last bit, by the command that it names."""
    assert DefaultScope.get_current_instance() is None and not torch.backends.cuda.matmul.allow_tf32  # as before
    assert os.path.basename(pretrained.checkpoint) == 'epoch_2.pth' and pretrained.work_dir == 'runs/mine'
    assert set(pretrained.metrics) >= {'reconstruction/masked'} and pretrained.config == 'runs/mine.py'
    command = pretrained.command.replace('runs/mine ', 'runs/tool ')
    assert command.startswith('coma-mm train runs/mine.py --work-dir runs/tool --cfg-options train_dataloader.num_workers=0')
    environ = {**os.environ, 'PYTHONPATH': os.path.dirname(os.path.dirname(coma_mm.__file__))}
    done = subprocess.run([sys.executable, '-m', *command.replace('coma-mm', 'coma_mm', 1).split()], cwd=photos,
                          env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, tools = (load_weights_only(photos / f'runs/{name}/epoch_2.pth')['state_dict'] for name in ('mine', 'tool'))
    assert ours.keys() == tools.keys() and all(torch.equal(ours[key], tools[key]) for key in ours)


def test_what_a_run_leaves_is_used_in_one_line_each(photos, pretrained, monkeypatch):
    monkeypatch.chdir(photos)
    backbone = coma_mm.load_backbone(pretrained.checkpoint)
    assert [one.shape[0] for one in coma_mm.features(backbone, 'photos/0.png')] == [32, 64, 128, 256]
    assert coma_mm.features(backbone, 'photos/0.png', pooled=True).shape == (256, )
    figure = coma_mm.reconstruct(pretrained.checkpoint, 'photos/0.png', ratio=[.5, .75], size=64)
    figure.savefig('reconstruction.png')
    assert Image.open('reconstruction.png').size[0] > 400
    with pytest.raises(UserError, match='was pre-trained and predicts nothing'):
        coma_mm.load(pretrained.checkpoint)('photos/0.png')


def test_a_second_run_in_the_same_place_is_refused_and_a_resumed_one_is_done(photos, pretrained, monkeypatch):
    monkeypatch.chdir(photos)
    with pytest.raises(UserError, match='holds checkpoints of an earlier run'):
        coma_mm.pretrain('photos', arch='tiny', epochs=2, out='runs/mine', options=SMALL)
    with pytest.raises(UserError, match='runs/mine.py is of another run, which runs/mine holds'):
        coma_mm.pretrain('photos', arch='tiny', epochs=3, out='runs/mine', options=SMALL)
    again = coma_mm.pretrain('photos', arch='tiny', epochs=2, out='runs/mine', options=SMALL, resume=True)
    assert os.path.basename(again.checkpoint) == 'epoch_2.pth' and '--resume auto' in again.command


def test_wrong_input_of_the_verbs_is_one_line(tmp_path, photos):
    model = write_checkpoint(tmp_path / 'a.pth', 'classification')
    with pytest.raises(UserError, match='a.pth holds a ImageClassifier; expected the checkpoint of a pre-training'):
        coma_mm.reconstruct(model, np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UserError, match='no images?|nowhere'):
        coma_mm.pretrain(tmp_path / 'nowhere', arch='tiny', out=tmp_path / 'run')
    assert not (tmp_path / 'run.py').exists()
    with pytest.raises(UserError, match="expected one of .*; did you mean 'detection'"):
        coma_mm.finetune('detektion', tmp_path, out=tmp_path / 'run')
    with pytest.raises(UserError, match=r'annotations/instances_train\*.json, one file'):
        coma_mm.finetune('detection', tmp_path, out=tmp_path / 'run')


def test_two_runs_of_one_process_write_their_own_logs(photos, pretrained, monkeypatch):
    """Both name their visualizer alike, as configs do; the model of the second starts from the first."""
    monkeypatch.chdir(photos)
    for split, number in (('train', 8), ('val', 4)):
        for label in ('cats', 'dogs'):
            os.makedirs(f'pets/{split}/{label}', exist_ok=True)
            for index in range(number):
                os.link(f'photos/{index}.png', f'pets/{split}/{label}/{index}.png')
    runs = [coma_mm.finetune('classification', 'pets', pretrained.checkpoint, out=f'runs/{name}', epochs=1, options=SMALL)
            for name in ('first', 'second')]
    assert runs[0].metrics == runs[1].metrics and 'accuracy/top1' in runs[0].metrics
    model = coma_mm.load(runs[1].checkpoint)
    assert model.classes == ['cats', 'dogs'] and set(model('photos/0.png').names) == {'cats', 'dogs'}
    assert load_weights_only(runs[0].checkpoint)['meta']['coma_mm']['backbone_from']['algorithm'] == 'CoMA'
