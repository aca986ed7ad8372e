"""`coma-mm predict`: what it writes, what it goes on with, and what it refuses."""
import json
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from coma_mm.inference import load_described, results
from coma_mm.inference.drawing import colors_of, map_png
from coma_mm.inference.predict import JOURNAL
from coma_mm.inference.results import CutMask, class_map, scores, shares

from ..helpers.described import CLASSES, config_path, write_checkpoint
from ..helpers.detections import reordered
from .test_sources import write_video


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Checkpoints by task, and a folder of three images in which one is damaged."""
    folder = tmp_path_factory.mktemp('predict')
    paths = {task: write_checkpoint(folder / f'{task}.pth', task)
             for task in ('classification', 'segmentation', 'detection', 'pretraining')}
    for number, name in enumerate(('a.jpg', 'sub/b.png', 'c.png')):
        path = folder / 'images' / name
        path.parent.mkdir(exist_ok=True, parents=True)
        image = np.random.default_rng(number).integers(0, 256, (70, 90, 3), np.uint8)
        cv2.imwrite(str(path), cv2.GaussianBlur(image, (0, 0), 3))
    (folder / 'bad').mkdir()
    (folder / 'bad/broken.jpg').write_bytes((folder / 'images/a.jpg').read_bytes()[:300])
    return SimpleNamespace(folder=folder, images=str(folder / 'images'), bad=str(folder / 'bad'), **paths)


def predictions(out):
    return json.loads((out / 'predictions.json').read_text())


def images_of(made):
    return [cv2.imread(f'{made.images}/{name}') for name in ('a.jpg', 'c.png', 'sub/b.png')]


def test_classification(made, run_tool, tmp_path):
    text = run_tool('predict.py', made.classification, made.images, '--out', tmp_path / 'new/out', '--top-k', 3, '--overlay')
    assert '3 images predicted in ' in text and 'images/s' in text
    found = predictions(tmp_path / 'new/out')
    assert [one['file_name'] for one in found] == ['a.jpg', 'c.png', 'sub/b.png']
    assert (found[0]['width'], found[0]['height']) == (90, 70)
    expected = next(load_described(made.classification).predict(images_of(made)[:1])).pred_score
    best = expected.argsort(descending=True)[:3].tolist()
    assert list(found[0]['scores']) == [CLASSES[label] for label in best]
    np.testing.assert_allclose(list(found[0]['scores'].values()), expected[best], atol=1e-4)
    assert (tmp_path / 'new/out/overlays/sub/b.jpg').is_file()


def test_segmentation(made, run_tool, tmp_path):
    run_tool('predict.py', made.segmentation, made.images, '--out', tmp_path, '--batch-size', 2, '--overlay')
    found = predictions(tmp_path)
    whole = [class_map(one) for one in load_described(made.segmentation).predict(images_of(made))]
    for one, expected in zip(found, whole, strict=True):
        with Image.open(tmp_path / one['map']) as picture:
            assert picture.mode == 'P' and picture.getpalette()[:15] == [v for c in colors_of(CLASSES, None) for v in c]
            labels = np.asarray(picture)
        assert (labels == expected).mean() > .999
        assert abs(sum(one['shares'].values()) + one['unsure'] - 1) < 1e-4
        assert abs(one['shares'][CLASSES[labels[0, 0]]] - (labels == labels[0, 0]).mean()) < 1e-4
    with Image.open(tmp_path / 'overlays/a.jpg') as picture:
        assert picture.size == (90, 70)


def test_detection_is_cocos_results(made, run_tool, tmp_path):
    run_tool('predict.py', made.detection, made.images, '--out', tmp_path, '--score-threshold', .05, '--top-k', 4,
             '--overlay')
    found = predictions(tmp_path)
    assert {one['file_name'] for one in found} == {'a.jpg', 'c.png', 'sub/b.png'} and len(found) == 12
    coco = COCO(tmp_path / 'coco.json')
    loaded = coco.loadRes(str(tmp_path / 'predictions.json'))
    assert len(loaded.getAnnIds()) == 12 and [one['name'] for one in coco.dataset['categories']] == CLASSES
    boxes = torch.tensor([one['bbox'] for one in found[:4]])
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([one['category_id'] - 1 for one in found[:4]])
    objects = next(load_described(made.detection).predict(images_of(made)[:1])).pred_instances
    expected = reordered(objects, InstanceData(bboxes=boxes, labels=labels))
    assert torch.allclose(expected.scores, objects.scores[:4], atol=1e-4)
    torch.testing.assert_close(boxes, expected.bboxes, atol=.05, rtol=0)
    for number, one in enumerate(found[:4]):
        assert one['category'] == CLASSES[one['category_id'] - 1] == CLASSES[expected.labels[number]]
        assert (coco_mask.decode(one['segmentation']) == np.asarray(expected.masks[number])).mean() > .999
        assert coco.imgs[one['image_id']]['file_name'] == one['file_name']


def test_an_image_that_cannot_be_read_is_named_and_counted(made, run_tool, tmp_path):
    text = run_tool('predict.py', made.classification, made.bad, f'{made.images}/a.jpg', '--out', tmp_path, code=1)
    assert text.count('skipped: cannot read the image') == 1 and 'broken.jpg: ' in text and 'train_dataloader' not in text
    assert '1 image predicted' in text and '1 could not be read' in text
    assert [one['file_name'] for one in predictions(tmp_path)] == ['a.jpg']


def test_the_same_command_goes_on_where_it_was_stopped(made, run_tool, tmp_path, monkeypatch):
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    command = 'predict.py', made.segmentation, made.images
    run_tool(*command, '--out', whole)
    write, calls = results.shares, []

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(results, 'shares', lambda *args: (calls.append(1), write(*args) if len(calls) < 3 else stop())[1])
    run_tool(*command, '--out', out, code=130)
    assert not (out / 'predictions.json').exists()
    with open(out / JOURNAL, 'a') as file:
        file.write('{"torn')  # as a power failure leaves it
    monkeypatch.undo()
    assert '1 image predicted' in (text := run_tool(*command, '--out', out)) and '2 were done before' in text
    assert (out / 'predictions.json').read_bytes() == (whole / 'predictions.json').read_bytes()
    assert '0 images predicted' in run_tool(*command, '--out', out)
    os.remove(out / 'maps/c.png')  # what is gone is made again, and what is asked for later is added
    assert '1 image predicted' in run_tool(*command, '--out', out)
    assert '3 images predicted' in run_tool(*command, '--out', out, '--overlay')
    assert (out / 'predictions.json').read_bytes() == (whole / 'predictions.json').read_bytes()


def test_more_and_changed_images_go_into_the_same_folder(made, run_tool, tmp_path):
    image = tmp_path / 'images/x.png'
    image.parent.mkdir()
    cv2.imwrite(str(image), np.zeros((64, 64, 3), np.uint8))
    out, command = tmp_path / 'out', ('predict.py', made.classification)
    run_tool(*command, image, '--out', out)
    first = predictions(out)
    cv2.imwrite(str(image), np.full((32, 64, 3), 255, np.uint8))
    assert '4 images predicted' in run_tool(*command, image.parent, made.images, '--out', out)
    found = predictions(out)
    assert [one['file_name'] for one in found] == ['x.png', 'a.jpg', 'c.png', 'sub/b.png']
    assert found[0]['height'] == 32 and found[0] != first[0]


def test_an_output_folder_of_another_run_is_refused_and_left_as_it_is(made, run_tool, tmp_path):
    out, command = tmp_path / 'out', ('predict.py', made.segmentation, f'{made.images}/a.jpg')
    run_tool(*command, '--out', out)
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    line = run_tool('predict.py', made.classification, f'{made.images}/a.jpg', '--out', out, code=2)
    assert 'holds predictions of another run, with checkpoint=segmentation.pth and not classification.pth; ' in line
    line = run_tool(*command, '--out', out, '--score-threshold', .5, code=2)
    assert 'with score_threshold=None and not 0.5; choose another --out, or --overwrite' in line
    assert {path: path.read_bytes() for path in out.rglob('*') if path.is_file()} == before
    run_tool('predict.py', made.classification, f'{made.images}/c.png', '--out', out, '--overwrite')
    assert not (out / 'maps/a.png').exists() and not (out / 'thumbs/a.jpg').exists()
    assert [one['file_name'] for one in predictions(out)] == ['c.png']
    line = run_tool(*command, '--out', made.images, code=2)
    assert 'holds other files (a.jpg, c.png, sub); choose a new folder' in line


@pytest.mark.parametrize(('changes', 'args', 'said'), [
    ({}, ['--tile', '64'], '--tile is for segmentation and detection'),
    (dict(checkpoint='segmentation'), ['--tile', '64', '--overlap', '64'], '--overlap 64: expected less than --tile 64'),
    (dict(checkpoint='segmentation'), ['--tta', '--score-threshold', '.5'], '--tta gives no certainty of pixels'),
    (dict(checkpoint='pretraining'), [], 'was pre-trained and predicts nothing'),
    (dict(images='none.jpg'), [], 'no image none.jpg'),
    ({}, ['--device', 'cuda:99'], 'cannot compute on cuda:99'),
    ({}, ['--config', 'none.py'], 'no config file none.py'),
    (dict(checkpoint=None), [], 'does not say how it is used')])
def test_bad_input_is_one_line_and_nothing_is_written(made, run_tool, tmp_path, changes, args, said):
    checkpoint = changes.get('checkpoint', 'classification')
    path = getattr(made, checkpoint) if checkpoint else write_checkpoint(tmp_path / 'a.pth', 'detection', description=None)
    line = run_tool('predict.py', path, changes.get('images', made.images), '--out', tmp_path / 'out', *args, code=2)
    assert said in line and not (tmp_path / 'out').exists()


def test_videos_frames_are_predicted(made, run_tool, tmp_path):
    video = write_video(tmp_path / 'clip.avi')
    command = 'predict.py', made.classification, video, '--out', tmp_path / 'out', '--every', 3
    assert '3 images predicted' in run_tool(*command, '--batch-size', 2)
    assert [one['file_name'] for one in predictions(tmp_path / 'out')] == [f'clip.avi/{n:06d}.png' for n in (0, 3, 6)]
    assert '3 were done before' in run_tool(*command)


@pytest.mark.parametrize('task', ['classification', 'segmentation', 'detection'])
@pytest.mark.parametrize('option', ['--amp', '--tta'])
def test_amp_and_tta_change_results_a_little(made, run_tool, tmp_path, task, option):
    args = ['--score-threshold', .05] if task == 'detection' else []
    for name, more in (('plain', []), ('other', [option])):
        run_tool('predict.py', getattr(made, task), f'{made.images}/a.jpg', '--out', tmp_path / name, *args, *more)
    plain, other = predictions(tmp_path / 'plain'), predictions(tmp_path / 'other')
    if task == 'detection':
        assert len(other) > 1 and ('segmentation' in other[0]) == (option == '--amp')
        return
    field = 'scores' if task == 'classification' else 'shares'
    difference = max(abs(plain[0][field].get(name, 0) - other[0][field].get(name, 0)) for name in CLASSES)
    assert difference < .5 and (difference > 0 or option == '--amp')


def test_tiles_are_for_larger_images_alone(made, run_tool, tmp_path):
    small = tmp_path / 'small.png'
    cv2.imwrite(str(small), np.random.default_rng(0).integers(0, 256, (60, 64, 3), np.uint8))
    for name, more in (('plain', []), ('tiled', ['--tile', 64, '--overlap', 16])):
        run_tool('predict.py', made.segmentation, small, f'{made.images}/a.jpg', '--out', tmp_path / name, *more)
    (first, second), (same, other) = predictions(tmp_path / 'plain'), predictions(tmp_path / 'tiled')
    assert first == same and second['file_name'] == other['file_name'] and second['shares'] != other['shares']


def test_a_config_takes_the_place_of_the_description(made, run_tool, tmp_path):
    path = write_checkpoint(tmp_path / 'a.pth', 'classification', description=None)
    for name, args in (('one', [path, '--config', config_path('classification')]), ('two', [made.classification])):
        run_tool('predict.py', *args, made.images, '--out', tmp_path / name)
    assert predictions(tmp_path / 'one') == predictions(tmp_path / 'two')


def test_scores_and_shares_keep_what_was_asked_for():
    result = DataSample().set_pred_score(torch.tensor([.1, .6, .3]))
    assert scores(result, None, 0, None) == dict(scores={'1': .6, '2': .3, '0': .1})
    assert scores(result, ['a', 'b', 'c'], .2, None) == dict(scores=dict(b=.6, c=.3))
    assert scores(result, ['a', 'b', 'c'], .9, 1) == dict(scores=dict(b=.6))  # the first always
    labels = np.uint8([[0, 0, 2, 255]])
    assert shares(labels, ['a', 'b', 'c'], None) == dict(shares=dict(a=.5, c=.25), unsure=.25)
    assert shares(labels, ['a', 'b', 'c'], 1) == dict(shares=dict(a=.5), unsure=.25)


def test_maps_of_many_classes_have_sixteen_bits(tmp_path):
    labels = np.uint16([[0, 300], [65535, 2]])
    path = tmp_path / 'a.png'
    path.write_bytes(map_png(labels, colors_of(None, None, 400)))
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture), labels)


@pytest.mark.parametrize('seed', range(20))
def test_run_lengths_of_cut_masks_are_those_of_pycocotools(seed):
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 9, 2)
    mask = random.random((height, width)) < random.choice([0, .3, .8, 1])
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    cut = CutMask.of(mask)
    assert cut.runs((height, width)) == dict(size=[height, width], counts=encoded['counts'].decode())
    place = np.zeros((12, 12), bool)
    place[3:3 + height, 2:2 + width] = mask
    assert np.array_equal(coco_mask.decode(CutMask.of(mask, 3, 2).runs((12, 12))), place)
