"""What is found in people's data sets, and what is said to be wrong."""
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from coma_mm.config.read import register_libraries
from coma_mm.errors import UserError
from coma_mm.prepare.check import Findings
from coma_mm.prepare.survey import coco_sets, config_sets, folder_sets, segmentation_sets, survey, surveying


def found_in(read, *args, **settings):
    findings = Findings()
    return survey(read(*args, findings), findings, **settings)


def test_objects_of_a_coco_file_are_counted_by_class_and_what_is_passed_over_is_said(coco, tmp_path):
    path = coco('train.json', {'a.png': 1, 'b.png': 2, 'c.png': 3}, [
        (0, 0, [1, 1, 9, 9]), (0, 0, [5, 5, 20, 20]), (1, 0, [1, 1, 9, 9]), (1, 0, [3, 3, .5, 9])])
    found = found_in(coco_sets, [str(path)], str(tmp_path / 'photos'))
    cat, dog = found.sets[0].classes
    assert (cat.name, cat.objects, cat.images) == ('cat', 3, 2) and dog.objects == 0
    assert found.sets[0].empty == [2] and found.read == found.images == 3 and not found.problems
    assert found.warnings == ['train.json: no object is of dog']
    lines = '\n'.join(found.lines())
    assert '1 object less than 1 px wide or high' in lines and '40×30 (3) px' in lines and '8 bits, 3 bands (3)' in lines
    assert 'without an object     1 image: c.png' in lines and '3 small' in lines


def test_boxes_without_size_or_outside_of_their_image_are_problems(coco, tmp_path):
    whole = (0, 0, [1, 1, 9, 9])
    path = coco('a.json', {'a.png': 1, 'b.png': 2}, [
        whole, (0, 1, [5, 5, 0, 9]), (1, 1, [5, 5, -3, 9]), (1, 0, [40, 1, 9, 9]), (1, 0, [30, 20, 20, 20]),
        (1, 1, [0, 0, 9, 9])])
    found = found_in(coco_sets, [str(path)], str(tmp_path / 'photos'))
    assert [one.partition('; ')[0] for one in found.problems] == [
        'a.json: 2 objects without width or height, not used: a.png (annotation 1), b.png (annotation 2)',
        'a.json: 1 object outside of the image, not used: b.png (annotation 3)'] and not found.warnings
    rare = coco('b.json', {'a.png': 1}, [whole] * 10_001 + [(0, 1, [5, 5, 0, 9]), (0, 1, [0, 0, 9, 9])])
    found = found_in(coco_sets, [str(rare)], str(tmp_path / 'photos'))
    assert not found.problems and found.warnings[0].startswith('b.json: 1 object without width or height, not used: a.png')


def test_an_image_of_one_file_in_another_is_said_whatever_its_name_is(coco, tmp_path):
    boxes = [(0, 0, [1, 1, 9, 9]), (1, 1, [1, 1, 9, 9])]
    paths = [str(coco('one.json', {'a.png': 1, 'b.png': 2}, boxes)), str(coco('two.json', {'c.png': 2, 'd.png': 4}, boxes))]
    found = found_in(coco_sets, paths, str(tmp_path / 'photos'))
    assert found.warnings == ['1 image of two.json (50 %) is in one.json, too: b.png = c.png']


def test_categories_that_one_of_two_files_lacks_and_missing_images_are_said(coco, tmp_path):
    boxes = [(0, 0, [1, 1, 9, 9])]
    paths = [str(coco('one.json', {'a.png': 1}, boxes)),
             str(coco('two.json', {'b.png': 2, 'gone.png': None}, boxes, ['cat']))]
    found = found_in(coco_sets, paths, str(tmp_path / 'photos'))
    assert 'the files differ in their categories: two.json has no dog' in found.warnings
    assert len(found.problems) == 1 and found.problems[0].startswith('1 file of the 2 that ') and found.images == 2


def test_an_image_of_another_size_than_its_annotations_is_a_problem(coco, photo, tmp_path):
    path = coco('a.json', {'a.png': 1}, [(0, 0, [1, 1, 9, 9]), (0, 1, [1, 1, 9, 9])])
    image = photo('photos/a.png', 1, (30, 40))
    found = found_in(coco_sets, [str(path)], None)
    assert found.problems == [f'{image} is of 30×40 px; its annotations are for 40×30']


def test_values_of_masks_become_classes_as_in_new(photo, tmp_path):
    (tmp_path / 'masks').mkdir()
    for number in range(3):
        photo(f'images/{number}.png', number)
        mask = np.full((30, 40), 255 if number == 2 else 11, np.uint8)
        mask[:number * 10 % 20] = number
        Image.fromarray(mask).save(tmp_path / f'masks/{number}.png')
    photo('images/alone.png', 9)
    found = found_in(segmentation_sets, str(tmp_path / 'images'), str(tmp_path / 'masks'), ['road', 'car'], [11])
    names = {one.name: (one.objects, one.images) for one in found.sets[0].classes}
    assert names == dict(road=(0, 0), car=(400, 1)) | {'no class': (3200, 3)}
    assert found.sets[0].empty == [0, 2] and found.facts(found.sets[0])['values of maps'] == '1, 11, 255'
    assert '1 of 4 images in' in found.problems[0] and 'alone.png' in found.problems[0]


@pytest.mark.parametrize(('mask', 'expected'), [
    (np.zeros((30, 41), np.uint8), 'is of 41×30 px; expected 40×30, as its image'),
    (np.zeros((30, 40, 3), np.uint8), 'has 3 channels; expected one'),
])
def test_a_mask_that_does_not_fit_is_a_problem(photo, tmp_path, mask, expected):
    photo('images/a.png', 1)
    (tmp_path / 'masks').mkdir()
    Image.fromarray(mask).save(tmp_path / 'masks/a.png')
    found = found_in(segmentation_sets, str(tmp_path / 'images'), str(tmp_path / 'masks'), None, None)
    assert len(found.problems) == 1 and expected in found.problems[0]


def test_folders_are_classes_and_train_and_val_are_compared(photo, tmp_path):
    for number in range(4):
        photo(f'data/train/{"ab"[number % 2]}/{number}.png', number)
    photo('data/train/b/copy.bmp', 0)  # of another class and another kind of file
    photo('data/val/a/0.png', 10)
    photo('data/val/c/1.png', 3)
    found = found_in(folder_sets, [str(tmp_path / 'data')])
    assert [one.data.name for one in found.sets] == ['train', 'val']
    assert [(one.name, one.objects) for one in found.sets[0].classes] == [('a', 2), ('b', 3)]
    assert found.problems == ['1 image of val (50 %) is in train, too: b/3.png = c/1.png; remove them from one of the two, '
                              'as scores would say how well images are remembered']
    assert 'train: 1 image is a copy of another: a/0.png = b/copy.bmp' in found.warnings
    assert 'train: 1 image is in folders of different classes: a/0.png = b/copy.bmp' in found.warnings
    assert any('differ in their folders (b, c)' in text for text in found.warnings)


def test_of_many_images_a_sample_is_read_and_files_are_compared_all_the_same(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(surveying, 'LOOKED', 5)
    for number in range(20):
        photo(f'data/{number:02d}.png', number % 19)
    found = found_in(folder_sets, [str(tmp_path / 'data')])
    assert found.read == 5 and found.images == 20
    assert found.warnings == [f'{tmp_path}/data: 1 image is a copy of another: 00.png = 19.png']
    monkeypatch.setattr(surveying, 'FEW', 1)
    found = found_in(folder_sets, [str(tmp_path / 'data')], full=True, workers=2)
    assert found.read == 20 and len(found.warnings) == 1


def test_files_of_other_depths_are_counted_and_said_to_be_unreadable(photo, tmp_path):
    photo('data/a.png', 1)
    Image.fromarray(np.full((30, 40), 4095, np.uint16)).save(tmp_path / 'data/b.png')
    Image.fromarray(np.ones((30, 40), np.float32)).save(tmp_path / 'data/c.tif')
    Image.new('RGBA', (40, 30)).save(tmp_path / 'data/d.webp')
    found = found_in(folder_sets, [str(tmp_path / 'data')])
    assert found.sets[0].depths == {'8 bits, 3 bands': 1, '16 bits, 1 band': 1, 'float 32 bits, 1 band': 1,
                                    '8 bits, 4 bands': 1}
    assert len(found.problems) == 2 and '16-bit values from 4095 to 4095 in 1 band' in found.problems[0]
    for number in range(12):
        Image.fromarray(np.full((30, 40), 5 * number + 300, np.uint16)).save(tmp_path / f'data/deep{number:02d}.png')
    Image.fromarray(np.full((30, 40), 2.5, np.float32)).save(tmp_path / 'data/e.tif')
    problems = found_in(folder_sets, [str(tmp_path / 'data')]).problems
    assert len(problems) == 2 and 'c.tif, ' in problems[1]
    assert problems[0].startswith(f'cannot read 13 images ({tmp_path}/data/b.png, {tmp_path}/data/deep00.png, ')
    assert ', …): the first holds 16-bit values from 4095 to 4095 in 1 band, and what is read is one image of' in problems[0]


def test_of_many_problems_alike_some_are_listed(photo, tmp_path):
    for number in range(14):
        photo(f'data/{number:02d}.png', number).write_bytes(b'x')
    photo('data/deep.png', 20)
    Image.fromarray(np.full((30, 40), 4095, np.uint16)).save(tmp_path / 'data/deep.png')
    problems = found_in(folder_sets, [str(tmp_path / 'data')]).problems
    assert len(problems) == 12 and problems[9].startswith(f'cannot read the image {tmp_path}/data/09.png: ')
    assert problems[10] == '… and 4 more like these' and '16-bit values' in problems[11]


def config(tmp_path, **dataset):
    register_libraries('mmseg')
    loader = dict(dataset=dict(
        type='BaseSegDataset', serialize_data=False, data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='masks'), img_suffix='.png',
        metainfo=dict(classes=('road', 'car')), **dataset))
    return Config(dict(default_scope='mmseg', train_dataloader=loader))


def test_maps_of_a_config_have_the_labels_that_a_run_learns(photo, tmp_path):
    (tmp_path / 'masks').mkdir()
    for number in range(2):
        photo(f'images/{number}.png', number)
        Image.fromarray(np.full((30, 40), 7 * number + 1, np.uint8)).save(tmp_path / f'masks/{number}.png')
    steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(9, 9)), dict(type='LoadAnnotations')]
    found = found_in(config_sets, config(tmp_path, pipeline=steps))
    assert len(found.sets) == 1 and found.sets[0].values == {1: 1200, 8: 1200}
    assert found.problems == ['train: the maps have the ids 8, and there are 2 classes (0 to 1); 255 is ignored']
    steps.append(dict(type='MapClassIds', ids={8: 0}))
    found = found_in(config_sets, config(tmp_path, pipeline=steps))
    assert not found.problems and [one.share for one in found.sets[0].classes] == [.5, .5]


def test_parts_of_a_data_set_may_have_relative_and_absolute_paths(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('one', 'two'):
        photo(f'{name}/images/{name}.png', len(name))
        (tmp_path / name / 'masks').mkdir()
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / name / f'masks/{name}.png')
    cfg = config(tmp_path, pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')])
    part = cfg.train_dataloader.dataset
    parts = [dict(part, data_root='one'), dict(part, data_root=str(tmp_path / 'two'))]
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    found = found_in(config_sets, cfg)
    assert not found.problems and [surveying.name_of(found.sets[0], index) for index in (0, 1)] == [
        'one/images/one.png', 'two/images/two.png']


def test_a_map_that_a_config_lacks_is_said_once(photo, tmp_path):
    (tmp_path / 'masks').mkdir()
    for number in range(2):
        photo(f'images/{number}.png', number)
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(tmp_path / 'masks/0.png')
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    assert found_in(config_sets, config(tmp_path, pipeline=steps)).problems == [
        f'train: 1 of 2 images has no map, e.g. {tmp_path}/images/1.png: no file {tmp_path}/masks/1.png']


def test_a_config_without_data_and_a_folder_that_is_none_are_errors(tmp_path):
    with pytest.raises(UserError, match='has no data set: neither train_dataloader'):
        config_sets(Config(dict(model={})), Findings())
    with pytest.raises(UserError, match='nowhere does not exist; expected a folder of images'):
        folder_sets([str(tmp_path / 'nowhere')], Findings())
    with pytest.raises(UserError, match='no file .*a.json; expected COCO annotations'):
        coco_sets([str(tmp_path / 'a.json')], None, Findings())
