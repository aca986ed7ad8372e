"""The values of one's own images, measured."""
import json
import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from coma_mm.datasets.bands import Bands
from coma_mm.errors import UserError
from coma_mm.prepare import moments
from coma_mm.prepare.moments import measure


@pytest.fixture
def folder(tmp_path):
    """Images of three bands and 16 bits, and all their values."""
    rng, values = np.random.default_rng(0), []
    for index, size in enumerate(((20, 30), (40, 10), (16, 16))):
        values.append((rng.normal(1, .1, (*size, 3)) * [100, 5000, 20000]).clip(0, 65535).astype(np.uint16))
        tifffile.imwrite(tmp_path / f'{index}.tif', values[-1], photometric='minisblack', planarconfig='contig')
    return tmp_path, np.concatenate([one.reshape(-1, 3) for one in values]).astype(float)


def test_moments_are_those_of_all_pixels(folder):
    root, values = folder
    content = measure(str(root)).content
    assert (content['images'], content['looked_at'], content['share'], content['dtype']) == (3, 3, 1., 'uint16')
    assert (content['height'], content['width'], content['nodata']) == ([16, 40], [10, 30], 0.)
    for index, band in enumerate(content['bands']):
        own = values[:, index]
        expected = [own.mean(), own.std(), *np.percentile(own, (2, 98))]
        assert [band[key] for key in ('mean', 'std', 'low', 'high')] == pytest.approx(expected)
    assert Bands.of(3, content).moments['mean'] == pytest.approx(values.mean(0))


def test_values_without_data_count_for_nothing(folder):
    root, values = folder
    for path in root.iterdir():
        image = tifffile.imread(path)
        image[:5] = 0
        tifffile.imwrite(path, image, photometric='minisblack', planarconfig='contig')
    content = measure(str(root), nodata=0).content
    kept = np.concatenate([tifffile.imread(path)[5:].reshape(-1, 3) for path in sorted(root.iterdir())])
    for index, band in enumerate(content['bands']):
        assert band['mean'] == pytest.approx(kept[:, index].mean(), rel=1e-3)
        assert band['std'] == pytest.approx(kept[:, index].std(), rel=1e-2)
    assert content['nodata'] == pytest.approx(np.mean([5 / 20, 5 / 40, 5 / 16])) and Bands.of(3, content).nodata == 0


def test_a_band_without_data_in_one_image_counts_for_nothing_there(tmp_path):
    values = np.random.default_rng(0).normal(5, 2, (2, 8, 8, 2))
    values[0, ..., 1] = np.nan
    values[1, :2, :, 0] = np.nan
    for index, image in enumerate(values):
        np.save(tmp_path / f'{index}.npy', image)
    found = Bands.of(2, measure(str(tmp_path)).content).moments
    assert found['mean'] == pytest.approx(np.nanmean(values, (0, 1, 2))) and found['std'] == pytest.approx(
        np.nanstd(values, (0, 1, 2)))


def test_a_band_of_one_value_or_none_is_said(tmp_path):
    values = np.random.default_rng(0).normal(5, 2, (8, 8, 3)).astype(np.float32)
    values[..., 1], values[..., 2] = 0.1, np.nan
    np.save(tmp_path / 'a.npy', values)
    found = measure(str(tmp_path))
    assert [band['std'] for band in found.content['bands'][1:]] == [1, 1]
    assert [line.partition(' has no data')[0] for line in found.lines[-2:]] == ['warning: band 1', 'warning: band 2']
    assert not found.lines[-3].startswith('warning')


def test_bands_in_different_orders_are_said(tmp_path):
    for index, names in enumerate(('ab', 'AB', 'ba')):
        items = ''.join(f'<Item sample="{at}" role="description">{name}</Item>' for at, name in enumerate(names))
        tifffile.imwrite(tmp_path / f'{index}.tif', np.ones((4, 4, 2), np.uint16), photometric='minisblack',
                         planarconfig='contig', metadata=None,
                         extratags=[(42112, 's', 0, f'<GDALMetadata>{items}</GDALMetadata>', True)])
    assert measure(str(tmp_path)).problems == [
        '1 of 3 images name their bands b, a, and others a, b; the moments are by place, so bring them into one order, or '
        'measure each by itself']


def test_a_sample_is_the_same_every_time_and_its_share_is_said(folder, monkeypatch):
    monkeypatch.setattr(moments, 'SAMPLE', 2)
    first, second = measure(str(folder[0])), measure(str(folder[0]))
    assert first == second and first.content['looked_at'] == 2
    assert first.lines[0].startswith('looked at 2 of 3 images (66.7 %): 3 bands, uint16')
    assert measure(str(folder[0]), full=True).content['looked_at'] == 3


def test_mixed_bands_and_depths_and_broken_files_are_named(folder):
    root = folder[0]
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / 'photo.png')
    (root / 'broken.tif').write_bytes(b'II*\0nothing')
    found = measure(str(root))
    assert len(found.content['bands']) == 3 and found.content['dtype'] == 'uint16'
    assert len(found.problems) == 2 and 'broken.tif' in found.problems[0]
    assert 'are of 3 bands, uint8, and the others of 3, uint16' in found.problems[1] and 'photo.png' in found.problems[1]


def test_the_tool_writes_the_file_and_says_what_to_set(folder, run_tool):
    path = folder[0] / 'moments.json'
    out = run_tool('check_data.py', 'folder', folder[0], '--moments', path)
    assert f'--bands 3 --moments {path}' in out and json.loads(path.read_text())['looked_at'] == 3


def test_a_folder_without_images_is_said(tmp_path):
    with pytest.raises(UserError, match='no image in'):
        measure(str(tmp_path))
    with pytest.raises(UserError, match='does not exist'):
        measure(str(tmp_path / 'none'))


def test_names_of_any_bytes_are_measured_and_what_float32_cannot_hold_is_no_data(tmp_path):
    values = np.array([[[1.], [3.], [1e300]]])
    np.save(tmp_path / os.fsdecode(b'a\xff.npy'), values)
    content = measure(str(tmp_path), nodata=float('nan')).content
    assert content['bands'][0]['mean'] == 2 and content['nodata'] == pytest.approx(1 / 3) and 'nodata_value' not in content


def test_images_without_any_data_have_no_moments(tmp_path):
    np.save(tmp_path / 'a.npy', np.zeros((4, 4, 2), np.uint16))
    with pytest.raises(UserError, match='no value stands for data in the 1 images of .* another --nodata'):
        measure(str(tmp_path), nodata=0)
