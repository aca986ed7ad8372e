"""What a data set gives to a run, and what the libraries leave out of it in silence, is counted and said."""
import json
import re
from functools import partial

import pytest
from mmdet.datasets import CocoDataset
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import BaseSegDataset

from coma_mm.config.read import register_libraries
from coma_mm.datasets import ImageFolder, SeededDataset
from coma_mm.datasets.usage import tell, usage
from coma_mm.errors import UserError

CAT = dict(image_id=1, category_id=1, bbox=[0, 0, 8, 8], area=64, iscrowd=0, segmentation=[[0, 0, 8, 0, 8, 8]])
CLASSES = ('cat', 'dog', 'cow')


@pytest.fixture(autouse=True, scope='module')
def libraries():
    for scope in ('mmpretrain', 'mmseg', 'mmdet'):
        register_libraries(scope)


@pytest.fixture
def said(monkeypatch):
    """The lines that were logged, each with its level."""
    lines = []
    monkeypatch.setattr('coma_mm.datasets.usage.print_log', lambda line, logger, level=20: lines.append((level, line)))
    return lines


def parts(line):
    """The parts of a line, of which those of equal numbers have no certain order."""
    return sorted(re.split(', |; not used: ', getattr(line, 'line', line)))


def coco(folder, objects, images=4, classes=CLASSES, test_mode=False, filter_cfg=None, **kwargs):
    """A data set of 32 px images; an object is what differs from a cat of 8 px in image 1."""
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=32, height=32) for i in range(1, images + 1)],
        annotations=[{**CAT, 'id': i, **one} for i, one in enumerate(objects)],
        categories=[dict(id=i, name=name) for i, name in enumerate((*CLASSES, 'pig', 'hen'), 1)])
    folder.mkdir(exist_ok=True)
    (folder / 'ann.json').write_text(json.dumps(content))
    return CocoDataset(data_root=str(folder), ann_file='ann.json', data_prefix=dict(img=''), metainfo=dict(classes=classes),
                       test_mode=test_mode, filter_cfg=filter_cfg, serialize_data=False, **kwargs)


def test_what_mmdet_leaves_out_is_counted_by_its_reason(tmp_path):
    objects = [dict(), dict(image_id=2), dict(category_id=2), *[dict(area=0)] * 3, *[dict(iscrowd=1)] * 2,
               dict(bbox=[1, 1, .5, 4]), dict(bbox=[40, 1, 4, 4]), dict(ignore=1), dict(category_id=4),
               *[dict(category_id=5)] * 2, dict(image_id=99)]
    dataset = coco(tmp_path, objects, filter_cfg=dict(filter_empty_gt=True, min_size=32))
    expected = ('2 images, 3 objects of 2 of 3 classes (none of cow); not used: 3 objects of area 0, 3 objects whose '
                'category is no class (hen 2, pig 1), 2 crowds, 1 object less than 1 px wide or high, 1 object outside of '
                'the image, 1 object marked ignore, 1 object whose image is not in the file, 2 images without objects')
    found = usage(dataset)
    assert parts(found) == parts(expected)
    assert found.classes == dict(cat=2, dog=1, cow=0) and found.objects['object of area 0'] == 3
    assert len(objects) == found.used + found.objects.total()


def test_a_data_set_that_is_used_as_a_whole_has_a_short_line(tmp_path):
    objects = [dict(image_id=1 + i % 4, category_id=1 + i % 3) for i in range(1200)]
    dataset = coco(tmp_path, objects)
    assert usage(dataset).line == '4 images, 1 200 objects of 3 classes'
    assert usage(SeededDataset(RepeatDataset(dataset, 3))).line.endswith('of 3 classes, 12 samples in an epoch')
    several = ConcatDataset([dataset, coco(tmp_path / 'b', [dict(area=0), dict(category_id=2)])])
    assert usage(SeededDataset(several)).line == (
        '8 images (3 without an object), 1 201 objects of 3 classes; not used: 1 object of area 0')
    assert usage(coco(tmp_path / 'c', objects, indices=1)).line == '1 image, 300 objects of 3 classes'


def test_masks_that_are_not_learnt_are_counted(tmp_path):
    runs = dict(size=[32, 32], counts=[1024])
    objects = [dict(), dict(segmentation=[[0, 0, 1, 1]]), dict(segmentation=runs), dict(segmentation=runs)]
    for poly2mask, with_mask, line in (
        (True, True, '3 objects of 1 of 3 classes (none of dog, cow); not used: 1 object without a polygon of 3 points'),
        (False, True, 'not used: 2 objects with a mask in run lengths (poly2mask=False), 1 object without a polygon of '
                      '3 points'),
        (True, False, '4 objects of 1 of 3 classes (none of dog, cow)'),
    ):
        step = dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=with_mask, poly2mask=poly2mask)
        assert usage(coco(tmp_path, objects, images=1, pipeline=[step])).line.endswith(line)


@pytest.mark.parametrize('objects, expected', [
    ([dict(area=0)] * 5, r"not used: 5 objects of area 0 \(.*/ann.json\): no object is left; write each object's area"),
    ([dict(bbox=[.1, .2, .3, .4])] * 2 + [dict(area=0)], 'no object is left; expected bbox.* in px, not in shares'),
    ([dict(bbox=[90, 0, 8, 8])], 'no object is left; expected bbox.* from the upper left'),
    ([dict(iscrowd=1)], 'no object is left; write iscrowd=0'),
    ([dict(image_id='1')], 'no object is left; expected the id of an image as image_id'),
    ([dict(category_id=5)], r'whose category is no class \(hen 1\).*; set metainfo.classes'),
    ([], '4 images, 0 objects .*expected annotations of objects'),
])
def test_nothing_to_learn_from_is_an_error(tmp_path, objects, expected, said):
    with pytest.raises(UserError, match='^train: ' + '.*' + expected):
        tell(coco(tmp_path, objects), 'train')
    assert not said
    # Beside another one it may be there for what is no object.
    tell(ConcatDataset([coco(tmp_path, objects), coco(tmp_path / 'other', [dict()])]), 'train')
    assert [level for level, _ in said] == [20]


def test_almost_nothing_is_a_warning_unless_a_part_is_wanted(tmp_path, said):
    tell(coco(tmp_path, [dict()] + [dict(area=0)] * 150), 'train')
    assert said[1] == (30, f"train: only 1 of 151 objects are used ({tmp_path}/ann.json); write each object's area in px, "
                           'for instance width × height of its bbox')
    said.clear()
    for objects in ([dict()] + [dict(category_id=5)] * 150, [dict()] + [dict(image_id=9)] * 150, [dict(), dict(area=0)]):
        tell(coco(tmp_path, objects), 'train')
    assert [level for level, _ in said] == [20] * 3


def test_validation_without_an_object_is_a_warning(tmp_path, said):
    tell(coco(tmp_path, [], test_mode=True), 'val')
    assert said == [(30, f'val: 4 images, 0 objects ({tmp_path}/ann.json): no object is left; expected annotations of '
                         'objects, without which CocoMetric is -1')]
    said.clear()
    tell(coco(tmp_path, [dict(), dict(area=0)], test_mode=True), 'test')
    assert said == [(20, 'test: 4 images (3 without an object), 1 object of 1 of 3 classes (none of dog, cow); not loaded: '
                         '1 object of area 0')]


def test_one_process_speaks_and_all_refuse(tmp_path, said, monkeypatch):
    monkeypatch.setattr('coma_mm.datasets.usage.is_main_process', lambda: False)
    tell(coco(tmp_path, [dict()]), 'train')
    with pytest.raises(UserError):
        tell(coco(tmp_path, []), 'train')
    assert not said


folders = partial(CustomDataset, serialize_data=False)  # else all of Python's memory is searched for what is free


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_classes_and_files_of_a_folder_are_counted(tmp_path):
    touch(tmp_path, *(f'{name}/{i}.jpg' for name, count in (('cat', 3), ('cow', 5), ('dog', 4)) for i in range(count)),
          'cat/a.txt', 'cow/b.TXT', 'cow/c.heic', 'cow/README', '.hidden')
    dataset = folders(data_root=str(tmp_path), data_prefix='', test_mode=False)
    unused = '; not used: 2 files *.txt, 1 file *.heic, 1 file without a suffix'
    assert parts(usage(dataset)) == parts(f'12 images of 3 classes (3 of cat to 5 of cow){unused}')
    assert usage(SeededDataset(dataset)).classes == dict(cat=3, cow=5, dog=4)
    for path in (tmp_path / 'dog').iterdir():
        path.unlink()
    dataset = folders(data_root=str(tmp_path), data_prefix='')
    assert usage(dataset).line.startswith('8 images of 2 of 3 classes (none of dog; 3 of cat to 5 of cow); not used')
    assert parts(usage(ImageFolder(str(tmp_path), serialize_data=False))) == parts(f'8 images{unused}')
    (tmp_path / 'list').write_text('cat/0.jpg 0\ncow/0.jpg 2\n')
    dataset = folders(data_root=str(tmp_path), ann_file='list', metainfo=dict(classes=list('abcdefg')))
    assert usage(dataset).line == '2 images of 2 of 7 classes (none of b, d, e and 2 more; 1 of each)'


def segmentation(folder, images='images', maps='maps', **kwargs):
    return BaseSegDataset(
        data_root=str(folder), data_prefix=dict(img_path=images, seg_map_path=maps), metainfo=dict(classes=CLASSES),
        pipeline=[dict(type='mmseg.LoadAnnotations')], serialize_data=False, **kwargs)


def test_images_and_maps_are_compared(tmp_path, said):
    touch(tmp_path, *(f'{folder}/{sub}{i}.{suffix}' for folder, suffix in (('images', 'jpg'), ('maps', 'png'))
                      for sub in ('', 'b/') for i in range(4)))
    assert usage(segmentation(tmp_path)).line == '8 images with maps of 3 classes'
    touch(tmp_path, 'images/x.png', 'images/y.JPG', 'images/z.JPG', 'maps/b/5.png', 'maps/b/5.txt')
    line = '8 images with maps of 3 classes; not used: 2 files *.JPG beside the images, 1 map without an image, ' \
        '1 file *.png beside the images'
    assert parts(usage(segmentation(tmp_path))) == parts(line)
    (tmp_path / 'maps/b/1.png').unlink()
    for split in ('train', 'val'):
        with pytest.raises(UserError, match=f'{split}: no such file or folder: {tmp_path}/maps/b/1.png, the map of '
                                            f'{tmp_path}/images/b/1.jpg; 1 image of 8 have none'):
            tell(segmentation(tmp_path), split)
    dataset = segmentation(tmp_path)
    dataset.pipeline.transforms.clear()  # as where predictions alone are wanted
    tell(dataset, 'test')
    (tmp_path / 'list').write_text('0\nb/2\n')
    assert usage(segmentation(tmp_path, ann_file='list')).line == '2 images with maps of 3 classes'
    assert usage(segmentation(tmp_path, indices=3)).line == '3 images with maps of 3 classes'  # the others are not wanted


def test_maps_that_are_elsewhere_or_hidden_are_not_missed(tmp_path):
    touch(tmp_path, 'images/.a.jpg', 'maps/.a.png', 'list')
    (tmp_path / 'list').write_text('.a\n')
    assert not usage(segmentation(tmp_path, ann_file='list')).missing
    (tmp_path / 'maps/.a.png').unlink()
    remote = segmentation(tmp_path, ann_file='list')
    assert usage(remote).missing == [(f'{tmp_path}/images/.a.jpg', f'{tmp_path}/maps/.a.png')]
    remote.backend_args = dict(backend='petrel', path_mapping={'data': 's3://data'})
    assert not usage(remote).missing


def test_images_and_maps_in_one_folder_are_told_apart(tmp_path):
    touch(tmp_path, 'all/0.jpg', 'all/0.png', 'all/1.png')
    dataset = segmentation(tmp_path, 'all', 'all')
    assert usage(dataset).line == '1 image with maps of 3 classes; not used: 1 map without an image'
