"""Weights that come with the package do what their cards say."""
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open

import coma_mm
from coma_mm.prepare.shape_scenes import render_scene
from coma_mm.weights import load_weights_only
from coma_mm.weights.export import export_weights
from coma_mm.weights.released import FOLDER, list_models, released

NAMES = ('coma_dyvit-tiny_shapes', 'dyvit-tiny_shapes', 'mae_dyvit-tiny_shapes', 'mask-rcnn_dyvit-tiny_shapes',
         'upernet_dyvit-tiny_shapes')
SHAPES = ('circle', 'cross', 'square', 'star', 'triangle')


@pytest.fixture(scope='module')
def scenes():
    """Scenes that no training has seen."""
    return [render_scene(7, 'test', index, 64, 'easy') for index in range(24)]


def test_all_have_a_card_and_say_nothing_of_the_machine_that_made_them():
    assert tuple(list_models()) == NAMES and all('exported' not in text for text in list_models().values())
    for path in FOLDER.glob('*.safetensors'):
        with safe_open(path, 'pt') as file:
            text = str(file.metadata())
        card = path.with_name(f'{path.name}.md').read_text()
        assert path.stat().st_size < 6e6 and 'Licence | Apache-2.0' in card
        assert not re.search(r'[" |]/\w', text + card)  # no absolute path


def test_the_classifier_knows_the_shapes(scenes):
    found = coma_mm.load('dyvit-tiny_shapes', device='cpu')([scene.image for scene in scenes])
    right = [result.names[0] == SHAPES[scene.label] for result, scene in zip(found, scenes, strict=True)]
    assert np.mean(right) > 0.8


def test_the_segmenter_finds_their_pixels(scenes):
    found = coma_mm.load('upernet_dyvit-tiny_shapes', device='cpu')([scene.image for scene in scenes])
    truth = [np.array([0, *(label + 1 for label in scene.classes)])[scene.instances] for scene in scenes]
    right = [(result.map == labels)[labels > 0].mean() for result, labels in zip(found, truth, strict=True)]
    assert found[0].classes == ['background', *SHAPES] and np.mean(right) > 0.8


def test_the_detector_finds_the_largest_object(scenes):
    found = coma_mm.load('mask-rcnn_dyvit-tiny_shapes', device='cpu')([scene.image for scene in scenes])
    right = [result.names[0] == SHAPES[scene.label] and result.scores[0] > 0.5
             for result, scene in zip(found, scenes, strict=True)]
    assert np.mean(right) > 0.7


@pytest.mark.parametrize('name', NAMES)
def test_each_is_a_backbone(name, scenes):
    maps = coma_mm.features(coma_mm.load_backbone(name), scenes[0].image)
    assert [one.shape[0] for one in maps] == [32, 64, 128, 256] and all(one.isfinite().all() for one in maps)


def test_a_file_of_that_name_does_not_hide_behind_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert released('./dyvit-tiny_shapes') == './dyvit-tiny_shapes' and released('other') == 'other' and released('') == ''
    assert released('dyvit-tiny_shapes') == str(FOLDER / 'dyvit-tiny_shapes.safetensors')


def test_a_whole_model_in_half_precision_is_exported_and_used(tmp_path):
    source = str(FOLDER / 'dyvit-tiny_shapes.safetensors')
    tensors, _ = export_weights(source, str(tmp_path / 'a.safetensors'), part='model', half=True)
    assert all(value.dtype == torch.float16 for value in tensors.values() if value.is_floating_point())
    again = load_weights_only(tmp_path / 'a.safetensors')['state_dict']
    assert all(torch.equal(again[name], value) for name, value in tensors.items())
    assert coma_mm.load(tmp_path / 'a.safetensors', device='cpu').classes == list(SHAPES)
