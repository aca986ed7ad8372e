"""Labels follow the names of the classes, whatever the order of the categories in the files."""
import itertools
import json
import math

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric

from coma_mm.config.read import register_libraries
from coma_mm.errors import UserError

NAMES = ('disc', 'box', 'bar')


@pytest.fixture(autouse=True, scope='module')
def named():
    register_libraries('mmdet')


def write(path, names=NAMES, used=NAMES, masks=True, ids=None, images=(1, 2, 3), suffix='.jpg'):
    """A file with its categories in the order of `names`, where image n has one object of each of `used`."""
    ids = dict(zip(names, ids or itertools.count(1), strict=False))
    images = [dict(id=number, file_name=f'{number}{suffix}', width=64, height=64) for number in images]
    annotations = []
    for image, (place, name) in itertools.product(images, enumerate(used)):
        x, y = 20 * place, 4 * image['id']
        annotations.append(dict(id=len(annotations) + 1, image_id=image['id'], category_id=ids[name], iscrowd=0, area=160,
                                bbox=[x, y, 10, 16]))
        if masks:
            annotations[-1]['segmentation'] = [[x, y, x + 10, y, x + 10, y + 16, x, y + 16]]
    categories = [dict(id=ids[name], name=name) for name in names]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return str(path)


def dataset(path, classes=NAMES, **options):
    options = dict(data_prefix=dict(img=''), serialize_data=False, **options)
    return CocoDataset(ann_file=path, metainfo=dict(classes=classes), **options)


def names_of(data):
    """list: What each object of the first image is called, from left to right."""
    return [data.metainfo['classes'][one['bbox_label']] for one in data.get_data_info(0)['instances']]


def scores(data, path, missed=None, **options):
    """dict: What `CocoMetric` says of predictions that are the objects of the data set, without those of a label."""
    metric = CocoMetric(ann_file=path, **options)
    metric.dataset_meta = data.metainfo
    for index in range(len(data)):
        info = data.get_data_info(index)
        found = [one for one in info['instances'] if one['bbox_label'] != missed]
        pred = dict(bboxes=torch.tensor([one['bbox'] for one in found]), scores=torch.ones(len(found)),
                    labels=torch.tensor([one['bbox_label'] for one in found]))
        sample = dict(img_id=info['img_id'], ori_shape=(64, 64), pred_instances=pred, instances=info['instances'])
        metric.process({}, [sample])
    return metric.evaluate(len(data))


@pytest.mark.parametrize('order, ids', [
    (NAMES, None), (NAMES, (7, 2, 5)), (('bar', 'disc', 'box'), None), (('box', 'bar', 'disc'), ('x', 'a', 'c'))])
def test_perfect_predictions_score_one_whatever_the_order(tmp_path, order, ids):
    path = write(tmp_path / 'a.json', order, ids=ids)
    data = dataset(path)
    assert names_of(data) == list(NAMES)
    assert [one['bbox_label'] for one in data.get_data_info(0)['instances']] == [0, 1, 2]
    assert scores(data, path)['coco/bbox_mAP'] == 1
    # Of files in different orders, too.
    other = write(tmp_path / 'b.json', NAMES)
    assert scores(data, other)['coco/bbox_mAP'] == scores(dataset(other), path)['coco/bbox_mAP'] == 1


def test_a_class_without_a_category_leaves_the_others_their_labels(tmp_path):
    path = write(tmp_path / 'a.json', ('bar', 'disc'), used=('disc', 'bar'))
    data = dataset(path)
    assert names_of(data) == ['disc', 'bar'] and data.cat_ids.objects == dict(bar=3, disc=3)
    assert len(dataset(path, filter_cfg=dict(filter_empty_gt=True))) == 3
    assert scores(data, path)['coco/bbox_mAP'] == 1
    # A prediction of it is wrong; it may be made.
    metric = CocoMetric(ann_file=path, classwise=True)
    metric.dataset_meta = data.metainfo
    boxes = torch.tensor([[0., 4, 10, 20], [20, 4, 30, 20], [1, 1, 9, 9]])
    pred = dict(bboxes=boxes, scores=torch.tensor([1., 1, 0.5]), labels=torch.tensor([0, 2, 1]))
    metric.process({}, [dict(img_id=1, ori_shape=(64, 64), pred_instances=pred)])
    assert math.isnan(metric.evaluate(1)['coco/box_precision'])


@pytest.mark.parametrize('options', [{}, dict(use_mp_eval=True)])
def test_scores_by_class_have_the_names_of_their_classes(tmp_path, options):
    path = write(tmp_path / 'a.json', ('bar', 'disc', 'box'), ids=(2, 9, 4))
    data = dataset(path)
    result = scores(data, path, missed=0, classwise=True, **options)
    assert [result[f'coco/{name}_precision'] for name in NAMES] == [0, 1, 1]


def test_ground_truth_from_the_data_set_follows_the_names_too(tmp_path):
    assert scores(dataset(write(tmp_path / 'a.json', ('bar', 'disc', 'box'))), None)['coco/bbox_mAP'] == 1


def test_own_classes_where_coco_s_are_looked_for_are_named(tmp_path):
    path = write(tmp_path / 'a.json')
    with pytest.raises(UserError) as caught:
        CocoDataset(ann_file=path, data_prefix=dict(img=''))
    assert str(caught.value) == (
        f"CocoDataset finds no sample of COCO's own 80 classes person, bicycle, car, … in {path}, whose objects are of "
        'disc, box, bar; set metainfo=dict(classes=...) of the data set to the names in the file, and num_classes=3 of the '
        'heads')
    with pytest.raises(UserError, match='no sample of the classes a, b in'):
        dataset(path, ('a', 'b'))
    path = write(tmp_path / 'b.json', used=())  # images without any object
    assert len(dataset(path, ('a', 'b'))) == 3
