"""Packs of images: written whole, resumed, refused when damaged, and read as the folder that was packed is."""
import errno
import json
import multiprocessing
import os
import signal
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from coma_mm.datasets import ImageFolder, PackedImages, SeededDataset, SeededSampler, read_image
from coma_mm.datasets.packed_images import read_index
from coma_mm.errors import BadImageError, UserError
from coma_mm.locks import locked
from coma_mm.prepare import pack as packing
from coma_mm.prepare.pack import SKIPPED, encode, pack, verify
from coma_mm.prepare.shape_scenes import render_scene

PIPELINE = [dict(type='LoadRandomResizedCrop', scale=64), dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='PatchMask'), dict(type='PackMaskedImage', meta_keys=('sample_idx', ))]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Three classes of images: JPEGs of 64×96 px, one PNG and one that is turned."""
    folder = tmp_path_factory.mktemp('data') / 'images'
    turned = Image.Exif()
    turned[0x0112] = 6
    for index in range(9):
        path = folder / f'class{index % 3}' / f'{index}.{"png" if index == 4 else "jpg"}'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(render_scene(0, 'train', index, 96).image[:64])
        image.save(path, **(dict(exif=turned) if index == 5 else {}))
    return folder


@pytest.fixture(scope='module')
def packed(images):
    """A pack of them, not resized."""
    out = images.parent / 'pack'
    pack(images, out, 64, shard_size=4)
    return out


def copy(folder, to):
    """Path: A copy of a folder."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_round_trip(images, packed):
    before, after = ImageFolder(str(images)), PackedImages(data_root=str(packed), with_label=True)
    assert len(before) == len(after) == 9 and len(list(packed.glob('shard-*.tar'))) == 3
    assert after.metainfo['classes'] == ('class0', 'class1', 'class2')
    for index in range(9):
        old, new = before.get_data_info(index), after.get_data_info(index)
        name = os.path.relpath(old['img_path'], images)
        assert new['img_path'] == str(packed / name) and new['gt_label'] == int(name[5])
        with open(new['shard'], 'rb') as file, tarfile.open(new['shard']) as tar:
            file.seek(new['offset'])
            encoded = file.read(new['size'])
            assert tar.extractfile(name).read() == encoded
        plain = name.endswith('.jpg') and '5.jpg' not in name
        assert (encoded == Path(old['img_path']).read_bytes()) == plain  # nothing is lost that need not be
        one, other = (read_image('', content) for content in (Path(old['img_path']).read_bytes(), encoded))
        assert one.shape == other.shape and np.abs(one.astype(int) - other).mean() < 3
    assert verify(packed)['images'] == 9
    assert pack(images, packed, 64, shard_size=4)['written'] is False
    assert DATASETS.build(dict(type='PackedImages', data_root=str(packed), part='val', holdout=4)).get_data_info(1)[
        'img_path'] == ImageFolder(str(packed.parent / 'images'), part='val', holdout=4).get_data_info(1)[
            'img_path'].replace(str(images), str(packed))


@pytest.mark.parametrize('size, expected', [((100, 50), (40, 20)), ((50, 101), (20, 40)), ((30, 20), (30, 20)),
                                            ((1, 4), (1, 4)), ((2000, 21), (1905, 20))])
def test_images_get_the_short_side_and_are_never_enlarged(tmp_path, size, expected):
    Image.new('RGB', size).save(tmp_path / 'a.png')
    height, width, _ = read_image('', encode(tmp_path / 'a.png', 20, 90)).shape
    assert (width, height) == expected


def test_samples_of_a_pack_are_those_of_the_folder_for_any_workers(images, packed):
    """Of images that are packed byte for byte; also with the files opened before the workers are forked."""
    found = []
    for dataset, workers in ((ImageFolder(str(images), pipeline=PIPELINE), 0),
                             (PackedImages(data_root=str(packed), pipeline=PIPELINE), 0),
                             (PackedImages(data_root=str(packed), pipeline=PIPELINE), 2)):
        dataset = SeededDataset(dataset)
        dataset[0]
        sampler = SeededSampler(dataset, seed=4)
        sampler.set_epoch(2)
        sampler.skip(3)  # as after a resume in mid-epoch
        batches = DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=list)
        found.append({sample['data_samples'].sample_idx: sample for batch in batches for sample in batch})
    assert len(found[0]) == 6
    for index, sample in found[0].items():
        for other in found[1:]:
            np.testing.assert_array_equal(sample['ids_keep'], other[index]['ids_keep'])
            name = PackedImages(data_root=str(packed)).get_data_info(index)['img_path']
            if name.endswith('.jpg') and '5.jpg' not in name:
                np.testing.assert_array_equal(sample['inputs'], other[index]['inputs'])


def test_a_killed_one_goes_on_and_ends_with_the_same_bytes(images, packed, tmp_path):
    """Killed as the second of its files is written."""
    def killed():
        write = packing.write_whole
        packing.write_whole = lambda path, content: os.kill(os.getpid(), signal.SIGKILL) if '00001' in str(path) else write(
            path, content)
        pack(images, tmp_path / 'out', 64, shard_size=4)

    process = multiprocessing.get_context('fork').Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    unfinished = tmp_path / 'out.partial'
    assert not (tmp_path / 'out').exists()
    with pytest.raises(UserError, match='unfinished'):
        read_index(str(unfinished))
    with pytest.raises(UserError, match='other images or settings'):
        pack(images, tmp_path / 'out', 60, shard_size=4)
    first = unfinished / 'shard-00000.tar'
    before = first.stat().st_mtime_ns
    pack(images, tmp_path / 'out', 64, shard_size=4)
    assert (tmp_path / 'out/shard-00000.tar').stat().st_mtime_ns == before and not unfinished.exists()
    assert {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == {
        path.name: path.read_bytes() for path in packed.iterdir()}


def test_of_two_at_once_the_second_is_refused(images, packed, tmp_path):
    out = tmp_path / 'a/out'
    with locked(out, f'{out}.lock'), pytest.raises(UserError, match='a/out is in use: .* runs there since'):
        pack(images, out, 64, shard_size=4)
    assert not (tmp_path / 'a').exists()
    with locked(packed, f'{packed}.lock'):  # what is complete is as good as ever
        assert pack(images, packed, 64, shard_size=4)['written'] is False


def test_no_space_left(images, tmp_path, monkeypatch):
    add = tarfile.TarFile.addfile

    def full(self, member, file):
        if member.name == 'class1/4.png':
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(self, member, file)

    monkeypatch.setattr(tarfile.TarFile, 'addfile', full)
    with pytest.raises(UserError, match='No space left on device; free some space, and run the same') as caught:
        pack(images, tmp_path / 'out', 64, shard_size=4)
    assert '\n' not in str(caught.value) and not (tmp_path / 'out').exists()
    monkeypatch.undo()
    pack(images, tmp_path / 'out', 64, shard_size=4)
    assert verify(tmp_path / 'out')['images'] == 9


def test_what_is_there_is_left_as_it_is(images, packed, tmp_path):
    def content():
        return {path: path.read_bytes() for folder in (packed, tmp_path) for path in folder.rglob('*') if path.is_file()}

    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/a.txt').write_text('a')
    (tmp_path / 'file').write_text('b')
    before = content()
    for out, side, reason in ((packed, 48, 'other images or settings'), (tmp_path / 'mine', 64, 'exists and is no pack'),
                              (tmp_path / 'file', 64, 'exists and is no pack'),
                              (tmp_path / 'file/out', 64, 'Not a directory; choose another folder'),
                              (tmp_path / 'out', 0, '--short-side is 0')):
        with pytest.raises(UserError, match=reason):
            pack(images, out, side, shard_size=4)
        assert content() == before


def test_unreadable_images_stop_it_or_are_listed(tmp_path):
    for name in ('a/1.png', 'b/2.png', 'c/3.png'):
        (tmp_path / 'images' / name).parent.mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'images' / name)
    (tmp_path / 'images/b/2.png').write_bytes(b'no')
    with pytest.raises(UserError, match='b/2.png: empty or not an image; replace it, or pass --skip-broken'):
        pack(tmp_path / 'images', tmp_path / 'out', 8)
    assert not (tmp_path / 'out').exists()
    index = pack(tmp_path / 'images', tmp_path / 'out', 8, skip_broken=True)
    assert index['skipped'] == 1 and 'b/2.png: empty' in (tmp_path / 'out' / SKIPPED).read_text()
    labels = [info['gt_label'] for info in map(
        PackedImages(data_root=str(tmp_path / 'out'), with_label=True).get_data_info, range(2))]
    assert labels == [0, 2]  # those of the others do not move
    (tmp_path / 'images/a/1.png').write_bytes(b'')
    (tmp_path / 'images/c/3.png').write_bytes(b'')
    with pytest.raises(UserError, match='not one image can be read'):
        pack(tmp_path / 'images', tmp_path / 'none', 8, skip_broken=True)


def test_damaged_packs_are_refused(packed, tmp_path):
    def broken(change):
        folder = copy(packed, tmp_path / str(len(list(tmp_path.iterdir()))))
        change(folder)
        with pytest.raises(UserError) as caught:
            read_index(str(folder))
        assert '\n' not in str(caught.value)
        return str(caught.value)

    def rename(folder, name):
        path = folder / 'shard-00000.json'
        listed = json.loads(path.read_text())
        listed['images'][0][0] = name
        path.write_text(json.dumps(listed))
        index = json.loads((folder / 'pack.json').read_text())
        index['shards'][0]['crc32'] = packing.zlib.crc32(path.read_bytes())
        (folder / 'pack.json').write_text(json.dumps(index))

    for name in ('../x.jpg', 'a/../../x.jpg', '/etc/passwd', 'a\\..\\x.jpg'):
        assert 'leads out of the pack' in broken(partial(rename, name=name))
    assert 'no pack, or an unfinished one' in broken(lambda folder: (folder / 'pack.json').unlink())
    assert 'shard-00001.tar is missing' in broken(lambda folder: (folder / 'shard-00001.tar').unlink())
    assert 'shard-00001.tar has 9 bytes' in broken(lambda folder: (folder / 'shard-00001.tar').write_bytes(b'cut short'))
    assert 'altered' in broken(lambda folder: (folder / 'shard-00002.json').write_text('{}'))
    assert 'damaged: KeyError' in broken(lambda folder: (folder / 'pack.json').write_text('{"version": 1}'))
    assert 'cannot read' in broken(lambda folder: (folder / 'pack.json').write_text('{'))


def test_a_changed_image_is_found(packed, tmp_path):
    folder = copy(packed, tmp_path / 'pack')
    info = PackedImages(data_root=str(folder)).get_data_info(4)
    content = bytearray(Path(info['shard']).read_bytes())
    content[info['offset'] + info['size'] // 2] ^= 1
    Path(info['shard']).write_bytes(content)
    name = os.path.relpath(info['img_path'], folder)
    with pytest.raises(UserError, match=f'1 of 9 images .* are not what was packed: {name};'):
        verify(folder)
    dataset = SeededDataset(PackedImages(data_root=str(folder), pipeline=PIPELINE))
    with pytest.raises(BadImageError, match=f'{name}: its check sum'):
        dataset[4]
    assert SeededDataset(dataset.dataset, on_bad_image='skip')[4]['data_samples'].sample_idx == 5


def test_labels_need_folders(tmp_path):
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'images/a.png')
    pack(tmp_path / 'images', tmp_path / 'out', 8)
    assert PackedImages(data_root=str(tmp_path / 'out')).get_data_info(0)['img_path'] == str(tmp_path / 'out/a.png')
    with pytest.raises(UserError, match='a.png of the pack .* is in none'):
        PackedImages(data_root=str(tmp_path / 'out'), with_label=True)
