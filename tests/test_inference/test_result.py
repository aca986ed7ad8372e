"""What a model says of an image, for Python."""
import io

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from coma_mm.errors import UserError
from coma_mm.inference import load_described

from ..helpers.described import CLASSES, write_checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('results')
    return {task: load_described(write_checkpoint(folder / f'{task}.pth', task))
            for task in ('classification', 'segmentation', 'detection')}


def drawn(result, **how):
    """The size of the picture in px."""
    file = io.BytesIO()
    result.show(**how).savefig(file, dpi=100)
    return Image.open(file).size


def test_a_classification(models):
    result = models['classification'](IMAGE)
    assert result.scores.shape == (5, ) and result.scores.sum() == pytest.approx(1)
    assert result.names[0] == CLASSES[result.scores.argmax()] and sorted(result.names) == CLASSES
    assert np.all(np.diff(result.scores[result.labels]) <= 0)
    assert repr(result) == f'Result({result.names[0]} {result.scores.max():.2f})'
    assert np.array_equal(result.image, IMAGE) and drawn(result)[0] > 300
    with pytest.raises(UserError, match='boxes is of detection, and this result is of classification'):
        result.boxes  # noqa: B018


def test_a_segmentation(models):
    result = models['segmentation'](IMAGE)
    assert result.map.shape == (64, 64) and set(result.labels) == set(np.unique(result.map))
    assert result.names == [CLASSES[label] for label in result.labels] and repr(result).startswith('Result(')
    assert drawn(result)[0] > 300


def test_a_detection_and_its_coco_results(models):
    result = models['detection'](IMAGE)
    assert result.boxes.shape == (len(result.scores), 4) and len(result.labels) == len(result.scores) > 0
    assert result.masks.shape == (len(result.scores), 64, 64) and result.masks.dtype == bool
    found = result.to_coco('photo', category_ids=[7, 8, 9, 10, 11])
    first = int(result.sample.pred_instances.scores.argsort(descending=True)[0])  # of many that are as certain
    assert len(found) == len(result.scores)
    left, top, right, bottom = result.boxes[first]
    assert found[0]['bbox'] == pytest.approx([left, top, right - left, bottom - top], abs=6e-3)
    assert found[0]['category_id'] == 7 + result.labels[first] and found[0]['image_id'] == 'photo'
    mask = mask_utils.decode(dict(found[0]['segmentation'], counts=found[0]['segmentation']['counts'].encode()))
    assert np.array_equal(mask.astype(bool), result.masks[first])
    assert drawn(result)[0] > 300 and drawn(result, score_threshold=1.1)[0] > 300  # none


@pytest.mark.parametrize('task', ['classification', 'segmentation', 'detection'])
def test_several_images_of_any_form_have_the_results_of_each(models, tmp_path, task):
    Image.fromarray(IMAGE).save(tmp_path / 'a.png')
    one = models[task](IMAGE)
    several = models[task]([tmp_path / 'a.png', Image.fromarray(IMAGE), torch.from_numpy(IMAGE).permute(2, 0, 1)])
    for other in several:
        if task == 'detection':
            assert np.array_equal(one.boxes, other.boxes)
        else:
            assert np.array_equal(one.labels, other.labels)


def test_without_names_classes_are_numbers(models):
    model = models['segmentation']
    try:
        names, model.classes = model.classes, None
        assert set(model(IMAGE).names) <= set('01234')
    finally:
        model.classes = names
