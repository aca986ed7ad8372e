"""Files of others are read if they are files: a pipe would be waited for, a device read without an end."""
import os

import cv2
import mmcv
import numpy as np
import pytest
from mmengine.fileio import get, get_text, list_from_file, load
from PIL import Image, UnidentifiedImageError

from coma_mm.datasets.coco import CheckedCOCO
from coma_mm.datasets.loading import read_image, verify_image
from coma_mm.datasets.packed_images import _read_json
from coma_mm.errors import BadImageError, UserError
from coma_mm.files import check_writable, open_regular, read_regular, read_text, write_whole


@pytest.fixture(params=['pipe', 'zero', 'endless'])
def odd(request, tmp_path):
    """A file's name behind which there is none: a pipe, a link to one, a link to a device."""
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'zero').symlink_to(tmp_path / 'pipe')
    (tmp_path / 'endless').symlink_to('/dev/zero')
    return str(tmp_path / request.param)


@pytest.mark.parametrize('read', [open_regular, read_regular, read_text, get, get_text, list_from_file, mmcv.imread])
def test_what_is_no_file_is_not_read(odd, read):
    with pytest.raises(OSError, match='It is a (pipe|device), not a file'):
        read(odd)


@pytest.mark.parametrize('read', [read_image, verify_image, CheckedCOCO, lambda path: _read_json('', path)])
def test_so_are_images_and_annotations_in_one_line(odd, read):
    with pytest.raises(UserError, match='It is a (pipe|device), not a file'):
        read(odd)


def test_annotations_of_mmengine_too(tmp_path):
    (tmp_path / 'all.json').symlink_to('/dev/zero')
    with pytest.raises(OSError, match='It is a device, not a file'):
        load(tmp_path / 'all.json')


def test_links_to_files_are_read_and_folders_are_named_as_ever(tmp_path):
    (tmp_path / 'file').write_bytes('ä'.encode() + b'\xff')
    (tmp_path / 'link').symlink_to('file')
    assert read_regular(tmp_path / 'link') == get(tmp_path / 'link') == 'ä'.encode() + b'\xff'
    assert read_text(tmp_path / 'link') == 'ä\ufffd'
    with pytest.raises(OSError, match='File too large'):
        read_text(tmp_path / 'file', limit=2)
    with pytest.raises(IsADirectoryError, match='Is a directory'):
        read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / 'nowhere')


@pytest.mark.parametrize('format', ['EPS', 'PDF', 'PCX', 'TGA', 'SGI', 'ICO'])
def test_an_image_of_a_format_that_its_name_does_not_promise_is_none(tmp_path, monkeypatch, format):
    """Ghostscript would draw a PostScript file."""
    monkeypatch.setattr('subprocess.check_call', lambda *_, **__: pytest.fail('it started a program'))
    path = tmp_path / 'cat.jpg'
    Image.new('RGB', (32, 32)).save(path, format)
    for read in (read_image, verify_image):
        with pytest.raises(BadImageError, match='empty or not an image'):
            read(str(path))
    with pytest.raises(UnidentifiedImageError):  # as mmsegmentation's maps are decoded
        mmcv.imfrombytes(path.read_bytes(), flag='unchanged', backend='pillow')


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp', '.tif', '.ppm', '.gif'])
def test_the_formats_that_names_promise_are_read(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    Image.new('RGB', (32, 16), (200, 200, 200)).save(path)
    assert read_image(str(path)).shape == (16, 32, 3) and np.ptp(read_image(str(path))) < 3
    if suffix in ('.jpg', '.png'):
        assert np.allclose(cv2.imread(str(path)), read_image(str(path)), atol=3)


@pytest.mark.parametrize('place', [lambda path, other: path.symlink_to(other), lambda path, _: os.mkfifo(path),
                                   lambda path, other: os.link(other, path)], ids=['link', 'pipe', 'second name'])
def test_what_lies_where_a_file_is_prepared_is_not_written_to(tmp_path, place):
    (tmp_path / 'other').write_text('mine')
    place(tmp_path / 'a.tmp', tmp_path / 'other')
    write_whole(tmp_path / 'a', 'new')
    assert (tmp_path / 'a').read_text() == 'new' and (tmp_path / 'other').read_text() == 'mine'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'other'] and not (tmp_path / 'a').is_symlink()


def test_a_result_that_could_not_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    os.mkfifo(tmp_path / 'pipe')
    for good in (None, tmp_path / 'file', tmp_path / 'new/folder/file.json'):
        check_writable(good)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'pipe']
    for bad, reason in ((tmp_path, 'it is a folder'), (tmp_path / 'file/x.json', 'file is not a folder'),
                        (tmp_path / 'pipe', 'it is no regular file')):
        with pytest.raises(UserError, match=f'cannot write {bad}: .*{reason}; expected the name of a file'):
            check_writable(bad)
    monkeypatch.setattr(os, 'access', lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match=f'no permission to write in {tmp_path}'):
        check_writable(tmp_path / 'new/x.json')
