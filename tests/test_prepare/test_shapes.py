"""The data set on disk: the same bytes every time, three layouts that agree, nothing overwritten by mistake."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from coma_mm.errors import UserError
from coma_mm.locks import locked
from coma_mm.prepare import shapes
from coma_mm.prepare.shape_scenes import CLASSES, LEVELS, render_scene
from coma_mm.prepare.shapes import ADE_FOLDERS, LABELLED, MARKER, split_counts, write_shapes

TOOL = Path(__file__).parents[2] / 'tools' / 'make_shapes.py'
COUNTS = dict(unlabelled=6, train=23, val=12, test=11)
SIZE = 48


def digest(root, pattern='**/*'):
    """SHA-256 by relative path of every file."""
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.glob(pattern)) if path.is_file()}


def run_tool(*args, **kwargs):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True, **kwargs)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'shapes'
    assert write_shapes(out, COUNTS, SIZE, seed=3, progress=False)
    return out


def test_same_bytes_for_any_number_of_workers(root, tmp_path):
    write_shapes(tmp_path / 'two', COUNTS, SIZE, seed=3, workers=2, progress=False)
    assert digest(tmp_path / 'two') == digest(root)


def test_pictures_and_annotations_do_not_depend_on_how_many_there_are(root, tmp_path):
    few = dict(unlabelled=3, train=10, val=0, test=2)
    write_shapes(tmp_path / 'few', few, SIZE, seed=3, progress=False)
    whole = digest(root)
    part = {name: value for name, value in digest(tmp_path / 'few').items() if name.endswith(('.jpg', '.png'))}
    part.pop('preview.png')
    assert len(part) == 3 + 4 * (10 + 2)
    assert part.items() <= whole.items()
    for split in ('train', 'test'):
        name = f'coco/annotations/instances_{split}.json'
        short, long = json.loads((tmp_path / 'few' / name).read_text()), json.loads((root / name).read_text())
        for key in ('images', 'annotations'):
            assert short[key] == long[key][:len(short[key])]


def test_the_level_is_a_parameter_and_its_classes_are_those_on_disk(root, tmp_path):
    level = LEVELS['easy']
    write_shapes(tmp_path / 'easy', COUNTS, SIZE, seed=3, progress=False, level='easy')
    ours, other = digest(root, 'unlabelled/*'), digest(tmp_path / 'easy', 'unlabelled/*')
    assert ours.keys() == other.keys() and not set(ours.values()) & set(other.values())
    assert sorted(path.name for path in (tmp_path / 'easy/imagenet/train').iterdir()) == list(level.classes)
    coco = json.loads((tmp_path / 'easy/coco/annotations/instances_val.json').read_text())
    assert [category['name'] for category in coco['categories']] == list(level.classes)
    with Image.open(tmp_path / 'easy/ade20k/annotations/validation/val_000005.png') as png:
        np.testing.assert_array_equal(np.array(png), render_scene(3, 'val', 5, SIZE, 'easy').semantic)
    marker = json.loads((tmp_path / 'easy' / MARKER).read_text())
    assert marker['parameters']['level'] == 'easy' and tuple(marker['classes']) == level.classes
    with pytest.raises(UserError, match='48 px, easy, seed 3; asked for .*48 px, hard, seed 3'):
        write_shapes(tmp_path / 'easy', COUNTS, SIZE, seed=3, progress=False)


def test_data_of_before_there_were_levels_are_hard(tmp_path):
    write_shapes(tmp_path, TINY, 32, progress=False)
    marker = json.loads((tmp_path / MARKER).read_text())
    assert marker['parameters'].pop('level') == 'hard'
    (tmp_path / MARKER).write_text(json.dumps(marker))
    assert not write_shapes(tmp_path, TINY, 32, progress=False)


def test_another_seed_gives_other_pictures(root, tmp_path):
    write_shapes(tmp_path / 'other', COUNTS, SIZE, seed=4, progress=False)
    ours, other = digest(root, 'unlabelled/*'), digest(tmp_path / 'other', 'unlabelled/*')
    assert ours.keys() == other.keys() and not set(ours.values()) & set(other.values())


@pytest.mark.parametrize('split', LABELLED)
def test_layouts_agree(root, split, capsys):
    """COCO's masks, boxes and areas are those of the ADE20K maps; ImageNet's label is the largest object's class."""
    coco = COCO(str(root / f'coco/annotations/instances_{split}.json'))
    assert len(coco.imgs) == COUNTS[split]
    folders = {path.name: path.parent.name for path in root.glob(f'imagenet/{split}/*/*.jpg')}
    assert len(folders) == COUNTS[split]
    for image in coco.imgs.values():
        name = image['file_name']
        with Image.open(root / 'ade20k/annotations' / ADE_FOLDERS[split] / name.replace('.jpg', '.png')) as png:
            semantic = np.array(png)
        painted = np.zeros_like(semantic)
        annotations = coco.imgToAnns[image['id']]
        for annotation in annotations:
            mask = coco.annToMask(annotation).astype(bool)
            assert not painted[mask].any()  # what is hidden belongs to what hides it
            painted[mask] = annotation['category_id']
            rows, columns = np.nonzero(mask)
            low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            assert annotation['bbox'] == [*low, high[0] - low[0], high[1] - low[1]]
            assert annotation['area'] == mask.sum() > 0
        np.testing.assert_array_equal(painted, semantic)
        areas = [annotation['area'] for annotation in annotations]
        largest = annotations[int(np.argmax(areas))]
        assert folders[name] == coco.cats[largest['category_id']]['name']
        pictures = [root / 'coco' / split / name, root / 'imagenet' / split / folders[name] / name,
                    root / 'ade20k/images' / ADE_FOLDERS[split] / name]
        assert len({path.stat().st_ino for path in pictures}) == 1  # stored once


def test_files_hold_the_scene(root):
    scene = render_scene(3, 'val', 5, SIZE)
    with Image.open(root / 'coco/val/val_000005.jpg') as picture:
        error = np.array(picture.convert('RGB'), float) - scene.image
    assert np.abs(error).mean() < 8  # JPEG's loss; swapped channels would give far more
    with Image.open(root / 'ade20k/annotations/validation/val_000005.png') as png:
        np.testing.assert_array_equal(np.array(png), scene.semantic)


def test_copies_where_there_are_no_hard_links(root, tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError('not supported')

    monkeypatch.setattr(os, 'link', no_links)
    write_shapes(tmp_path / 'copies', COUNTS, SIZE, seed=3, progress=False)
    assert digest(tmp_path / 'copies') == digest(root)


# ---------------------------------------------------------------------------------------------------------------------
# Read by the libraries' own data sets
# ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('kind', ['CustomDataset', 'ImageNet'])
def test_mmpretrain_reads_it(root, kind):
    from mmpretrain.datasets import CustomDataset, ImageNet

    import coma_mm  # noqa: F401
    pipeline = [dict(type='mmpretrain.LoadImageFromFile')]
    if kind == 'ImageNet':
        dataset = ImageNet(str(root / 'imagenet'), split='train', metainfo=dict(classes=CLASSES), pipeline=pipeline)
    else:
        dataset = CustomDataset(str(root / 'imagenet'), data_prefix='train', pipeline=pipeline)
        assert tuple(dataset.CLASSES) == CLASSES
    assert len(dataset) == COUNTS['train']
    for sample in dataset:
        index = int(Path(sample['img_path']).stem.split('_')[1])
        assert sample['gt_label'] == render_scene(3, 'train', index, SIZE).label
        assert sample['img'].shape == (SIZE, SIZE, 3)


def test_mmpretrain_reads_the_unlabelled_pictures(root):
    from mmpretrain.datasets import CustomDataset

    import coma_mm  # noqa: F401
    dataset = CustomDataset(str(root / 'unlabelled'), with_label=False, pipeline=[])
    assert len(dataset) == COUNTS['unlabelled']


@pytest.mark.parametrize('background', [True, False])
def test_mmseg_reads_it(root, background):
    from mmseg.datasets import BaseSegDataset

    import coma_mm  # noqa: F401
    classes = ('background', *CLASSES) if background else CLASSES
    dataset = BaseSegDataset(
        data_root=str(root / 'ade20k'), metainfo=dict(classes=classes), reduce_zero_label=not background,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[dict(type='mmseg.LoadAnnotations')])
    assert len(dataset) == COUNTS['val']
    for index, sample in enumerate(dataset):
        expected = render_scene(3, 'val', index, SIZE).semantic
        if not background:  # 0 becomes mmseg's "ignore"
            expected = np.where(expected == 0, 255, expected.astype(int) - 1)
        np.testing.assert_array_equal(sample['gt_seg_map'], expected)


def test_mmdet_reads_it(root):
    from mmdet.datasets import CocoDataset

    import coma_mm  # noqa: F401
    dataset = CocoDataset(
        data_root=str(root / 'coco'), ann_file='annotations/instances_val.json', data_prefix=dict(img='val'),
        metainfo=dict(classes=CLASSES),
        pipeline=[dict(type='mmdet.LoadImageFromFile'), dict(type='mmdet.LoadAnnotations', with_mask=True)])
    assert len(dataset) == COUNTS['val']
    for index, sample in enumerate(dataset):
        scene = render_scene(3, 'val', index, SIZE)
        np.testing.assert_array_equal(sample['gt_bboxes_labels'], scene.classes)
        np.testing.assert_array_equal(sample['gt_masks'].masks,
                                      [scene.instances == k + 1 for k in range(len(scene.classes))])
        np.testing.assert_array_equal(sample['gt_masks'].get_bboxes('hbox').tensor, sample['gt_bboxes'].tensor)


# ---------------------------------------------------------------------------------------------------------------------
# Nothing lost, nothing half-written
# ---------------------------------------------------------------------------------------------------------------------
TINY = dict(unlabelled=2, train=3, val=0, test=0)


def test_complete_data_set_is_left_as_it_is(tmp_path):
    assert write_shapes(tmp_path, TINY, 32, progress=False)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert not write_shapes(tmp_path, TINY, 32, progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == times


@pytest.mark.parametrize('lost', ['unlabelled/unlabelled_000001.jpg', 'coco/annotations/instances_val.json',
                                  'ade20k/annotations/training/train_000002.png'])
def test_lost_file_is_written_again(tmp_path, lost):
    write_shapes(tmp_path, TINY, 32, progress=False)
    before = digest(tmp_path)
    (tmp_path / lost).unlink()
    assert write_shapes(tmp_path, TINY, 32, progress=False)
    assert digest(tmp_path) == before


def test_other_parameters_need_overwrite(tmp_path):
    write_shapes(tmp_path, TINY, 32, progress=False)
    (tmp_path / 'notes.txt').write_text('mine')
    before = digest(tmp_path)
    with pytest.raises(UserError, match='seed 0; asked for .*seed 1.*--overwrite'):
        write_shapes(tmp_path, TINY, 32, seed=1, progress=False)
    assert digest(tmp_path) == before
    fewer = dict(TINY, train=1)
    assert write_shapes(tmp_path, fewer, 32, seed=1, overwrite=True, progress=False)
    assert len(list(tmp_path.glob('coco/train/*'))) == 1
    assert (tmp_path / 'notes.txt').read_text() == 'mine'


@pytest.mark.parametrize('name', ['imagenet/train/mine/cat.jpg', 'coco/train/a/train_000001.jpg', 'unlabelled',
                                  'ade20k/notes'])
def test_what_a_user_has_put_between_is_never_removed(tmp_path, name):
    out = tmp_path / 'out'
    write_shapes(out, TINY, 32, progress=False)
    if name == 'unlabelled':  # on another disk
        (out / name).rename(tmp_path / 'elsewhere')
        (out / name).symlink_to(tmp_path / 'elsewhere')
    else:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).symlink_to(tmp_path) if 'coco' in name else (out / name).write_text('mine')
    before = digest(tmp_path)
    with pytest.raises(UserError, match=f'{name} is not of this tool.* move it away'):
        write_shapes(out, TINY, 32, seed=1, overwrite=True, progress=False)
    assert digest(tmp_path) == before


def test_of_two_at_once_the_second_is_refused(tmp_path):
    with locked(tmp_path / 'a/out'), pytest.raises(UserError, match='a/out is in use: .* runs there since'):
        write_shapes(tmp_path / 'a/out', TINY, 32, progress=False)
    assert not (tmp_path / 'a').exists()
    write_shapes(tmp_path, TINY, 32, progress=False)
    with locked(tmp_path):  # what is complete is as good as ever
        assert not write_shapes(tmp_path, TINY, 32, progress=False)


@pytest.mark.parametrize('content', [None, '{"half', '[]', '{"complete": true, "version": 1, "parameters": 3}',
                                     '{"complete": true, "version": 1, "parameters": {}}'])
@pytest.mark.parametrize('overwrite', [False, True])
def test_refuses_a_folder_that_it_did_not_make(tmp_path, content, overwrite):
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco' / 'precious.jpg').write_text('mine')
    if content is not None:
        (tmp_path / MARKER).write_text(content)
    before = digest(tmp_path)
    with pytest.raises(UserError, match='made by this tool') as error:
        write_shapes(tmp_path, TINY, 32, overwrite=overwrite, progress=False)
    assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)
    assert digest(tmp_path) == before


def test_failure_in_the_middle_leaves_an_incomplete_marker(tmp_path, monkeypatch):
    def disk_full(*_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(shapes, '_coco', disk_full)
        with pytest.raises(UserError, match='No space left on device'):
            write_shapes(tmp_path, TINY, 32, progress=False)
    assert json.loads((tmp_path / MARKER).read_text())['complete'] is False
    assert write_shapes(tmp_path, TINY, 32, progress=False)


def test_killed_run_is_done_again_and_leaves_no_process_behind(tmp_path):
    options = ['--unlabelled', 200, '--train', 0, '--val', 0, '--test', 0, '--size', 48, '--workers', 2]
    killed = tmp_path / 'killed'
    process = subprocess.Popen([sys.executable, str(TOOL), str(killed), *map(str, options)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(killed.glob('unlabelled/*')):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    written = len(list(killed.glob('unlabelled/*')))
    time.sleep(0.5)
    assert written == len(list(killed.glob('unlabelled/*'))) < 200
    assert json.loads((killed / MARKER).read_text())['complete'] is False
    assert run_tool(killed, *options).returncode == 0
    assert run_tool(tmp_path / 'whole', *options).returncode == 0
    assert digest(killed) == digest(tmp_path / 'whole')


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------
def test_total_is_shared_out_and_counts_replace_shares():
    assert split_counts(1000) == dict(unlabelled=750, train=150, val=50, test=50)
    assert sum(split_counts(1013).values()) == 1013
    assert split_counts(100, val=0, train=30) == dict(unlabelled=75, train=30, val=0, test=5)


def test_tool_writes_and_says_so(tmp_path):
    options = [tmp_path / 'a', '--images', 20, '--size', 32, '--seed', 5]
    first, second = run_tool(*options), run_tool(*options)
    assert first.returncode == second.returncode == 0
    assert 'wrote 15 unlabelled, 3 train, 1 val, 1 test (32 px, hard, seed 5)' in first.stdout
    assert len(second.stdout.splitlines()) == 1 and 'already complete' in second.stdout
    with Image.open(tmp_path / 'a' / 'preview.png') as sheet:
        assert sheet.size[0] > 128


@pytest.mark.parametrize('options, message', [
    (['--size', 31], '--size is 31'),
    (['--size', 'big'], '--size=big: expected a whole number, 1 or more'),
    (['--val', -1], '--val=-1: expected a whole number, 0 or more'),
    (['--images', 0], 'no pictures'),
    (['--images', -5], '--images=-5: expected'),
    (['--seed', -1], '--seed=-1: expected'),
    (['--level', 'eazy'], "'eazy'"),
    (['--workers', 0], '--workers=0: expected a whole number, 1 or more'),
    (['--imagse', 3], 'unrecognized arguments'),
])
def test_bad_options_end_in_one_line_and_code_2(tmp_path, options, message):
    result = run_tool(tmp_path / 'out', *options)
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('mine')
    for out in (tmp_path / 'file', tmp_path / 'file' / 'below'):
        result = run_tool(out, '--images', 4, '--size', 32)
        assert result.returncode == 2
        assert str(tmp_path / 'file') in result.stderr and len(result.stderr.splitlines()) == 1
    assert (tmp_path / 'file').read_text() == 'mine'
