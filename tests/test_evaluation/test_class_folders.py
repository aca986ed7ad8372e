"""Which images of class folders are chosen, and what is said of folders that will not do."""
from pathlib import Path
from types import SimpleNamespace

import pytest

from coma_mm.datasets.image_folder import suffixes_read
from coma_mm.datasets.loading import LoadImage
from coma_mm.errors import UserError
from coma_mm.evaluation.class_folders import choose_images


def make(folder, **counts):
    """Empty files of that many images in each class's folder; nothing is read of them."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f'{index}.png').touch()
    return str(folder)


def test_classes_are_balanced_and_nothing_is_in_both_parts(tmp_path):
    root = make(tmp_path, a=30, b=9, c=2)
    (tmp_path / 'empty').mkdir()
    (tmp_path / '.hidden').mkdir()
    found = choose_images(root, 40, 9, k=5)
    assert found.classes == ['a', 'b', 'c'] and found == choose_images(f'{root}/', 40, 9, k=5)
    labels = [[label for _, label in part] for part in (found.train, found.test)]
    assert [[part.count(i) for i in range(3)] for part in labels] == [[13, 6, 1], [3, 3, 1]]
    assert not {path for path, _ in found.train} & {path for path, _ in found.test}
    assert all(Path(path).parent.name == found.classes[label] for path, label in found.train + found.test)
    assert found.train != choose_images(root, 40, 9, k=5, seed=1).train
    assert str(found) == f'7 images of 3 classes by 20 others of {root}'


def test_a_val_or_test_folder_is_asked_for(tmp_path):
    make(tmp_path / 'train', a=4, b=4)
    make(tmp_path / 'test', a=4, b=1)
    found = choose_images(str(tmp_path), 8, 4, k=5)
    assert len(found.train) == 8 and [label for _, label in found.test] == [0, 0, 1]
    assert all('/test/' in path for path, _ in found.test)
    make(tmp_path / 'vehicles', train=2, val=3)  # are classes there
    assert choose_images(str(tmp_path / 'vehicles'), k=1).classes == ['train', 'val']


def test_of_many_classes_some_are_chosen(tmp_path):
    found = choose_images(make(tmp_path, **{f'c{index:02}': 3 for index in range(20)}), 50, k=5)
    assert len(found.classes) == 5 and '5 classes of 20' in str(found)


@pytest.mark.parametrize('counts, expected', [
    ({}, 'holds no folder with images in it; expected a folder of images for each class'),
    (dict(cat=9), 'holds images of one class, cat, so nothing can be told apart'),
    (dict(cat=1, dog=1), 'has one image of each class, so none is left to ask for'),
    (dict(cat=9, dog=9), r'k=20 is more than the 12 images of probe_root .* to compare with; take a smaller k')])
def test_folders_that_will_not_do(tmp_path, counts, expected):
    root = make(tmp_path, **counts)
    with pytest.raises(UserError, match=expected):
        choose_images(root)


def test_folders_that_are_not_there_or_do_not_fit(tmp_path):
    with pytest.raises(UserError, match='probe_root .*/none does not exist; expected a folder of images for each class'):
        choose_images(str(tmp_path / 'none'))
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='is not a folder'):
        choose_images(str(tmp_path / 'file'))
    make(tmp_path / 'train', a=4, b=4)
    make(tmp_path / 'val', a=4, z=1)
    with pytest.raises(UserError, match='val has classes that .*train has no images of: z'):
        choose_images(str(tmp_path), k=2)


def test_files_of_bands_are_images_where_the_runs_reader_takes_them(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        for index in range(6):
            (tmp_path / name / f'{index}.NPY').touch()
    with pytest.raises(UserError, match=r'holds no folder with images in it; .*, of files that end in \.jpg'):
        choose_images(str(tmp_path), k=2)
    pipeline = SimpleNamespace(transforms=[LoadImage(bands=4)])
    suffixes = suffixes_read(SimpleNamespace(pipeline=pipeline))
    assert len(choose_images(str(tmp_path), k=2, suffixes=suffixes).train) == 8
    assert suffixes_read(SimpleNamespace(pipeline=pipeline, suffixes=('.tif', ))) == ('.tif', )
    assert '.npy' not in suffixes_read(SimpleNamespace(pipeline=SimpleNamespace(transforms=[LoadImage()])))
