import json

import matplotlib
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose
from mmengine.structures import InstanceData, PixelData
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset
from mmseg.structures import SegDataSample
from PIL import Image

from coma_mm.errors import UserError
from coma_mm.visualization import classification_figure, detection_figure, segmentation_figure
from coma_mm.visualization.judged import judge
from coma_mm.visualization.style import CLASS_COLORS, class_colors

CLASSES = ('star', 'ring')
COLORS = np.array([matplotlib.colors.to_rgb(color) for color in CLASS_COLORS[:2]])
PICTURE = np.full((40, 60, 3), (30, 60, 90), np.uint8)  # mean 60


class Model:
    """Answers every sample with one prediction, as the libraries' models do."""

    def __init__(self, sample):
        self.sample = sample

    def test_step(self, batch):
        assert isinstance(batch['inputs'], list)
        return [self.sample]


def pixels(ax):
    return np.asarray(ax.images[0].get_array())


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.fixture
def seg_dataset(tmp_path):
    labels = np.zeros((40, 60), np.uint8)
    labels[:20, :30], labels[20:, :30] = 1, 2
    for name in ('img', 'ann'):
        (tmp_path / name).mkdir()
    Image.fromarray(PICTURE).save(tmp_path / 'img/0.png')
    Image.fromarray(labels).save(tmp_path / 'ann/0.png')
    return BaseSegDataset(
        img_suffix='.png', data_root=str(tmp_path), data_prefix=dict(img_path='img', seg_map_path='ann'),
        metainfo=dict(classes=CLASSES), reduce_zero_label=True,
        pipeline=[dict(type='mmseg.LoadImageFromFile'), dict(type='mmseg.PackSegInputs')])


def test_segmentation(seg_dataset):
    prediction = SegDataSample(pred_sem_seg=PixelData(data=torch.ones(1, 40, 60, dtype=torch.int64)))
    fig = segmentation_figure(Model(prediction), seg_dataset, number=3)
    image, truth, predicted = fig.axes
    assert [ax.get_title() for ax in fig.axes] == ['Image', 'Truth', 'Prediction']
    np.testing.assert_array_equal(pixels(image), PICTURE)
    star, ring = 60 + .7 * (255 * COLORS - 60)
    np.testing.assert_allclose(pixels(truth)[10, 10], star, atol=1)
    np.testing.assert_allclose(pixels(truth)[30, 10], ring, atol=1)
    assert (pixels(truth)[:, 30:] == 60).all()  # not labelled: grey
    np.testing.assert_allclose(pixels(predicted)[10, 10], ring, atol=1)
    np.testing.assert_allclose(pixels(predicted)[10, 50], 60 + .2 * (255 * COLORS[1] - 60), atol=1)  # not scored: faint
    assert sorted(texts(truth)) == ['ring', 'star'] and texts(predicted) == ['ring']
    for text in truth.texts:
        x, y = text.get_position()
        assert x < 30 and (y < 20) == (text.get_text() == 'star')
    legend = fig.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ['star', 'ring']


def test_a_prediction_of_another_size_is_refused(seg_dataset):
    prediction = SegDataSample(pred_sem_seg=PixelData(data=torch.ones(1, 20, 30, dtype=torch.int64)))
    with pytest.raises(UserError, match=r'0\.png: .* differ in size .*\(20, 30\)'):
        segmentation_figure(Model(prediction), seg_dataset)


def test_the_truth_has_the_ids_that_the_pipeline_gives_it_in_pictures_and_scores(seg_dataset):
    """As in the configs of `coma-mm new --ignore`: a value that is no class has no name."""
    seg_dataset.pipeline = Compose([
        dict(type='mmseg.LoadImageFromFile'), dict(type='mmseg.LoadAnnotations'),
        dict(type='MapClassIds', ids={0: 1, 1: 255}), dict(type='mmseg.PackSegInputs')])
    sample = SegDataSample(pred_sem_seg=PixelData(data=torch.ones(1, 40, 60, dtype=torch.int64)))
    truth = segmentation_figure(Model(sample), seg_dataset).axes[1]
    assert texts(truth) == ['ring'] and (pixels(truth)[20:] == 60).all()
    assert judge(Model(sample), seg_dataset, 1) == [(1., 0)]


def test_detection(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / '0.png')
    annotation = dict(id=1, image_id=1, category_id=2, bbox=[10, 20, 20, 10], area=200, iscrowd=0,
                      segmentation=[[10, 20, 30, 20, 30, 30, 10, 30]])
    (tmp_path / 'a.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='0.png', height=40, width=60)],
        annotations=[annotation], categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)])))
    dataset = CocoDataset(
        data_root=str(tmp_path), ann_file='a.json', data_prefix=dict(img=''), metainfo=dict(classes=CLASSES),
        test_mode=True, pipeline=[dict(type='mmdet.LoadImageFromFile'), dict(type='mmdet.PackDetInputs', meta_keys=())])
    masks = torch.zeros(3, 40, 60, dtype=torch.bool)
    masks[:, :5, :5] = True
    found = InstanceData(
        bboxes=torch.tensor([[0., 0, 5, 5], [1, 1, 6, 6], [2, 2, 7, 7]]), labels=torch.tensor([0, 1, 0]),
        scores=torch.tensor([.3, .9, .1]), masks=masks)

    truth, predicted = detection_figure(Model(DetDataSample(pred_instances=found)), dataset, score_threshold=.2).axes
    box, = truth.patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (10, 20, 20, 10)
    assert texts(truth) == ['ring'] and texts(predicted) == ['star 0.30', 'ring 0.90']
    assert [box.get_xy() for box in predicted.patches] == [(0, 0), (1, 1)]
    ring = PICTURE[0, 0] + .45 * (255 * COLORS[1] - PICTURE[0, 0])
    np.testing.assert_allclose(pixels(truth)[25, 20], ring, atol=1)
    np.testing.assert_array_equal(pixels(truth)[5, 5], PICTURE[0, 0])
    assert (pixels(predicted)[2, 2] != PICTURE[0, 0]).any()

    del found.masks
    _, predicted = detection_figure(Model(DetDataSample(pred_instances=found)), dataset, max_detections=1).axes
    assert texts(predicted) == ['ring 0.90'] and (pixels(predicted) == PICTURE).all()
    _, predicted = detection_figure(Model(DetDataSample(pred_instances=found)), dataset, score_threshold=.95).axes
    assert texts(predicted) == ['none'] and not predicted.patches


def test_classification(tmp_path):
    for index, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        Image.fromarray(PICTURE).save(tmp_path / name / f'{index}.png')
    dataset = CustomDataset(data_root=str(tmp_path), metainfo=dict(classes=CLASSES), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='mmpretrain.PackInputs')])

    class Classifier:

        def test_step(self, batch):
            sample, = batch['data_samples']
            return [sample.set_pred_score(torch.tensor([.25, .75])).set_pred_label(1)]

    wrong, right = classification_figure(Classifier(), dataset, number=9).axes
    assert wrong.get_title() == 'ring 0.75\nTruth: star' and right.get_title() == 'ring 0.75\n'
    assert wrong.title.get_color() != right.title.get_color()
    np.testing.assert_array_equal(pixels(wrong), PICTURE)


def test_class_colors():
    assert class_colors(('background', 'a', 'b'))[1:] == class_colors(('a', 'b'))
    names = tuple(map(str, range(11)))
    palette = [(i, i, i) for i in range(0, 255, 25)]
    assert class_colors(names, palette)[2] == (50 / 255, ) * 3
    assert len(set(class_colors(names[:10], palette[:10]))) == 10
