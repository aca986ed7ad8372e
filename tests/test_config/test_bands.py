"""The settings `bands` and `moments` carry through every task."""
import argparse
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from coma_mm.commands.arguments import add_config_arguments
from coma_mm.config.bands import use_bands
from coma_mm.config.read import parse_options, read_config
from coma_mm.config_tree import walk
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError
from coma_mm.models import MaskedImagePreprocessor
from coma_mm.prepare.shapes import write_shapes

from ..test_configs import ROOT

NAMES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*4bands.py') if '_base_' not in path.parts)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(out, dict(unlabelled=4, train=4, val=2, test=0), 64, progress=False, level='easy', bands=4)
    return str(out)


def small_loader(cfg):
    loader = cfg.train_dataloader
    loader.update(num_workers=0, batch_size=2)
    loader.pop('persistent_workers', None)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return Runner.build_dataloader(loader)


@pytest.mark.parametrize(('name', 'bands'), [*((name, 4) for name in NAMES), (NAMES[-1], ['nir', 'red'])])
def test_a_batch_of_16_bits_goes_through_each_task_to_its_loss(name, bands, scenes, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', scenes)
    cfg = read_config(str(ROOT / name), dict(bands=bands))
    cfg.model.backbone.init_cfg = None
    model = build_model(cfg).train()
    batch = next(iter(small_loader(cfg)))
    number = 4 if bands == 4 else 2
    assert batch['inputs'][0].dtype == torch.uint16 and batch['inputs'][0].shape[0] == number
    data = model.data_preprocessor(batch, True)
    values = data['inputs']
    assert values.dtype == torch.float32 and values.shape[1] == number and values.abs().max() < 8
    # The order of the bands stays, and each has its own moments.
    raw, moments = batch['inputs'][0].float(), {band.name: band for band in cfg.moments.bands}
    for i, band in enumerate(['red', 'green', 'blue', 'nir'] if bands == 4 else bands):
        expected = (raw[i] - moments[band].mean) / moments[band].std
        assert torch.allclose(values[0, i, :64, :64], expected, atol=1e-5), band
    losses = model(**data, mode='loss')
    total = sum(torch.as_tensor(one).sum() for key, value in losses.items() if 'loss' in key
                for one in (value if isinstance(value, list) else [value]))
    total.backward()
    stem = model.backbone.stem.weight
    assert stem.shape[1] == number and stem.grad.abs().sum((0, 2, 3)).min() > 0
    if 'coma' in name:
        assert model.decoder.predict.out_features == 16**2 * number


def test_what_a_run_dumps_is_whole_and_the_same_when_it_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / 'moments.json'
    path.write_text(json.dumps(dict(Config.fromfile(ROOT / '_base_/datasets/shapes-4bands.py').moments)))
    cfg = read_config(str(ROOT / NAMES[0]), dict(moments=str(path)))
    path.unlink()
    cfg.dump(tmp_path / 'dumped.py')
    again = read_config(str(tmp_path / 'dumped.py'), work_dir=cfg.work_dir)
    for one in (cfg, again):
        one.pop('work_dir')
    assert again.to_dict() == cfg.to_dict()


@pytest.mark.parametrize(('text', 'bands'), [('4', 4), ('0,2', [0, 2]), ('nir', ['nir']), ('red,nir', ['red', 'nir'])])
def test_options_of_the_command_line_are_the_settings(text, bands):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    for given in (['--bands', text, '--moments', 'm.json', '--cfg-options', 'size=64'],
                  ['--cfg-options', 'size=64', '--moments', 'm.json', '--bands', text]):
        options = parse_options(parser.parse_args(given).cfg_options)
        assert options == dict(bands=bands, moments='m.json', size=64)


def test_without_the_settings_nothing_changes():
    cfg = Config.fromfile(ROOT / 'shapes/mask-rcnn_dyvit-tiny-p16_scratch_shapes-easy.py')
    before = cfg.to_dict()
    use_bands(cfg)
    assert cfg.to_dict() == before


def test_a_variable_of_that_name_is_no_setting(tmp_path):
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = '{ROOT}/shapes/coma_dyvit-tiny-p16_shapes-easy.py'\nbands = ['B2', 'B3']\n"
                    'model = dict(backbone=dict(in_channels=1 + len(bands)))')
    cfg = read_config(str(path))
    assert cfg.train_dataloader.dataset.pipeline[0].type == 'LoadImageFromFile'
    with pytest.raises(UserError, match='uses bands as a variable of its own; give the moments as well'):
        read_config(str(path), dict(bands=3))


def test_a_backbone_that_cannot_see_other_bands_is_refused():
    cfg = Config.fromfile(ROOT / NAMES[0])
    cfg.model.backbone = dict(type='mmpretrain.LeNet5')
    with pytest.raises(UserError, match='bands=4: the backbone LeNet5 takes no in_channels, so it cannot see 4 bands'):
        use_bands(cfg)


@pytest.mark.parametrize(('options', 'parts'), [
    (dict(bands=4), ('bands=4 without moments', 'of 3 channels')),
    (dict(bands='many'), ("bands='many'", 'how many bands')),
    (dict(bands=4, moments='no.json'), ('no file no.json', )),
])
def test_settings_that_do_not_fit_give_one_line(options, parts):
    with pytest.raises(UserError) as caught:
        read_config(str(ROOT / 'shapes/coma_dyvit-tiny-p16_shapes-easy.py'), options)
    assert all(part in str(caught.value) for part in parts) and '\n' not in str(caught.value)


def test_pillow_resizes_nothing_where_there_are_bands():
    cfg = read_config(str(ROOT / NAMES[0]))
    assert not [one for one in walk([cfg.train_dataloader, cfg.val_dataloader]) if one.get('backend') == 'pillow']


def test_the_dense_preprocessors_do_to_three_bands_what_the_libraries_do():
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, 20, 28), generator=generator, dtype=torch.uint8) for _ in range(2)]
    settings = dict(mean=[1., 2., 3.], std=[4., 5., 6.])
    for scope, ours, its in (('mmseg', 'BandsSegPreprocessor', 'SegDataPreProcessor'),
                             ('mmdet', 'BandsDetPreprocessor', 'DetDataPreprocessor')):
        with DefaultScope.overwrite_default_scope(scope):
            found, expected = (MODELS.build(dict(type=kind, **settings))(dict(inputs=images, data_samples=None))['inputs']
                               for kind in (ours, its))
        assert torch.equal(found, expected)


def test_pixels_for_looking_are_the_bands_of_the_view():
    step = MaskedImagePreprocessor([0.] * 4, [100.] * 4, False, dict(rgb=[3, 1, 0], low=[0] * 3, high=[1000] * 3))
    images = np.random.default_rng(0).integers(0, 1000, (1, 4, 8, 8)).astype(np.uint16)
    seen = step.to_uint8(step(dict(inputs=torch.from_numpy(images)))['inputs'])
    assert np.abs(seen.numpy() - images[:, [3, 1, 0]] * .255).max() <= .51
