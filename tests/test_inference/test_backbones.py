"""Backbones from files alone, and their features."""
import json

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from coma_mm.errors import UserError
from coma_mm.inference import features, load_backbone
from coma_mm.weights import export_backbone
from coma_mm.weights.description import KEY

from ..helpers.described import trained, write_checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('backbones') / 'pretrained.pth', 'pretraining')


def test_a_checkpoint_of_pre_training_gives_the_maps_of_all_stages(checkpoint):
    backbone = load_backbone(checkpoint)
    assert not backbone.training and backbone.out_indices == (0, 1, 2, 3) and backbone.patch_size == 16
    maps = features(backbone, IMAGE)
    assert [tuple(one.shape) for one in maps] == [(32, 10, 16), (64, 5, 8), (128, 3, 4), (256, 3, 4)]
    _, model = trained('pretraining')
    assert torch.equal(backbone.stem.weight, model.backbone.stem.weight)
    assert backbone.moments == ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def test_features_are_what_the_backbone_makes_of_normalised_pixels(checkpoint):
    backbone = load_backbone(checkpoint, out_indices=(1, 3))
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in backbone.moments)
    with torch.no_grad():
        expected = backbone(((torch.from_numpy(IMAGE).permute(2, 0, 1) - mean) / std)[None])
    found = features(backbone, IMAGE)
    assert all(torch.equal(one, other[0]) for one, other in zip(found, expected, strict=True))
    assert torch.equal(features(backbone, IMAGE, pooled=True), found[-1].mean((1, 2)))
    both = features(backbone, [IMAGE, IMAGE[:33]], pooled=True)
    assert both.shape == (2, 256) and torch.equal(both[0], found[-1].mean((1, 2)))
    assert [one[-1].shape[1] for one in features(backbone, [IMAGE, IMAGE[:33]])] == [3, 3]
    assert features(backbone, IMAGE, size=80)[0].shape == (64, 10, 16)


@pytest.mark.parametrize('task', ['classification', 'segmentation', 'detection'])
def test_a_fine_tuned_model_gives_its_backbone(tmp_path, task):
    backbone = load_backbone(write_checkpoint(tmp_path / 'a.pth', task))
    _, model = trained(task)
    own = model.backbone.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in backbone.state_dict().items() if name in own)


def test_an_exported_backbone_and_one_of_before_descriptions_say_enough(tmp_path, checkpoint):
    export_backbone(checkpoint, str(tmp_path / 'b.safetensors'))
    expected = features(load_backbone(checkpoint), IMAGE)
    assert all(map(torch.equal, features(load_backbone(tmp_path / 'b.safetensors'), IMAGE), expected))
    old = torch.load(checkpoint)
    del old['meta'][KEY]
    _, model = trained('pretraining')
    old['meta']['coma_mm'] = json.loads(json.dumps(dict(
        backbone='DyViT', arch='tiny', algorithm='CoMA', epochs=1, settings=model.backbone.settings)))
    torch.save(old, tmp_path / 'old.pth')
    assert all(map(torch.equal, features(load_backbone(tmp_path / 'old.pth'), IMAGE), expected))


def test_what_says_nothing_takes_settings_or_one_line(tmp_path, checkpoint):
    torch.save(dict(state_dict=torch.load(checkpoint)['state_dict']), tmp_path / 'plain.pth')
    with pytest.raises(UserError, match=r'does not say which backbone it holds; name it: load_backbone\(…, arch=…\)'):
        load_backbone(tmp_path / 'plain.pth')
    backbone = load_backbone(tmp_path / 'plain.pth', arch='tiny', patch_size=16, pos_scale=.25)
    assert all(map(torch.equal, features(backbone, IMAGE), features(load_backbone(checkpoint), IMAGE)))


def test_what_a_file_says_is_not_built_if_it_is_no_registered_type(tmp_path, checkpoint):
    hostile = torch.load(checkpoint)
    del hostile['meta'][KEY]
    hostile['meta']['coma_mm'] = dict(backbone='DyViT', arch='tiny', settings=dict(windows=dict(type='os.system')))
    torch.save(hostile, tmp_path / 'hostile.pth')
    with pytest.raises(UserError, match='no class of the libraries that may be built here'):
        load_backbone(tmp_path / 'hostile.pth')


def test_a_backbone_of_the_libraries_works_too(tmp_path):
    vit = MODELS.build(dict(type='ResNet', depth=18, out_indices=(3, )))
    torch.save(vit.state_dict(), tmp_path / 'resnet.pth')
    backbone = load_backbone(tmp_path / 'resnet.pth', type='ResNet', depth=18, out_indices=(2, 3))
    assert [tuple(one.shape) for one in features(backbone, IMAGE)] == [(256, 3, 4), (512, 2, 2)]
