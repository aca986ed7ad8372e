"""tools/check_data.py on small data sets in the official layouts, whole and with each defect."""
import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from PIL import Image

from coma_mm.datasets.image_folder import walk_files
from coma_mm.errors import UserError
from coma_mm.prepare.check import KINDS, SAMPLE, SHOWN, check
from coma_mm.prepare.shapes import write_shapes

ROOT = Path(__file__).parents[2]
COCO_IDS = [*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """CoMA-Shapes under the names of the official layouts: imagenet, ade/ADEChallengeData2016, coco."""
    folder = tmp_path_factory.mktemp('whole')
    write_shapes(folder / 'shapes', dict(unlabelled=0, train=20, val=10, test=0), size=32, progress=False)
    for split in ('train', 'val'):
        for number, path in enumerate(sorted((folder / 'shapes/imagenet' / split).iterdir())):
            shutil.copytree(path, folder / f'imagenet/{split}/n{number:08d}')
    shutil.copytree(folder / 'shapes/ade20k', folder / 'ade/ADEChallengeData2016')
    (folder / 'coco/annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        shutil.copytree(folder / 'shapes/coco' / split, folder / f'coco/{split}2017')
        annotations = json.loads((folder / f'shapes/coco/annotations/instances_{split}.json').read_text())
        annotations['categories'] = [
            dict(id=number, name=name) for number, name in zip(COCO_IDS, CocoDataset.METAINFO['classes'], strict=True)
        ]
        (folder / f'coco/annotations/instances_{split}2017.json').write_text(json.dumps(annotations))
    shutil.rmtree(folder / 'shapes')
    return folder


@pytest.fixture
def data(whole, tmp_path):
    """A copy of that, to change."""
    shutil.copytree(whole, tmp_path / 'data')
    return tmp_path / 'data'


@pytest.fixture
def run(run_tool):
    """Runs the tool: (kind, path, …) -> what it printed."""
    return partial(run_tool, 'check_data.py')


def test_whole_data_sets_are_subsets_without_a_problem(run, data, monkeypatch):
    monkeypatch.chdir(data)
    objects = len(json.loads((data / 'coco/annotations/instances_train2017.json').read_text())['annotations'])
    for kind, place, counts in (
        ('imagenet', 'imagenet', {'train classes': 10, 'train images': 20, 'val images': 10}),
        ('ade20k', 'ade/ADEChallengeData2016', {'training images': 20, 'validation annotations': 10}),
        ('coco', 'coco', {'train2017 images': 20, 'train2017 objects': objects, 'val2017 categories': 80}),
    ):
        text = run(kind, place)
        assert 'problem:' not in text and 'not the official numbers' in text, text
        lines = [line.split() for line in text.splitlines()]
        for what, number in counts.items():
            assert any(line[:3] == [*what.split(), str(number)] for line in lines), what
        assert ('10 classes: the data set type ImageNet takes 1000 exactly' in text) == (kind == 'imagenet')
        assert 'read 30 of 30 images' in text and f'DATA_ROOT={data} or --data-root {data}/{place}' in text
        # Elsewhere there is no variable for it; a path is quoted for the shell.
        os.rename(place, 'my set')
        text = run(kind, 'my set')
        assert 'DATA_ROOT' not in text and f"--data-root '{data}/my set'" in text
        os.rename('my set', place)
    text = run('folder', 'imagenet')
    assert 'images *.jpg                   30' in text and f'IMAGE_ROOT={data}/imagenet' in text
    assert 'smallest of those: 32 px' in text and 'warning' not in text


def test_bad_usage(run, tmp_path):
    (tmp_path / 'file').touch()
    for args, expected in (
        (('imagenet', 'nowhere'), 'error: nowhere does not exist; expected the folder of ImageNet-1K'),
        (('coco', tmp_path / 'file'), 'is not a folder'),
        (('imagnet', 'nowhere'), "expected one of imagenet, ade20k, coco, folder, segmentation, config; did you mean "
                                 "'imagenet'?"),
        ((), 'required'),
    ):
        text = run(*args, code=2)
        assert expected in text


def test_the_folder_above_is_named(run, data):
    for kind, place, path in (('imagenet', 'imagenet', data), ('ade20k', 'ade/ADEChallengeData2016', data),
                              ('ade20k', 'ADEChallengeData2016', data / 'ade'), ('coco', 'coco', data)):
        text = run(kind, path, code=1)
        assert f'there is one in {path / place}: give that path' in text


def defect(check_one, kind, root):
    """Checks a data set after a change: (change, what the only problem's line holds)."""

    def test(change, *expected, problems=1):
        backup = root.with_name('backup')
        shutil.copytree(root, backup)
        change()
        text = check_one(kind, root, code=1)
        lines = [line for line in text.splitlines() if line.startswith('problem: ')]
        assert len(lines) == problems, text
        assert all(part in '\n'.join(lines) for part in expected), text
        shutil.rmtree(root)
        backup.rename(root)

    return test


def broken(path):
    return lambda: path.write_bytes(path.read_bytes()[:200])


def test_defects_of_imagenet(run, data):
    root = data / 'imagenet'
    test = defect(run, 'imagenet', root)
    image = next((root / 'train/n00000003').iterdir())
    test(lambda: shutil.rmtree(root / 'val'), f'no folder val in {root}; expected val/<class>/*.JPEG')
    test(lambda: shutil.rmtree(root / 'val/n00000002'), 'train has classes that val has not', 'n00000002')
    test(lambda: shutil.rmtree(root / 'train/n00000002'), 'val has classes that train has not')
    test(lambda: [path.unlink() for path in (root / 'train/n00000002').iterdir()], 'without any image: n00000002')
    test(broken(image), f'cannot read the image {image}: ')
    deep = [root / f'train/n0000000{number}/deep.png' for number in range(3)]
    test(lambda: [Image.fromarray(np.full((40, 30), 300, np.uint16)).save(path) for path in deep],
         f'cannot read 3 images ({deep[0]}, {deep[1]}, {deep[2]}): the first holds 16-bit values from 300 to 300 in 1 band')
    test(lambda: (root / 'train/n00000001.tar').touch(), f'archives in {root}/train are not unpacked: n00000001.tar')
    for split in ('train', 'val'):
        (root / split / 'extra').mkdir()
        shutil.copy(image, root / split / 'extra')
    test(lambda: None, 'are no class of ImageNet', 'extra; each counts as a class', problems=2)

    def flatten():
        for path in list((root / 'val').glob('*/*')):
            path.rename(root / 'val' / path.name)
        for path in list((root / 'val').iterdir()):
            path.is_dir() and path.rmdir()

    for split in ('train', 'val'):
        shutil.rmtree(root / split / 'extra')
    test(flatten, f'10 images lie in {root}/val itself; expected {root}/val/<class>/*.JPEG', 'docs/data.md')
    # With mmpretrain's list of labels that is right.
    flatten()
    (root / 'meta').mkdir()
    (root / 'meta/val.txt').touch()
    text = run('imagenet', root)
    assert 'meta/val.txt: mmpretrain takes images and labels from that list' in text
    (root / 'train').rename(root / 'other')
    run('imagenet', root, code=1)


def test_defects_of_ade20k(run, data):
    root = data / 'ade/ADEChallengeData2016'
    test = defect(run, 'ade20k', root)
    image = root / 'images/training/train_000003.jpg'
    seg_map = root / 'annotations/training/train_000003.png'

    def draw(*args, **kwargs):
        return lambda: Image.fromarray(np.full(*args, np.uint8), **kwargs).save(seg_map)

    test(lambda: shutil.rmtree(root / 'annotations/validation'), f'no folder annotations/validation in {root}',
         'images in images/validation without a map', '… (10 in all)', problems=2)
    test(seg_map.unlink, 'images in images/training without a map in annotations/training: train_000003')
    test(image.unlink, 'maps in annotations/training without an image in images/training: train_000003')
    test(broken(image), f'cannot read the image {image}')
    test(broken(seg_map), f'cannot read the mask {seg_map}')
    test(draw((32, 32), 151), f'{seg_map} has values 151; expected 0 (nothing) and 1 to 150 (classes)')
    test(draw((32, 32, 3), 1), f'{seg_map} has 3 channels; expected one')
    test(lambda: Image.fromarray(np.full((32, 32), 257, np.uint16)).save(seg_map), f'{seg_map} has the value 257 (uint16)')
    test(draw((32, 31), 1), f'{seg_map} is of 31×32 px; expected 32×32, as its image {image}')
    draw((32, 32), 150)()
    image.with_suffix('.jpeg').touch()
    text = run('ade20k', root)
    assert 'do not end in .jpg are not read: train_000003.jpeg' in text.replace(f'{image.parent}/', '')


def test_defects_of_coco(run, data):
    root = data / 'coco'
    test = defect(run, 'coco', root)
    path, image = root / 'annotations/instances_train2017.json', root / 'train2017/train_000003.jpg'

    def change(function):
        def write():
            content = json.loads(path.read_text())
            function(content)
            path.write_text(json.dumps(content))

        return write

    def annotation(**values):
        return change(lambda content: content['annotations'][4].update(values))

    test(path.unlink, f'no file {path}')
    test(broken(path), f'{path} is damaged')
    test(lambda: path.write_text('[]'), f'{path} holds no dict; expected COCO annotations')
    test(lambda: path.write_text('{"images": [3], "annotations": [[]], "categories": []}'), 'images[0] has no id')
    test(change(lambda content: content['images'][2].pop('file_name')), 'image 3 has file_name None')
    test(lambda: shutil.rmtree(root / 'val2017'), f'no folder val2017 in {root}', 'that are not in', problems=2)
    test(image.unlink, f'images of {path} that are not in {root}/train2017: train_000003.jpg')
    test(broken(image), f'cannot read the image {image}')
    test(lambda: Image.new('RGB', (32, 30)).save(image), f'{image} is of 32×30 px; its annotations are for 32×32')
    test(annotation(category_id=12), 'has category_id 12')
    test(annotation(bbox=None), 'has no bbox')
    test(annotation(image_id=999), '1 of', 'objects belong to no image in the file, e.g. annotation 5')
    for mask in (None, [], [[1, 2, 3, 4]], dict(size=[32, 32])):
        test(annotation(segmentation=mask), 'annotation 5', 'segmentation')
    test(change(lambda content: content['annotations'][4].pop('area')), 'annotation 5 of image 3 has area None')
    test(annotation(bbox=[40, 1, 9, 9]), '1 object outside of the image, not used: train_000002.jpg (annotation 5)')
    test(annotation(bbox=[1, 1, 0, 3]), '1 object without width or height, not used: train_000002.jpg (annotation 5); ')
    test(annotation(id=1), 'two annotations have the id 1')
    test(change(lambda content: content['categories'].pop()), 'categories of train2017 and val2017 differ')
    test(change(lambda content: content['categories'].reverse()), "COCO's in another order",
         'categories of train2017 and val2017 differ', problems=2)
    annotation(bbox=[1, 1, 0.5, 3])()
    shutil.copy(image, image.with_name('unused.jpg'))
    text = run('coco', root)
    assert '1 object less than 1 px wide or high, not used' in text and 'does not name are not used: unused' in text
    for last, expected in ((80, "categories have other ids than COCO's"), (10, "10 categories that are not COCO's 80")):
        for file in (root / 'annotations').iterdir():
            content = json.loads(file.read_text())
            content['categories'] = content['categories'][:last]
            content['categories'][-1]['id'] = 91
            content['annotations'] = [one for one in content['annotations'] if one['category_id'] < 10]
            file.write_text(json.dumps(content))
        text = run('coco', root)
        assert expected in text
    assert 'num_classes=10' in text


def test_folder_of_anything(run, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    text = run('folder', folder, code=1)
    assert f'no image in {folder}; expected files that end in .jpg' in text
    pixels = np.zeros((40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / 'a.PNG')
    Image.fromarray(pixels[:9]).convert('CMYK').save(folder / '[bold] \n b.jpg')
    Image.fromarray(pixels).save(os.fsencode(folder) + b'/\xff.png')
    (folder / 'deep/er').mkdir(parents=True)
    Image.fromarray(pixels).save(folder / 'deep/er/c.jpg')
    (folder / 'deep/up').symlink_to(folder)
    (folder / 'itself').symlink_to('itself')
    (folder / '.hidden.jpg').write_text('')
    (folder / 'notes.txt').write_text('')
    text = run('folder', folder)
    assert 'read 4 of 4 images' in text and r'smallest of those: 9 px at its shorter side' in text
    assert r'[bold] \n b.jpg' in text and '2 files with other suffixes are not read: *, *.txt' in text
    assert len(list(walk_files(str(folder)))) == 6
    # Whatever is in the way becomes a line.
    (folder / 'lost.jpg').symlink_to('nowhere')
    os.mkfifo(folder / 'pipe.jpg')  # nobody would ever write into it
    (folder / 'empty.webp').write_text('')
    text = run('folder', folder, code=1)
    assert 'lost.jpg: No such file' in text and 'empty.webp: empty or not an image' in text


def test_what_may_not_be_read(data, monkeypatch):
    """As root may read all, the system's refusal is imitated."""
    scandir = os.scandir

    def refuse(path, *_):
        if str(path).endswith(('n00000002', 'val', '.json')):
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    monkeypatch.setattr('pycocotools.coco.open', refuse, raising=False)
    problems = check('imagenet', str(data / 'imagenet')).problems
    for folder in ('train/n00000002', 'val'):
        assert f'cannot read the folder {data}/imagenet/{folder}: Permission denied' in problems
    path = data / 'coco/annotations/instances_train2017.json'
    assert f'cannot read {path}: Permission denied' in check('coco', str(data / 'coco')).problems


def test_a_sample_or_all(run, data, tmp_path):
    """Without --full a hundred images of both splits, always the same ones; with it all, by several processes."""
    image = next((data / 'imagenet/train').rglob('*.jpg'))
    folder = data / 'imagenet/train/n00000000'
    for number in range(200):
        os.link(image, folder / f'copy{number}.jpg')
    root = str(data / 'imagenet')
    findings = check('imagenet', root)
    assert findings.images == 230 and findings.read == SAMPLE
    for path in folder.glob('copy*.jpg'):
        path.unlink()
        path.write_bytes(b'')
    few = check('imagenet', root).problems
    assert 50 < len(few) < SAMPLE and few == check('imagenet', root).problems
    findings = check('imagenet', root, full=True, workers=2)
    assert findings.read == 230 and len(findings.problems) == SHOWN + 1
    assert findings.problems[-1] == '… and 100 more images with problems like these'
    assert 'copy0.jpg' in findings.problems[0]
    text = run('imagenet', root, '--full', '--workers', '1', code=1)
    assert 'read 230 of 230 images to their end' in text


def test_a_killed_process_is_said(data, monkeypatch):
    killed = KINDS['imagenet']._replace(find=lambda root, findings: [1, 1], look=os._exit)
    monkeypatch.setitem(KINDS, 'imagenet', killed)
    with pytest.raises(UserError, match='reading: a process was killed .* fewer --workers'):
        check('imagenet', str(data / 'imagenet'), full=True, workers=2)
