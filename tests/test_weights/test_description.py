"""What a checkpoint of anybody's says of its use is data: hostile values are refused, and nothing of them happens."""
import builtins
import importlib
import json
import os
import socket
import subprocess
import sys

import pytest
from mmengine.registry import MODELS, TRANSFORMS

from coma_mm.config.read import SCOPES, register_libraries
from coma_mm.errors import UserError
from coma_mm.weights.description import KEY, MOST_LETTERS, decode, encode, read_description

from ..helpers.described import description


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """Function: whether nothing was opened, imported, fetched or run since the fixture was set up."""
    for scope in SCOPES:  # the libraries, known by name, are imported when they are needed first
        register_libraries(scope)
    description('segmentation')
    (tmp_path / 'hostile_module.py').write_text('raise SystemExit')
    monkeypatch.syspath_prepend(tmp_path)
    happened = []

    def note(place, name):
        kept = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args, **kwargs: (happened.append((name, args)), kept(*args, **kwargs))[1])

    for place, name in (
            (builtins, 'open'), (os, 'open'), (os, 'system'), (subprocess, 'Popen'), (socket, 'create_connection'),
            (socket, 'getaddrinfo'), (builtins, 'eval'), (builtins, 'exec'), (importlib, 'import_module'), (MODELS, 'build'),
            (TRANSFORMS, 'build')):
        note(place, name)
    return lambda: not happened and 'hostile_module' not in sys.modules


def refused(use, match):
    with pytest.raises(UserError, match=match) as caught:
        read_description({KEY: use if isinstance(use, str) else json.dumps(use)}, 'a.pth')
    line = str(caught.value)
    assert len(line) < 700 and line.isprintable() and '--config' in line


BACKBONE = dict(type='mmpretrain.DyViT', arch='tiny')


@pytest.mark.parametrize(('change', 'place'), [
    (dict(type='subprocess.Popen', args='id'), 'model.type'),
    (dict(type='hostile_module.Model'), 'model.type'),
    (dict(type='EncoderDecoder', _scope_='hostile_module'), 'model'),
    (dict(type='EncoderDecoder', custom_imports=dict(imports='hostile_module')), 'model.custom_imports'),
    (dict(type='EncoderDecoder', pretrained='/etc/passwd'), 'model.pretrained'),
    (dict(type='EncoderDecoder', backbone=dict(BACKBONE, checkpoint='http://x.org/a.pth')), 'model.backbone.checkpoint'),
    (dict(type='EncoderDecoder', backbone=dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', pretrained=True)),
     'model.backbone'),
    (dict(type='EncoderDecoder', decode_head=dict(loss_decode=dict(class_weight='/etc/passwd'))), 'model.decode_head'),
    (dict(type='EncoderDecoder', backbone=dict(type='mmdet.BertModel', name='bert-base-uncased')), 'model.backbone.type'),
    (dict(type='EncoderDecoder', a='__import__("os").system("id")'), 'model.a'),
    ({'type': 'EncoderDecoder', 'a\x1b[2J': '\x1b.'}, r'model.a\\x1b'),
])
def test_hostile_models_are_refused_in_one_line(watched, change, place):
    use = description('segmentation', model=change)
    refused(use, f'^a.pth: {place}')
    assert watched()


@pytest.mark.parametrize(('steps', 'said'), [
    ([dict(type='LoadImageFromFile', file_client_args=dict(backend='http'))], 'pipeline.0.file_client_args'),
    ([dict(type='LoadImageFromFile', imdecode_backend='/x')], 'pipeline.0.imdecode_backend'),
    ([dict(type='LoadAnnotations')], 'LoadAnnotations loads more than an image'),
    ([dict(type='mmdet.LoadProposals')], 'LoadProposals loads more'),
    ([dict(type='Albu', transforms=[dict(type='builtins.eval')])], r'pipeline.0.transforms.0.type'),
    ([dict(type='mmdet.RandomSamplingNegPos', tokenizer_name='bert-base-uncased')], 'tokenizer_name'),
    (['LoadImageFromFile', dict(type='os.system')], 'pipeline.1.type'),
])
def test_hostile_pipelines_are_refused_in_one_line(watched, steps, said):
    use = description('segmentation', pipeline=steps)
    refused(use, said)
    assert watched()


def nested(depth):
    return '[' * depth + ']' * depth


@pytest.mark.parametrize(('text', 'said'), [
    ('{', 'no JSON'), ('[]', 'a dict with a version'), (nested(100_000), 'nested too deeply'),
    ('"' + 'a' * MOST_LETTERS + '"', 'letters at most'),
    (json.dumps(dict(version=1, task='classification', scope='mmseg', model=dict(type='A'), pipeline=[[]] * 3,
                     classes=[1])), 'classes are no list of names'),
    ('{"version": 1, "task": "rm", "scope": "mmseg", "model": {}}', "task is 'rm'"),
    ('{"version": 1, "task": "detection", "scope": "os", "model": {}}', "scope is 'os'"),
    ('{"version": 1, "task": ["detection"], "scope": "os", "model": {}}', 'task is'),
    ('{"version": 1, "task": "detection", "scope": "mmdet", "model": []}', 'model is'),
    ('{"version": 2}', 'version 2, and this coma_mm reads version 1; update'),
    ('{"version": "1"}', 'a dict with a version'),
    ('{"version": 1, "task": "detection", "scope": "mmdet", "model": {"type": ' + nested(500) + '}}', 'model.type|deeply'),
])
def test_what_is_no_description_is_refused_in_one_line(watched, text, said):
    refused(text, said)
    assert watched()


@pytest.mark.parametrize('value', [7, None, b'{}', ['a'], {}])
def test_a_description_that_is_no_text_is_refused(value):
    with pytest.raises(UserError, match='--config'):
        read_description({KEY: value}, 'a.pth')


@pytest.mark.parametrize('palette', [[[0, 0, 256]] * 5, [[0, 0]] * 5, [[0, 0, 0]], [[0, 0, '0']] * 5, ['red'] * 5])
def test_a_palette_is_a_colour_for_each_class(palette):
    refused(description('segmentation', palette=palette), 'a colour for each class')


def test_a_checkpoint_that_says_nothing_is_refused_with_the_remedy():
    with pytest.raises(UserError, match='^a.pth does not say how it is used.*; pass --config CONFIG, the config'):
        read_description({}, 'a.pth')


def test_encoding_keeps_what_there_is():
    value = dict(a=(1, [2., (None, True)]), b=dict(c='d'), e=[])
    assert decode(json.loads(json.dumps(encode(value)))) == value
    for other in (print, {1: 2}, [object()], int):
        with pytest.raises(TypeError):
            encode(other)
