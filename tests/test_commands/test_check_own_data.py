"""`check_data` on data of one's own, from the command line."""
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.helpers.own_data import write_coco, write_photo


@pytest.fixture
def run(run_tool):
    """Runs the tool: (kind, path, …) -> what it printed."""
    return partial(run_tool, 'check_data.py')

def test_a_coco_file_is_checked_and_a_page_is_written(run, tmp_path):
    path = write_coco(tmp_path, 'a.json', {'a.png': 1, 'b.png': 1}, [(0, 0, [1, 1, 20, 10]), (1, 1, [8, 8, 9, 9])])
    text = run('coco', path, '--images', tmp_path / 'photos', '--html', tmp_path / 'page.html')
    assert 'a.json: 2 images, 2 objects of 2 classes' in text and 'cat                         1 in 1 image' in text
    assert 'warning: a.json: 1 image is a copy of another: a.png = b.png' in text and text.endswith('no problem found\n')
    assert '</html>' in (tmp_path / 'page.html').read_text()

def test_masks_and_folders_are_checked_and_compared(run, tmp_path):
    write_photo(tmp_path, 'one/a.png', 1)
    write_photo(tmp_path, 'two/b.png', 1)
    Image.fromarray(np.arange(1200).reshape(30, 40).astype(np.uint8) % 2).save(tmp_path / 'two/a.png')
    (tmp_path / 'names.txt').write_text('road\ncar\n')
    (tmp_path / 'masks').mkdir()
    (tmp_path / 'two/a.png').rename(tmp_path / 'masks/a.png')
    text = run('segmentation', tmp_path / 'one', tmp_path / 'masks', '--classes', tmp_path / 'names.txt')
    assert 'road                     50 % in 1 image' in text and 'values of maps        0, 1' in text
    text = run('folder', tmp_path / 'one', tmp_path / 'two')
    assert f'1 image of {tmp_path}/two (100 %) is in {tmp_path}/one, too: a.png = b.png' in text

def test_a_config_is_checked_with_its_options(run, tmp_path):
    write_photo(tmp_path, 'photos/a.png', 1)
    for number in range(20):
        write_photo(tmp_path, f'photos/{number}.png', number)
    text = run('config', 'coma_mm::coma/coma_dyvit-base_1xb128-amp-coslr-300e_folder.py', '--data-root', tmp_path / 'photos',
               code=1)
    assert 'train: 19 images' in text and 'val: 2 images' in text
    assert 'problem: 1 image of val (50 %) is in train, too' in text


@pytest.mark.parametrize(('args', 'expected'), [
    ('coco a.json', 'no file a.json; expected COCO annotations'),
    ('segmentation .', 'segmentation takes two folders, IMAGES and MASKS; 1 given: .'),
    ('segmentation . nowhere', 'MASKS nowhere does not exist'),
    ('folder nowhere', 'nowhere does not exist; expected a folder of images'),
    ('config a.py', 'no config file a.py'),
    ('config a.py b.py', 'config takes one file; 2 given: a.py b.py'),
    ('imagenet a b', 'imagenet a: b is for data of your own; expected one folder'),
    ('folder . --images .', '--images is for check_data coco, not for folder'),
    ('coco a.json --data-root .', '--data-root is for check_data config, not for coco'),
    ('coco . --html page.html', 'coco .: --html is for data of your own'),
    ('coco . --images .', 'coco .: --images is for data of your own'),
])
def test_bad_usage_is_one_line(run, tmp_path, monkeypatch, args, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in run(*args.split(' '), code=2)
