"""COCO annotations are checked before anything is made of them."""
import copy
import json
import math

import pytest

from coma_mm.datasets.coco import CheckedCOCO
from coma_mm.errors import UserError

ANNOTATION = dict(id=7, image_id=1, category_id=3, bbox=[1, 2, 3.5, 4], area=14, iscrowd=0)
RLE = dict(size=[6, 8], counts=[10, 5, 33])
WHOLE = dict(
    images=[dict(id=1, file_name='a.jpg', width=8, height=6), dict(id=2, file_name='b.jpg', width=8, height=6)],
    annotations=[dict(ANNOTATION, segmentation=[[1, 2, 4, 2, 4, 6]]), dict(ANNOTATION, id=8, segmentation=RLE),
                 dict(ANNOTATION, id=9)],
    categories=[dict(id=3, name='cat'), dict(id=5, name='dog')])


def read(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return CheckedCOCO(str(path))


def test_what_is_right_is_read(tmp_path):
    coco = read(tmp_path / 'a.json', WHOLE)
    assert len(coco.anns) == 3 and coco.get_cat_ids() == [3, 5]
    # Subsets of a data set often keep annotations of images that are not in them.
    content = dict(WHOLE, annotations=[dict(ANNOTATION, image_id=99, segmentation=dict(size=[1, 1], counts='0'))])
    assert len(read(tmp_path / 'a.json', content).anns) == 1


@pytest.mark.parametrize('path, values, expected', [
    (('images', ), [None, {}, 'x'], "no list 'images'"),
    (('images', 0), [None, 5, [], {}], 'images[0] has no id'),
    (('images', 0, 'id'), [None, 1.5, [1], True, math.nan], 'images[0] has the id '),
    (('images', 0, 'id'), [2], 'two images have the id 2'),
    (('annotations', 0, 'id'), [8], 'two annotations have the id 8'),
    (('categories', 0, 'id'), [5], 'two categories have the id 5'),
    (('images', 0, 'file_name'), [None, 5, '', '\0'], 'image 1 has file_name'),
    (('images', 0, 'width'), [None, 0, -8, '8', math.nan, math.inf, 10**9], 'image 1 has width'),
    (('categories', 0, 'name'), [None, 5, 'dog'], 'a category has the name'),
    (('annotations', 0, 'image_id'), [None, [], {}], 'expected the id of an image'),
    (('annotations', 0, 'bbox'), [None, [], [1, 2, 3], 'abcd', {}], 'annotation 7 of image 1 has no bbox'),
    (('annotations', 0, 'bbox'), [[1, 2, 3, 'x'], [1, 2, 3, math.nan], [1, 2, 3, 10**30]], 'annotation 7 of image 1 has b'),
    (('annotations', 0, 'category_id'), [None, 4, '3'], 'has category_id'),
    (('annotations', 0, 'area'), [None, 'x', math.inf, []], 'annotation 7 of image 1 has area'),
    (('annotations', 0, 'iscrowd'), [2, 'x', None], 'annotation 7 of image 1 has iscrowd'),
    (('annotations', 0, 'segmentation'), [[5], [[1, 2, math.nan]], [['x']], [[1e30, 2, 3, 4, 5, 6]], 'x', [None]],
     'annotation 7 of image 1 has a segmentation that is none'),
    (('annotations', 1, 'segmentation', 'size'), [[6, 9], [], None, 6], 'annotation 8 of image 1 has a segmentation'),
    (('annotations', 1, 'segmentation', 'counts'), [[10, 5, 34], [-10, 58], ['x'], None, 5],
     'annotation 8 of image 1 has a segmentation'),
])
def test_what_is_wrong_is_named(tmp_path, path, values, expected):
    for value in values:
        content = copy.deepcopy(WHOLE)
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(UserError) as caught:
            read(tmp_path / 'a.json', content)
        assert f'{tmp_path}/a.json' in str(caught.value) and expected in str(caught.value)


def test_a_test_whose_objects_are_secret_has_no_annotations(tmp_path):
    content = {key: value for key, value in WHOLE.items() if key != 'annotations'}
    assert read(tmp_path / 'a.json', content).anns == {}
    with pytest.raises(UserError, match="no list 'annotations'"):
        read(tmp_path / 'a.json', dict(content, annotation=[]))


def test_whole_numbers_that_are_written_as_floats_are_ids(tmp_path):
    """As pandas writes a column of numbers with a gap in it."""
    content = copy.deepcopy(WHOLE)
    for key in ('images', 'annotations', 'categories'):
        for entry in content[key]:
            entry.update({name: float(value) for name, value in entry.items() if name.endswith('id')})
    assert '"id": 1.0' in json.dumps(content)
    coco = read(tmp_path / 'a.json', content)
    ids = [*coco.get_img_ids(), *coco.get_cat_ids(), *coco.get_ann_ids(),
           *(coco.anns[7][key] for key in ('image_id', 'category_id'))]
    assert ids == [1, 2, 3, 5, 7, 8, 9, 1, 3] and {type(one) for one in ids} == {int}


def test_texts_are_ids(tmp_path):
    content = copy.deepcopy(WHOLE)
    for one in content['images']:
        one['id'] = f'img{one["id"]}'
    for one in content['annotations']:
        one['image_id'] = f'img{one["image_id"]}'
    assert read(tmp_path / 'a.json', content).get_img_ids() == ['img1', 'img2']


@pytest.mark.parametrize('text, expected', [
    ('{', 'not a JSON file'), ('[' * 100_000, 'not a JSON file'), ('5', 'holds no dict'), ('[]', 'holds no dict')])
def test_other_files_are_named(tmp_path, text, expected):
    with pytest.raises(UserError, match=expected):
        read(tmp_path / 'a.json', text)
