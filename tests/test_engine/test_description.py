"""What a run's checkpoints say of how they are used."""
import json

import pytest
import torch
from mmengine.config import Config

from coma_mm.engine.description import as_text, describe
from coma_mm.engine.models import build_model
from coma_mm.weights.description import KEY, check_description, decode

from ..helpers.described import CLASSES, description, trained
from ..helpers.logged_runs import config_of


@pytest.mark.parametrize(('task', 'scope', 'steps'), [
    ('classification', 'mmpretrain', ['LoadImageFromFile', 'PackInputs']),
    ('segmentation', 'mmseg', ['LoadImageFromFile', 'Resize', 'PackSegInputs']),
    ('detection', 'mmdet', ['LoadImageFromFile', 'Resize', 'PackDetInputs']),
    ('pretraining', 'mmpretrain', ['LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'PatchMask', 'PackMaskedImage'])])
def test_it_is_data_that_rebuilds_the_model_without_annotations(task, scope, steps):
    use = description(task)
    assert (use['version'], use['task'], use['scope']) == (1, task, scope)
    assert json.loads(as_text(use)) == use and 'init_cfg' not in as_text(use)
    assert use['classes'] == (None if task == 'pretraining' else CLASSES)
    checked = check_description(decode(use), 'a.pth')
    names = [step['type'] for step in checked['pipeline']]
    assert [name for name in names if name in steps] == steps and not any('Annotations' in name for name in names)
    again = build_model(Config(dict(model=checked['model'], default_scope=scope)))
    again.load_state_dict(trained(task)[1].state_dict())


def test_tuples_stay_tuples_as_some_classes_insist():
    step, = (step for step in decode(description('segmentation'))['pipeline'] if step['type'] == 'Resize')
    assert step['scale'] == (64, 64) and isinstance(step['scale'], tuple)


def test_class_ids_of_maps_are_of_no_use_without_maps():
    cfg, model = trained('segmentation')
    cfg = Config(cfg.to_dict())
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='MapClassIds', ids={11: 255}))
    assert describe(cfg, model) == description('segmentation')


def test_files_weights_and_back_ends_are_left_out_and_the_preprocessor_beside_the_model_is_taken():
    cfg, model = trained('classification')
    cfg = Config(cfg.to_dict())
    preprocessor = cfg.model.pop('data_preprocessor', cfg.get('data_preprocessor'))
    cfg.data_preprocessor = preprocessor
    cfg.model.backbone.update(init_cfg=dict(type='Pretrained', checkpoint='/home/me/secret.pth'))
    cfg.model.update(pretrained='/home/me/secret.pth')
    loader = cfg.test_dataloader.dataset
    loader.pipeline[0].update(backend_args=dict(backend='petrel'), file_client_args=dict(backend='http'))
    text = as_text(describe(cfg, model))
    assert not any(word in text for word in ('secret', 'petrel', 'http', 'file_client'))
    assert json.loads(text)['model']['data_preprocessor'] == json.loads(json.dumps(preprocessor))


@pytest.mark.parametrize('name', [
    'coma/coma_dyvit-base_8xb512-amp-coslr-800e_in1k', 'mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k',
    'classification/dyvit-base_8xb128-coslr-100e_in1k', 'segmentation/upernet_dyvit-base_8xb2-160k_ade20k-512x512',
    'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-768px'])
def test_what_our_configs_say_is_read_again(name):
    cfg = config_of(name)
    with torch.device('meta'):
        model = build_model(cfg)
    use = describe(cfg, model, dict(classes=['a', 'b'], palette=[(0, 0, 0), [1, 2, 255]]))
    assert check_description(decode(use), name)['model']['type'] == cfg.model.type
    assert use['palette'] in (None, [[0, 0, 0], [1, 2, 255]])


def test_every_checkpoint_of_a_run_has_it(tmp_path):
    from coma_mm.engine.hooks.provenance import ProvenanceHook
    cfg, model = trained('segmentation')

    class Runner:
        epoch = iter = seed = max_epochs = 0
        train_loop = None
        train_dataloader = type('Loader', (), dict(dataset=type('Data', (), dict(metainfo=dict(classes=CLASSES)))()))

    runner = Runner()
    runner.cfg, runner.model = cfg, model
    checkpoint, hook = {}, ProvenanceHook()
    hook.before_save_checkpoint(runner, checkpoint)
    assert json.loads(checkpoint['meta'][KEY]) == description('segmentation')
