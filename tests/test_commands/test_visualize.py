"""`visualize.py` as users start it, on images that a run of CoMA-Shapes could have; but in this process."""
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from coma_mm.config.read import read_config
from coma_mm.engine.models import build_model
from coma_mm.visualization import image_size, prepare, read_fitted

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / 'configs/shapes'
PRETRAINING = SHAPES / 'coma_dyvit-tiny_shapes.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images of several sizes, one that is none, and checkpoints of pre-training and of a classifier."""
    folder = tmp_path_factory.mktemp('visualize')
    rng = np.random.default_rng(0)
    (folder / 'images/more').mkdir(parents=True)
    for name, size in (('wide.png', (50, 90)), ('more/high.jpg', (150, 70))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / 'images' / name)
    (folder / 'images/notes.txt').write_text('no image')
    (folder / 'empty').mkdir()
    (folder / 'bad.jpg').write_text('no image')
    for name in ('coma_dyvit-tiny_shapes', 'dyvit-tiny_scratch_shapes'):
        model = build_model(Config.fromfile(SHAPES / f'{name}.py'))
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
    return folder


@pytest.fixture
def run(folder, monkeypatch, run_tool):
    """Runs the tool in `folder`."""
    monkeypatch.chdir(folder)
    return partial(run_tool, 'visualize.py')


def check(out, names):
    assert sorted(path.name for path in out.iterdir()) == [*names, 'gallery.html']
    html = (out / 'gallery.html').read_text(encoding='utf-8')
    assert len(re.findall(r'src="data:image/', html)) == len(names)
    assert len(re.findall(r'alt="[^"]+"', html)) == len(names)
    assert not re.search(r'src="(?!data:)', html)
    return html


def test_reconstruct(run, folder):
    run('reconstruct', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'images', '--ratios', '.8', '--size', '70',
        '--without-statistics', '--out', 'out1')
    html = check(folder / 'out1', ['001_high.png', '002_wide.png'])
    assert 'comes from hidden pixels' in html and 'high.jpg' in html


def test_windows_of_a_pretraining(run, folder):
    run('windows', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'images/wide.png', '--per-head', '--at', '.5,.5', '0,1',
        '--size', '64')
    html = check(folder / 'work_dirs/coma_dyvit-tiny_shapes/windows', ['001_wide_query1.png', '001_wide_query2.png'])
    assert 'one row per head' in html


@pytest.mark.parametrize('config, checkpoint', [('dyvit-tiny_scratch_shapes', 'dyvit-tiny_scratch_shapes'),
                                                ('mask-rcnn_dyvit-tiny_scratch_shapes', 'coma_dyvit-tiny_shapes')])
def test_attention_with_configs_of_fine_tuning(config, checkpoint, run, folder):
    out = folder / config
    run('attention', SHAPES / f'{config}.py', f'{checkpoint}.pth', 'images/wide.png', '--size', '64', '--out', out)
    html = check(out, ['001_wide.png', '001_wide_features.png'])
    assert 'mean of the heads' in html and 'principal components' in html


@pytest.mark.parametrize('args, words', [
    (('reconstruct', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'images', 'bad.jpg'), 'cannot read the image bad.jpg'),
    (('reconstruct', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'nowhere.jpg'), 'no image nowhere.jpg; expected'),
    (('windows', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'empty'), 'no image in empty; expected files that end in'),
    (('reconstruct', PRETRAINING, 'dyvit-tiny_scratch_shapes.pth', 'images'), 'does not hold the model of'),
    (('reconstruct', SHAPES / 'dyvit-tiny_scratch_shapes.py', 'dyvit-tiny_scratch_shapes.pth', 'images'),
     'is no config of masked pre-training'),
    (('windows', PRETRAINING, 'nothing.pth', 'images'), 'no checkpoint at nothing.pth'),
    (('reconstruct', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'images', '--ratios', '1'), 'between 0 and 1'),
    (('windows', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'images', '--at', '3,1'), 'expected X,Y'),
    (('windows', PRETRAINING, 'coma_dyvit-tiny_shapes.pth', 'images', '--size', 'x'), 'number of px'),
])
def test_bad_input(args, words, run, folder):
    assert words in run(*args, '--out', 'none', code=2)
    assert not (folder / 'none').exists()


@pytest.mark.parametrize('name', ['coma_dyvit', 'dyvit', 'upernet_dyvit', 'mask-rcnn_dyvit'])
def test_preprocessors_of_all_libraries(name):
    cfg = read_config(str(SHAPES / f'{name}-tiny{"" if name == "coma_dyvit" else "_scratch"}_shapes.py'))
    settings = dict(dict(type='mmpretrain.ClsDataPreprocessor') if name == 'dyvit' else {}, **cfg.model.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = SimpleNamespace(data_preprocessor=MODELS.build(settings))
    image = np.random.default_rng(0).integers(0, 256, (32, 96, 3), np.uint8)
    expected = (image[..., ::-1] - np.array((123.675, 116.28, 103.53))) / (58.395, 57.12, 57.375)
    np.testing.assert_allclose(prepare(model, image)[0], expected.transpose(2, 0, 1), atol=1e-5)
    assert image_size(cfg) == (96 if 'mask' in name else 128)


@pytest.mark.parametrize('size, shape', [(64, (64, 96)), (70, (64, 96)), (10, (32, 32))])
def test_images_are_scaled_and_cropped_to_patches(size, shape, folder):
    image = read_fitted(str(folder / 'images/wide.png'), size, 32)
    assert image.shape == (*shape, 3) and image.dtype == np.uint8
