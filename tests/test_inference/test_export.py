"""Exported files compute what the model does, say what they are, and are not there if anything is wrong."""
import hashlib
import io
import json
import logging
import os
import re
import runpy
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image
from torch import nn

from coma_mm.engine.description import as_text
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError
from coma_mm.inference import load_described
from coma_mm.inference.export import export, exporting
from coma_mm.inference.export.adaptive_pool import AdaptiveAveragePool
from coma_mm.inference.export.detector import ExportableDetector
from coma_mm.inference.export.exportable import Exportable
from coma_mm.inference.export.exporting import exportable_part, make
from coma_mm.inference.export.facts import preprocessing
from coma_mm.inference.export.formats import FACTS, FORMATS, to_program
from coma_mm.inference.export.verify import free_choices, verify
from coma_mm.prepare.shape_scenes import render_scene
from coma_mm.weights import load_weights_only
from coma_mm.weights.description import KEY, decode

from ..helpers.described import CLASSES, config_path, description, trained, write_checkpoint
from ..helpers.detections import reordered

PAGE = Path(__file__).parents[2] / 'docs/deploy.md'
PROVENANCE = dict(algorithm='ImageClassifier', backbone='DyViT', arch='tiny', epochs=3, iters=66, images=1000, seed=0,
                  data_root='/home/somebody/shapes', backbone_from=dict(algorithm='CoMA', epochs=20))


@contextmanager
def untraced():
    """torch tells pytest, which listens to all loggers, of every step of an export, which takes several times as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger('torch.__trace'), 'handlers', [])
        yield


@pytest.fixture(autouse=True)
def quick():
    with untraced():
        yield


@pytest.fixture
def as_it_is(monkeypatch):
    """ONNX that is not made simpler, which takes half of the time."""
    monkeypatch.setattr(torch.onnx, 'export', partial(torch.onnx.export, optimize=False))


class Pyramid(nn.Module):
    """Maps of the strides and channels of a small DyViT, in an operation each: an export takes time for every one."""

    def __init__(self, *channels):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 2 * stride - 1, stride, stride - 1) for a, b, stride in zip(
            (3, *channels), channels, (4, 2, 2, 1), strict=False))

    def forward(self, x):
        outs = []
        for conv in self.convs:
            x = conv(x)
            outs.append(x)
        return tuple(outs)


def with_pyramid(task):
    """A segmenter or a detector with random weights, of fewer parts and objects than the config's."""
    use = description(task)
    if task == 'segmentation':
        use['model']['decode_head']['pool_scales'] = [3]
    else:
        model, test = use['model'], use['model']['test_cfg']
        model['neck'].update(in_channels=[32, 64], num_outs=2)
        model['rpn_head']['anchor_generator']['strides'] = [4, 8]
        for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
            model['roi_head'][name]['featmap_strides'] = [4, 8]
        test['rpn']['max_per_img'], test['rcnn']['max_per_img'] = 60, 20
    torch.manual_seed(0)
    model = build_model(Config(dict(model=decode(use['model']), default_scope=use['scope'])))
    model.backbone = Pyramid(*model.backbone.out_channels[:4 if task == 'segmentation' else 2])
    for value in model.parameters():
        value.data.add_(torch.randn(value.shape) * .03)
    return model


def pictures(*sizes):
    """Normalised scenes."""
    for index, (height, width) in enumerate(sizes):
        image = render_scene(1, 'val', index, max(height, width), 'easy').image[:height, :width]
        yield (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] - 116.) / 58


ODD = ((64, 64), (33, 97), (95, 50), (100, 150))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Of a classifier of few blocks, with the results of its test beside it."""
    use = description('classification')
    use['model']['backbone']['arch'] = dict(dims=[32, 64, 128, 256], depths=[1, 0, 0, 0], num_heads=[1, 2, 4, 8])
    torch.manual_seed(0)
    model = build_model(Config(dict(model=decode(use['model']), default_scope=use['scope'])))
    for value in model.parameters():
        value.data.add_(torch.randn(value.shape) * .1)
    path = tmp_path_factory.mktemp('run') / 'epoch_3.pth'
    meta = {'epoch': 3, 'iter': 66, 'cfg': 'text', 'coma_mm': PROVENANCE, KEY: as_text(use)}
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    metrics = {'accuracy/top1': 87.5, 'tested': dict(images=4, data='test', checkpoint=str(path))}
    path.with_name('test.json').write_text(json.dumps(metrics))
    return str(path)


@pytest.fixture(scope='module')
def exported(checkpoint, tmp_path_factory):
    with untraced():
        return export(checkpoint, str(tmp_path_factory.mktemp('exported') / 'new/a.onnx'), license='CC0-1.0')


def test_a_classifier_is_onnx_for_images_of_any_number_and_size(checkpoint, exported):
    assert exported.fixed == [] and sorted(os.listdir(os.path.dirname(exported.path))) == ['a.onnx', 'a.onnx.md']
    model = load_described(checkpoint).model
    run = FORMATS['.onnx'].load(Path(exported.path).read_bytes())
    images = [*pictures(*ODD), torch.randn(4, 3, 65, 31), torch.randn(1, 3, 1, 5)]
    found = verify(model, exportable_part(model, 'model'), run, images)
    assert found.difference < 1e-5 and len({float(run(image)[0][0, 0]) for image in images}) == len(images)
    expected = load_described(checkpoint).model.predict(images[0])[0].pred_score
    torch.testing.assert_close(run(images[0])[0][0], expected)


def test_a_segmenter_is_onnx_for_images_of_any_number_and_size(as_it_is):
    model = with_pyramid('segmentation')
    module = exportable_part(model, 'model')
    data, images, free = make(model, module, FORMATS['.onnx'], 64, {})
    assert list(free.values()) == ['batch', 'height', 'width'] and any(
        isinstance(part, AdaptiveAveragePool) for part in module.modules())
    images += [*pictures(*ODD), torch.randn(4, 3, 65, 31)]
    assert verify(model, module, FORMATS['.onnx'].load(data), images).difference < 1e-4


def test_a_detector_is_a_program_for_any_size_and_any_number_of_objects(as_it_is):
    model = with_pyramid('detection')
    module = exportable_part(model, 'model')
    images = sorted([torch.zeros(1, 3, 40, 40), *pictures(*ODD)], key=lambda image: module(image)[1][0])
    lowest, low, *_ = (float(module(image)[1][0]) for image in images)
    for one in (model, module.model):
        one.roi_head.test_cfg.score_thr = (lowest + low) / 2
    free = free_choices(module.batch)[0]
    program = to_program(module, images[-1], free)
    for suffix, form in FORMATS.items():
        data = form.dump(program, list(module.outputs), free, dict(task='detection'))
        run = form.load(data)
        found = verify(model, module, run, images[1:])
        assert found.objects > 10 and found.difference < 1e-3, suffix
        none, some = run(images[0]), run(images[-1])
        assert [value.shape[1:] for value in some] == [value.shape[1:] for value in none] == [(4, ), (), (), (28, 28)]
        assert len(none[0]) == 0 < len(some[0])
    files = {FACTS: ''}
    torch.export.load(io.BytesIO(data), extra_files=files)
    assert list(free.values()) == ['height', 'width'] and json.loads(files[FACTS])['task'] == 'detection'
    size = tuple(images[-1].shape[-2:])
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1., 1.), pad_shape=size))
    expected = model.predict(F.pad(images[-1], (0, -size[1] % 32, 0, -size[0] % 32)), [sample])[0].pred_instances
    found = InstanceData(bboxes=some[0], scores=some[1], labels=some[2])
    assert len(found) == len(expected)
    found = reordered(found, expected)
    torch.testing.assert_close(found.bboxes, expected.bboxes, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-3)


def test_the_file_and_its_card_say_what_it_is(exported):
    session = onnxruntime.InferenceSession(exported.path)
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known['classes']) == CLASSES
    assert json.loads(known['provenance']) == {**PROVENANCE, 'data_root': 'shapes'}  # no more of where it lay
    prepared = json.loads(known['preprocessing'])
    assert prepared['mean'] == [123.675, 116.28, 103.53] and prepared['channel_order'] == 'RGB'
    assert prepared['resize'] == 'resize to a width of 64 px and a height of 64 px (bicubic)'
    assert (known['task'], known['license'], known['epochs'], known['config_sha256']) == (
        'classification', 'CC0-1.0', '3', hashlib.sha256(b'text').hexdigest())
    assert [axis for value in session.get_inputs() for axis in value.shape] == ['batch', 3, 'height', 'width']
    card = Path(exported.card).read_text()
    for part in ('| Licence | CC0-1.0 |', '| accuracy/top1 | 87.5 |', 'circle, 1: cross', '| Data | shapes |',
                 '| Epochs | 3 |', '| Epochs | 20 |', 'largest relative difference', prepared['resize'], '| onnxruntime | '):
        assert part in card, part
    assert '/home' not in card


@pytest.mark.parametrize('task', ['classification', 'segmentation', 'detection', 'pretraining'])
def test_preprocessing_is_that_of_any_library(task):
    model = trained(task)[1]
    found = preprocessing(model, decode(description(task)['pipeline']))
    assert found['channel_order'] == 'RGB' and found['std'] == [58.395, 57.12, 57.375]
    if task != 'pretraining':
        assert [step['type'] for step in found['steps']] == ['Resize'] and json.loads(json.dumps(found)) == found


def test_the_client_of_the_page_predicts_what_the_model_does(checkpoint, exported, tmp_path, monkeypatch, capsys):
    client = re.search(r'```python\n# file: client.py\n(.*?)```', PAGE.read_text(encoding='utf-8'), re.DOTALL)[1]
    (tmp_path / 'client.py').write_text(client)
    Image.fromarray(render_scene(3, 'val', 0, 96, 'easy').image[:80]).save(tmp_path / 'photo.png')
    monkeypatch.setattr(sys, 'argv', ['client.py', exported.path, str(tmp_path / 'photo.png')])
    runpy.run_path(str(tmp_path / 'client.py'))
    scores = next(load_described(checkpoint).predict([tmp_path / 'photo.png'])).pred_score
    name, score = capsys.readouterr().out.split()
    assert name == CLASSES[int(scores.argmax())] and abs(float(score) - float(scores.max())) < 2e-4


@pytest.mark.parametrize('task, channels', [('classification', [32, 64, 128, 256]), ('pretraining', [256])])
def test_a_backbone_gives_maps_whatever_its_model_takes(task, channels):
    model, image = trained(task)[1], torch.randn(1, 3, 37, 70)
    module = exportable_part(model, 'backbone')
    maps = module(image)
    assert [one.shape[1] for one in maps] == channels and len(module.outputs) == len(channels)
    assert maps[-1].shape[2:] == (3, 5) and model.backbone.out_type != 'featmap'
    for one, expected in zip(maps, module.by_library(model, image), strict=True):
        torch.testing.assert_close(one, expected)


def test_pooling_by_products_is_adaptive_pooling():
    for height, width in ((1, 1), (2, 5), (7, 12), (64, 31)):
        x = torch.randn(2, 3, height, width)
        for cells in ((1, 6), (3, 2), (6, 6)):
            torch.testing.assert_close(AdaptiveAveragePool(cells)(x), F.adaptive_avg_pool2d(x, cells))


class Small(Exportable):
    """A module of one operation, in the place of what is exported of a classifier."""
    outputs = dict(scores='')

    def __init__(self, function):
        super().__init__(trained('classification')[1])
        self.function = function

    def forward(self, images):
        return (self.function(images), )


def test_an_operator_that_onnx_lacks_is_named():
    module = Small(torch.special.bessel_j0)
    with pytest.raises(UserError) as caught:
        make(module.model, module, FORMATS['.onnx'], 64, {})
    assert re.fullmatch(r'cannot export ImageClassifier: ONNX has no operator for \w+.bessel_j0, which it uses; export it '
                        'to .pt2, or --part backbone alone', str(caught.value))


def test_sizes_that_a_model_does_not_leave_free_are_fixed():
    module = Small(lambda images: images.reshape(-1, 3 * 64 * 64).softmax(1))
    facts = {}
    data, images, free = make(module.model, module, FORMATS['.pt2'], 64, facts)
    assert free == {0: 'batch'} and facts['inputs'] == dict(images='float32 (batch, 3, 64, 64), normalised')
    assert [tuple(image.shape) for image in images] == [(1, 3, 64, 64), (2, 3, 64, 64), (3, 3, 64, 64)]
    assert FORMATS['.pt2'].load(data)(images[2])[0].shape == (3, 3 * 64 * 64)


def test_what_cannot_be_exported_leaves_nothing(checkpoint, exported, tmp_path, monkeypatch):
    def fail(expected, source=checkpoint, out='a.onnx', **options):
        with pytest.raises(UserError) as caught:
            export(source, str(tmp_path / out), **options)
        assert expected in str(caught.value) and '\n' not in str(caught.value)

    before = write_checkpoint(tmp_path / 'old.pth', 'classification', description=None)
    foreign = str(tmp_path / 'foreign.pth')
    torch.save({'conv1.weight': torch.ones(1)}, foreign)
    there = sorted(os.listdir(tmp_path))
    fail('a.pth: expected a name that ends in .onnx, .pt2, .safetensors', out='a.pth')
    fail('is there already; take another name, or --force', out=exported.path)
    fail('old.pth does not say how it is used', before)
    fail('foreign.pth does not say how it is used', foreign)
    fail('foreign.pth lacks 99 of 99 tensors of ImageClassifier', foreign, config=config_path('classification'))
    fail('cannot export CoMA: expected a classifier', write_checkpoint(exported.path + '.pth', 'pretraining'))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'onnxruntime', None)
        fail('run pip install "coma-mm[export]"')
    with monkeypatch.context() as patch:  # a program that computes something else
        patch.setattr(exporting, 'make', lambda model, module, *_: (b'', list(pictures(*ODD)), {}))
        patch.setattr(FORMATS['.pt2'], 'load', lambda data: lambda images: (torch.full((1, 5), .2), ))
        fail('the exported program differs from the model on 1×3×64×64, ', out='new/a.pt2')
    with monkeypatch.context() as patch:  # a disk that is full for the second of the files

        def write(path, content):
            if path.endswith('.md'):
                Path(path).write_text(content)
            else:
                raise OSError('no space left')

        patch.setattr(exporting, 'make', lambda model, module, *_: (b'', list(pictures(*ODD)), {}))
        patch.setattr(exporting, 'verify', lambda *_: 'on nothing')
        patch.setattr(FORMATS['.pt2'], 'load', lambda data: None)
        patch.setattr(exporting, 'write_whole', write)
        fail('no space left', out='new/a.pt2')
    assert sorted(os.listdir(tmp_path)) == there


def test_a_detector_without_masks_gives_the_rest_and_one_that_works_otherwise_is_refused():
    model = with_pyramid('detection')
    image = next(pictures(ODD[1]))
    expected = ExportableDetector.by_library(model, image)[:3]
    model.roi_head.mask_head = None
    module = exportable_part(model, 'model')
    assert list(module.outputs) == ['boxes', 'scores', 'labels']
    for found, one in zip(module(image), expected, strict=True):
        torch.testing.assert_close(found, one)
    model.roi_head.test_cfg.nms = dict(type='soft_nms', iou_threshold=.5)
    with pytest.raises(UserError, match='cannot export NMS as .*soft_nms'):
        exportable_part(model, 'model')
    with pytest.raises(UserError, match='cannot export Linear: expected a classifier of mmpretrain'):
        exportable_part(nn.Linear(1, 1), 'model')


def test_the_command_writes_the_backbones_weights_with_a_card(checkpoint, tmp_path, run_tool):
    out = tmp_path / 'a.safetensors'
    text = run_tool('export.py', checkpoint, out, '--license', 'CC0-1.0')
    loaded = load_weights_only(out)
    assert 'tensors read back, bit for bit' in text and loaded['meta']['license'] == 'CC0-1.0'
    assert KEY in loaded['meta'] and loaded['meta']['coma_mm'] == {**PROVENANCE, 'data_root': 'shapes'}
    assert '| Epochs | 3 |' in Path(f'{out}.md').read_text()
    assert 'is there already' in run_tool('export.py', checkpoint, out, code=2)
    run_tool('export.py', checkpoint, out, '--force')
