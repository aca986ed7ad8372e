"""What is to be predicted is found and read, and named so that nothing overwrites another."""
import io
import os
import threading

import cv2
import numpy as np
import pytest

from coma_mm.errors import UserError
from coma_mm.inference.sources import ahead, count_items, find_sources, read_items


def write_image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 12, 3), value, np.uint8))
    return str(path)


def write_video(path, frames=7):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 5, (32, 16))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((16, 32, 3), 30 * number, np.uint8))
    writer.release()
    return str(path)


def names(sources):
    return [source.name for source in sources]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ('a/one.jpg', 'a/sub/two.PNG', 'b/one.png', 'three.jpg'):
        write_image(tmp_path / name)
    (tmp_path / 'a/notes.txt').write_text('x')
    (tmp_path / 'a/.hidden.jpg').write_text('x')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_folders_patterns_and_lists_are_found(folder, monkeypatch):
    assert names(find_sources(['three.jpg', 'a'])) == ['three.jpg', 'one.jpg', 'sub/two.PNG']
    assert names(find_sources(['a/**/*.[jP]*'])) == ['one.jpg', 'two.PNG']
    monkeypatch.setattr('sys.stdin', io.StringIO('three.jpg\n\na\n'))
    assert names(find_sources(['-'])) == ['three.jpg', 'one.jpg', 'sub/two.PNG']
    assert names(find_sources(['three.jpg', './three.jpg', str(folder / 'three.jpg')])) == ['three.jpg']


def test_no_two_have_the_same_name_whatever_their_suffixes(folder):
    write_image(folder / 'c/b/one.bmp')
    found = find_sources(['a', 'b', 'c/b/one.bmp', 'b/../c/b'])
    assert names(found) == ['one.jpg', 'sub/two.PNG', 'b/one.png', 'one~2.bmp']
    known = {found[3].path: 'one~2.bmp', str(folder / 'a/one.jpg'): 'one.jpg'}
    write_image(folder / 'd/one.jpg')
    assert names(find_sources(['d', 'c/b', 'a/one.jpg'], known)) == ['d/one.jpg', 'one~2.bmp', 'one.jpg']


@pytest.mark.parametrize(('argument', 'said'), [
    ('x.jpg', 'no image x.jpg; expected files, folders'), ('empty', r'no image in the folder empty; .*\.jpg.*\.mp4'),
    ('*.gif', r'no file fits the pattern \*.gif'), ('-', 'standard input has no line')])
def test_what_is_not_there_is_said_in_one_line(folder, argument, said, monkeypatch):
    (folder / 'empty').mkdir()
    monkeypatch.setattr('sys.stdin', io.StringIO('\n'))
    with pytest.raises(UserError, match=said):
        find_sources(['three.jpg', argument])


def test_a_videos_frames_are_items_and_those_that_are_done_are_not_decoded(tmp_path):
    sources = find_sources([write_video(tmp_path / 'clip.avi')])
    assert count_items(sources) == 7 and count_items(sources, every=3) == 3
    items = list(read_items(sources, lambda item: item.name.endswith('3.png'), every=3))
    assert [item.name for item in items] == [f'clip.avi/{number:06d}.png' for number in (0, 3, 6)]
    assert [item.key[-6:] for item in items] == ['.avi#0', '.avi#3', '.avi#6']
    assert items[1].image is None and not items[1].error
    assert abs(int(items[2].image.mean()) - 180) < 4 and items[2].image.shape == (16, 32, 3)


def test_what_cannot_be_read_is_an_item_with_the_reason(tmp_path):
    for name in ('a.jpg', 'b.mp4'):
        (tmp_path / name).write_text('no image')
    sources = find_sources([str(tmp_path)])
    gone = find_sources([write_image(tmp_path / 'c.png')])
    os.remove(tmp_path / 'c.png')
    items = list(read_items(sources + gone, lambda item: False))
    assert [item.image for item in items] == [None] * 3
    for item, said in zip(items, ('cannot read the image .*a.jpg: ', 'cannot read the video .*b.mp4: OpenCV finds no frame',
                                  'c.png: No such file'), strict=True):
        assert not item.error.endswith("'skip'") and pytest.raises(AssertionError, match=said)
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(item.error)


def test_values_are_made_ahead_but_not_far_and_no_thread_is_left():
    made = []

    def values():
        for number in range(100):
            made.append(number)
            yield number

    before = threading.active_count()
    found = ahead(values(), 2)
    assert next(found) == 0
    found.close()
    assert len(made) < 6 and threading.active_count() == before
    assert list(ahead(range(5))) == [0, 1, 2, 3, 4]

    def failing():
        yield 1
        raise UserError('no')

    with pytest.raises(UserError, match='^no$'):
        list(ahead(failing()))
