"""Annotations that name files outside of their data set are refused, whatever the library."""
import json
from contextlib import nullcontext

import pytest
from mmdet.datasets import CocoDataset
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset

from coma_mm.datasets import SeededDataset
from coma_mm.datasets.annotations import check_annotations, check_class_lists, missing_files
from coma_mm.errors import UserError


def coco(root, name):
    image = dict(id=1, file_name=name, width=8, height=8)
    annotation = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4], area=16, iscrowd=0)
    content = dict(images=[image], annotations=[annotation], categories=[dict(id=1, name='a')])
    (root / 'list').write_text(json.dumps(content))
    return CocoDataset(data_root=str(root), ann_file='list', data_prefix=dict(img='img/'), metainfo=dict(classes=('a', )))


def classification(root, name):
    (root / 'list').write_text(f'{name} 0')
    return CustomDataset(data_root=str(root), ann_file='list', data_prefix='img')


def segmentation(root, name):
    (root / 'list').write_text(name.rpartition('.')[0])
    return BaseSegDataset(data_root=str(root), ann_file='list', data_prefix=dict(img_path='img', seg_map_path='ann'))


def plain(root, name):
    content = dict(metainfo=dict(), data_list=[dict(img_path=name)])
    (root / 'list.json').write_text(json.dumps(content))
    return BaseDataset(data_root=str(root), ann_file='list.json', data_prefix=dict(img_path='img'))


@pytest.mark.parametrize('make', [coco, classification, segmentation, plain])
def test_names_that_lead_out_of_the_data_set_are_refused(tmp_path, make, monkeypatch):
    root = tmp_path / 'data'
    root.mkdir()
    monkeypatch.chdir(root)
    for name in ('../../x.jpg', '/etc/x.jpg', 'a/../../../x.jpg', f'{root}-of-another/x.jpg', '../../data2/x.jpg'):
        dataset = make(root, name)
        several = ConcatDataset([make(root, 'a.jpg'), dataset])
        for wrapped in (dataset, SeededDataset(several), several, RepeatDataset(dataset, 2)):
            with pytest.raises(UserError) as caught:
                check_annotations(wrapped)
            line = str(caught.value)
            assert f'{root}/list' in line and 'x.jpg' in line and 'of sample 0' in line and '\n' not in line
    for name in ('a.jpg', 'b/a.jpg', '../val/a.jpg', f'{root}/img/a.jpg', '..a.jpg'):
        check_annotations(make(root, name))


def test_links_inside_a_data_set_lead_anywhere(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'data' / 'img').symlink_to(tmp_path / 'elsewhere')
    check_annotations(classification(tmp_path / 'data', 'a.jpg'))


def test_other_roots(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'list').write_text('/images/a.jpg 0')
    with pytest.raises(UserError, match=r'expected files in \. \(data_root'):
        check_annotations(CustomDataset(ann_file='list'))
    check_annotations(CustomDataset(ann_file=str(tmp_path / 'list'), data_root='/'))
    check_annotations(CustomDataset(ann_file='list', data_prefix='/images'))
    check_annotations(CustomDataset(data_root=str(tmp_path), ann_file=str(tmp_path / 'list'), data_prefix='/images'))


@pytest.mark.parametrize('with_mask, training', [(True, True), (False, True), (True, False)])
def test_coco_objects_without_segmentation_are_named(tmp_path, with_mask, training):
    annotation = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 9, 9], area=81, iscrowd=0)
    polygons = dict(annotation, id=2, segmentation=[[0, 0, 9, 0, 9, 9]])
    content = dict(images=[dict(id=1, file_name='a.jpg', width=32, height=32)], annotations=[polygons, annotation],
                   categories=[dict(id=1, name='cat')])
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    dataset = SeededDataset(CocoDataset(
        data_root=str(tmp_path), ann_file='ann.json', metainfo=dict(classes=('cat', )), data_prefix=dict(img=''),
        pipeline=[dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=with_mask)]))
    expected = pytest.raises(UserError, match=r'ann.json: an object in .*a.jpg has no segmentation')
    with expected if with_mask and training else nullcontext():
        check_annotations(dataset, training)


LOAD = dict(type='LoadImage')


def test_files_that_are_named_are_there(tmp_path):
    (tmp_path / 'img/b').mkdir(parents=True)
    for name in ('a.jpg', 'b/größe 1.jpg'):
        (tmp_path / 'img' / name).write_text('')
    (tmp_path / 'img/link.jpg').symlink_to('a.jpg')
    (tmp_path / 'img/nowhere.jpg').symlink_to('gone.jpg')
    names = ['a.jpg', 'x.jpg', 'b/größe 1.jpg', 'b/x.jpg', 'c/x.jpg', 'nowhere.jpg', 'link.jpg']
    paths = [f'{tmp_path}/img/{name}' for name in names]
    gone = [paths[number] for number in (1, 3, 4, 5)]
    assert missing_files(paths) == missing_files([*paths, *paths]) == gone
    (tmp_path / 'list').write_text('\n'.join(f'{name} 0' for name in names))

    def dataset(*steps):
        return CustomDataset(data_root=str(tmp_path), ann_file='list', data_prefix='img', pipeline=steps,
                             serialize_data=False)

    with pytest.raises(UserError) as caught:
        check_annotations(SeededDataset(dataset(LOAD)))
    assert str(caught.value) == (f'no such file or folder: {", ".join(gone[:3])}, … (4 of the 7 files of {tmp_path}/list); '
                                 'check data_root, ann_file and data_prefix in the config')
    check_annotations(dataset())  # it reads no image
    check_annotations(dataset(dict(type='LoadImageFromFile', ignore_empty=True)))  # which passes over them
    check_annotations(dataset(dict(type='LoadImageFromFile', backend_args=dict(backend='petrel'))))


def test_maps_that_the_names_of_images_stand_for_are_there_if_they_are_read(tmp_path):
    for path in ('img/a.jpg', 'img/b.jpg', 'ann/a.png'):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text('')

    def dataset(*steps):
        return BaseSegDataset(data_root=str(tmp_path), data_prefix=dict(img_path='img', seg_map_path='ann'), pipeline=steps,
                              serialize_data=False)

    with pytest.raises(UserError, match=f'^no such file or folder: {tmp_path}/ann/b.png; check data_root'):
        check_annotations(dataset(LOAD, dict(type='mmseg.LoadAnnotations')))
    check_annotations(dataset(LOAD))  # of a test set without maps


def test_the_name_of_one_class_is_no_list_of_names(tmp_path):
    (tmp_path / 'names.txt').write_text('disc')
    for classes in (('disc', ), str(tmp_path / 'names.txt'), 's3://names.txt', None):
        check_class_lists(dict(dataset=[dict(metainfo=dict(classes=classes))]))
    with pytest.raises(UserError, match=r"^classes='disc' in .* write classes=\('disc', \) with the comma$"):
        check_class_lists(dict(dataset=[dict(metainfo=dict(classes='disc'))]))
