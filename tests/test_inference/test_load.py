"""A trained model, ready for images, from its checkpoint alone."""
import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from coma_mm.errors import UserError
from coma_mm.inference import load_backbone, load_described
from coma_mm.weights import bounded
from coma_mm.weights.description import KEY
from coma_mm.weights.export import export_backbone
from coma_mm.weights.load import load_weights_only

from ..helpers.described import CLASSES, config_path, description, write_checkpoint
from ..helpers.detections import reordered

TASKS = ('classification', 'segmentation', 'detection')


def image(height=60, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def tensors(found, like=None):
    """What a result predicts, as tensors; objects in the order of another's, if one is given."""
    if 'pred_score' in found:
        return [found.pred_score]
    if 'seg_logits' in found:
        return [found.seg_logits.data, found.pred_sem_seg.data]
    objects = found.pred_instances
    if like is not None:
        assert len(objects) == len(like.pred_instances)
        objects = reordered(objects, like.pred_instances)
    return [objects.bboxes, objects.scores, objects.masks]


def model(**changes):
    """The description of a classifier with keys of its parts replaced."""
    found = description('classification')['model']
    return {**found, **{part: {**found[part], **values} for part, values in changes.items()}}


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints')
    return {task: write_checkpoint(folder / f'{task}.pth', task) for task in (*TASKS, 'pretraining')}


@pytest.mark.parametrize('task', TASKS)
def test_the_description_and_the_config_give_the_same_results_on_files_and_arrays(checkpoints, task, tmp_path):
    images = [image(), image(50, 50, 1), image(50, 50, 2)]
    paths = [str(tmp_path / f'{number}.png') for number in range(3)]
    for path, one in zip(paths, images, strict=True):
        cv2.imwrite(path, one)
    alone = load_described(checkpoints[task])
    assert (alone.task, alone.classes, alone.model.training) == (task, CLASSES, False) and alone.meta
    by_config = load_described(checkpoints[task], config_path(task))
    assert (by_config.classes, by_config.scope, by_config.pipeline) == (CLASSES, alone.scope, alone.pipeline)
    runs = [list(alone.predict(images, 2)), list(by_config.predict(paths)), list(alone.predict(paths, batch_size=3))]
    for found in zip(*runs, strict=True):
        first, *others = found
        for other in others:
            for one, expected in zip(tensors(other, first), tensors(first), strict=True):
                if one.dtype in (torch.bool, torch.int64):  # a rounding may turn a pixel
                    assert one.shape == expected.shape and (one == expected).float().mean() > .999
                else:
                    torch.testing.assert_close(one, expected, atol=1e-4, rtol=1e-4)
    if task != 'classification':  # in the scale of the image
        assert [tensors(one)[-1].shape[-2:] for one in runs[0]] == [(60, 80), (50, 50), (50, 50)]


def test_a_safetensors_file_of_a_whole_model_carries_the_same(checkpoints, tmp_path):
    loaded = load_weights_only(checkpoints['classification'])
    path = tmp_path / 'whole.safetensors'
    weights = {name: value.contiguous() for name, value in loaded['state_dict'].items()}
    save_file(weights, path, {KEY: loaded['meta'][KEY]})
    found = [next(load_described(one).predict([image()])).pred_score for one in (path, checkpoints['classification'])]
    assert torch.equal(*found)


def test_an_exported_backbone_says_it_too_and_is_no_whole_model(checkpoints, tmp_path):
    export_backbone(checkpoints['segmentation'], str(tmp_path / 'a.safetensors'))
    backbone, whole = map(load_weights_only, (tmp_path / 'a.safetensors', checkpoints['segmentation']))
    assert backbone['meta'][KEY] == whole['meta'][KEY]
    with pytest.raises(UserError, match='lacks .* tensors of EncoderDecoder.*it holds a backbone alone'):
        load_described(tmp_path / 'a.safetensors')


def test_what_cannot_be_used_is_refused_in_one_line(checkpoints, tmp_path):
    for checkpoint, config, said in (
            (write_checkpoint(tmp_path / 'a.pth', 'classification', description=None), None, 'does not say how it is used'),
            (checkpoints['classification'], config_path('segmentation'), 'lacks .* tensors of EncoderDecoder.*--config'),
            (write_checkpoint(tmp_path / 'b.pth', 'classification', model=model(head=dict(num_classes=7))), None,
             'does not hold the model of its own description: size mismatch for head'),
            (write_checkpoint(tmp_path / 'c.pth', 'classification', model=model(backbone=dict(depths=1))), None,
             r'cannot be built \(TypeError: .*--config'),
            (write_checkpoint(tmp_path / 'd.pth', 'classification', pipeline=[dict(type='CenterCrop')]), None,
             r'cannot be built \(TypeError: .*--config')):
        with pytest.raises(UserError, match=said) as caught:
            load_described(checkpoint, config)
        assert '\n' not in str(caught.value)
    with pytest.raises(UserError, match='was pre-trained and predicts nothing; fine-tune it first'):
        next(load_described(checkpoints['pretraining']).predict([image()]))


def test_layers_of_next_to_no_numbers_are_not_many_more_than_the_weights_either(monkeypatch):
    monkeypatch.setattr(bounded, 'MORE', 0)
    weights = dict(a=torch.zeros(2), b=torch.zeros(3))
    with bounded.Bounded(weights, 'a.pth'):
        layers = [torch.empty(1) for _ in range(8)]
    with pytest.raises(UserError, match='a.pth: what it says'), bounded.Bounded(weights, 'a.pth'):
        layers += [torch.empty(1) for _ in range(9)]


@pytest.mark.parametrize('load', [load_described, load_backbone])
def test_a_file_that_says_a_model_many_times_its_weights_is_refused_before_the_memory_is_full(tmp_path, monkeypatch, load):
    monkeypatch.setattr(bounded, 'MORE', 0)
    arch = dict(dims=[32, 64, 128, 256], depths=[1, 1, 2, 10**5], num_heads=[1, 2, 4, 8])
    path = write_checkpoint(tmp_path / 'a.pth', 'classification', model=model(backbone=dict(arch=arch, drop_path_rate=0.)))
    with pytest.raises(UserError, match='a.pth: what it says of its use is a model that is many times larger'):
        load(path)
