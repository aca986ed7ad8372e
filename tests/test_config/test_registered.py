"""Configs that came with a file: types are looked up and never imported, and what may stand for a file is refused."""
import importlib
import subprocess
import sys

import pytest
from mmengine.registry import MODELS, DefaultScope

import coma_mm.models
from coma_mm.config.registered import check_registered, registered
from coma_mm.errors import UserError

from ..helpers.logged_runs import config_of

CONV = dict(type='Conv2d', in_channels=1, out_channels=2, kernel_size=1)


def nested(depth):
    tree = CONV
    for _ in range(depth):
        tree = [tree]
    return dict(type='CoMA', neck=tree)


def test_a_name_is_looked_up_in_the_tables_alone(tmp_path, monkeypatch):
    (tmp_path / 'hostile_module.py').write_text('Model = dict\nraise SystemExit')
    monkeypatch.syspath_prepend(tmp_path)
    found = registered('CoMA', MODELS, 'mmpretrain')
    assert found is coma_mm.models.CoMA and registered('mmpretrain.ImageClassifier', MODELS).__name__ == 'ImageClassifier'
    for name in ('hostile_module', 'hostile_module.Model', 'subprocess.Popen', 'torch.nn.Linear', 'builtins.eval', '', '.',
                 'mmpretrain.', 'a.b.CoMA', 'ImageClassifier'):
        assert registered(name, MODELS) is None, name
    assert 'hostile_module' not in sys.modules


@pytest.mark.parametrize('config', [
    'coma/coma_dyvit-base_8xb512-amp-coslr-800e_in1k', 'mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k',
    'classification/dyvit-base_8xb128-coslr-100e_in1k', 'segmentation/upernet_dyvit-base_8xb2-160k_ade20k-512x512',
    'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-768px'])
def test_our_models_pass_without_what_loads_weights(config):
    cfg = config_of(config)
    importlib.import_module(f'{cfg.default_scope}.models')
    checked = check_registered(cfg.model.to_dict(), 'model', cfg.default_scope)
    assert 'init_cfg' not in checked['backbone'] and checked['backbone']['type'] == cfg.model.backbone.type
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        kind = MODELS.build(check_registered(cfg.model.backbone.to_dict(), 'backbone', cfg.default_scope))
    assert type(kind).__name__ == cfg.model.backbone.type.rpartition('.')[2]


@pytest.mark.parametrize('cfg, place', [
    (dict(type='subprocess.Popen', args='id'), 'model.type'),
    (dict(type='CoMA', neck=[dict(CONV), dict(type='torch.nn.Linear')]), 'model.neck.1.type'),
    (dict(type='CoMA', neck=dict(type='mmseg.utils.X')), 'model.neck.type'),
    (dict(type=subprocess.Popen), 'model.type'),
    (dict(type=['CoMA']), 'model.type'),
    (dict(CONV, _scope_='hostile_module'), 'model'),
    (dict(CONV, _scope_=['mmdet']), 'model'),
    (dict(CONV, _base_='x'), 'model._base_'),
    (dict(CONV, custom_imports=dict(imports='x')), 'model.custom_imports'),
    (dict(CONV, teacher_config='word'), 'model.teacher_config'),
    (dict(CONV, checkpoint='word'), 'model.checkpoint'),
    (dict(CONV, pretrained=True), 'model.pretrained'),
    (dict(CONV, class_weight='word'), 'model.class_weight'),
    (dict(CONV, decode_backend='pickle'), 'model.decode_backend'),
    (dict(CONV, backend_args=dict(backend='http')), 'model.backend_args'),
    (dict(CONV, files=['a', 'b']), 'model.files.0'),
    (dict(CONV, padding_mode='/etc/passwd'), 'model.padding_mode'),
    (dict(CONV, padding_mode='http://x'), 'model.padding_mode'),
    (dict(CONV, nms=dict(type='__import__("os").system("id")')), 'model.nms.type'),
    (dict(CONV, bias=print), 'model.bias'),
    (dict(CONV, **{'a\x1b': '\x1b.'}), r'model.a\\x1b'),
    ({1: 2}, 'model'),
    (nested(5000), 'model'),
])
def test_anything_else_is_refused_by_its_place_in_one_line(cfg, place):
    with pytest.raises(UserError, match=f'^{place}: [^\n\x1b]*; a config that came with a file is not built from it$'):
        check_registered(cfg, 'model', 'mmpretrain')


def test_types_may_be_restricted_and_paths_be_those_of_a_disk():
    cfg = dict(type='Conv2d', ann_file='../a.txt', data_prefix=dict(img_path='train'))
    paths = ('ann_file', 'img_path', 'data_prefix')
    assert check_registered(cfg, 'data', 'mmengine', only=['Conv2d'], paths=paths) == cfg
    with pytest.raises(UserError, match='data.type'):
        check_registered(cfg, 'data', 'mmengine', only=['Conv1d'], paths=paths)
    with pytest.raises(UserError, match='data.ann_file'):
        check_registered(dict(cfg, ann_file='s3://bucket/a.txt'), 'data', 'mmengine', paths=paths)
    with pytest.raises(UserError, match='data.ann_file'):
        check_registered(cfg, 'data', 'mmengine')
