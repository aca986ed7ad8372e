"""Which bands are read, and how they are looked at."""
import json
import os

import numpy as np
import pytest
import tifffile

from coma_mm.datasets import ImageFolder, LoadImage, LoadRandomResizedCrop, SeededDataset
from coma_mm.datasets.bands import Bands, picture
from coma_mm.datasets.random_resized_crop import resize_any
from coma_mm.datasets.reading.choice import check_choice
from coma_mm.datasets.viewing import bands_read, read_picture, seen
from coma_mm.errors import BadImageError, UserError

NAMES = ('red', 'green', 'blue', 'nir')
MOMENTS = dict(bands=[dict(name=name, mean=10. * i, std=1. + i, low=i, high=100. + i) for i, name in enumerate(NAMES)])


@pytest.fixture
def file(tmp_path):
    """A TIFF of four bands and 16 bits, and its values."""
    values = np.random.default_rng(0).integers(0, 2**16, (40, 30, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / 'a.tif', values, photometric='minisblack', planarconfig='contig')
    return str(tmp_path / 'a.tif'), values


def test_a_number_reads_all_bands_in_their_depth_and_a_list_chooses(file):
    path, values = file
    for bands, expected in ((4, values), ([3, 0], values[..., [3, 0]])):
        found = LoadImage(bands=bands)(dict(img_path=path))
        assert found['img'].dtype == np.uint16 and (found['img'] == expected).all()
        assert found['img_shape'] == found['ori_shape'] == (40, 30)


@pytest.mark.parametrize(('bands', 'parts'), [(3, ('4 bands', 'bands=3')), ([0, 7], ('4 bands', '7'))])
def test_bands_that_a_file_has_not_are_one_line_with_its_name(file, bands, parts):
    with pytest.raises(BadImageError) as caught:
        LoadImage(bands=bands)(dict(img_path=file[0]))
    assert all(part in str(caught.value) for part in (file[0], *parts)) and '\n' not in str(caught.value)


def test_values_of_another_depth_than_the_moments_are_refused_by_name(file):
    for step in (LoadImage(bands=4, depth='uint8'), LoadRandomResizedCrop(16, bands=4, depth='uint8')):
        with pytest.raises(BadImageError, match=f'the image {file[0]} holds uint16 values, and the moments are of uint8:'):
            step(dict(img_path=file[0]))


def test_a_crop_keeps_the_depth_and_draws_the_same_numbers_as_one_of_rgb(file):
    path, values = file
    step = LoadRandomResizedCrop((16, 24), bands=4)
    np.random.seed(3)
    window = step.rand_crop_params(values)
    np.random.seed(3)
    found = step(dict(img_path=path))
    top, left, height, width = window
    assert found['img'].dtype == np.uint16 and found['img'].shape == (16, 24, 4)
    expected = resize_any(values[top:top + height, left:left + width].astype(np.float32), (16, 24))
    assert np.abs(found['img'] - expected.clip(0, 2**16 - 1)).max() <= .5


@pytest.mark.parametrize('bands', [0, True, [], [0, -1], 'red', [0, 0], 2.5])
def test_what_is_no_choice_of_bands_is_said(bands):
    with pytest.raises(UserError, match='bands='):
        check_choice(bands)


def test_moments_are_chosen_with_their_bands_by_index_and_by_name():
    bands = Bands.of(['nir', 0], MOMENTS)
    assert bands.chosen == [3, 0] and bands.names == ['nir', 'red'] and bands.moments['mean'] == [30., 0.]
    assert Bands.of(4, dict(MOMENTS, dtype='int16')).depth == 'float32'
    assert Bands.of(None, MOMENTS).chosen == 4 and Bands.of(None, None) is None
    assert Bands.of_plain(json.loads(json.dumps(bands.plain()))) == bands


@pytest.mark.parametrize(('bands', 'content', 'parts'), [
    (3, MOMENTS, ('has the moments of 4 bands', 'bands=3')),
    ([5], MOMENTS, ('has no band 5; expected an index of 0 to 3', )),
    (['nri'], MOMENTS, ("no band 'nri'; expected an index of 0 to 3 or one of red, green, blue, nir; did you mean 'nir'", )),
    (4, dict(bands=[dict(mean=0, std=0, low=0, high=1)] * 4), ('holds no moments', 'std (above 0)')),
    (4, [1], ('holds no moments', )),
    (4, dict(MOMENTS, dtype='int12'), ("dtype is 'int12'; expected one of uint8, uint16, float32", )),
    (4, dict(MOMENTS, nodata_value='0'), ("nodata_value is '0'; expected the number", )),
    (1, dict(bands=[dict(mean=10**400, std=1, low=0, high=1)]), ('holds no moments', )),
    (1, dict(bands=[dict(mean=1e300, std=1, low=0, high=1)]), ('holds no moments', )),  # float32 has no such number
    (['A'], dict(bands=[dict(name='a', mean=0, std=1, low=0, high=1)] * 2), ("more than one band 'A'", 'index of 0 to 1')),
])
def test_moments_that_do_not_fit_are_one_line_with_their_file(tmp_path, bands, content, parts):
    path = tmp_path / 'moments.json'
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        Bands.of(bands, str(path))
    assert all(part in str(caught.value) for part in (str(path), *parts)) and '\n' not in str(caught.value)


def test_a_missing_file_of_moments_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match='no file .*m.json of moments; make it with coma-mm check_data'):
        Bands.of(4, str(tmp_path / 'm.json'))


def test_the_bands_called_red_green_and_blue_are_looked_at_or_those_asked_for():
    bands = Bands.of(['nir', 'blue', 'green', 'red'], MOMENTS)
    assert bands.rgb() == [3, 2, 1] and bands.rgb(['nir', 3, 2]) == [0, 3, 2] and bands.rgb([0]) == [0, 0, 0]
    assert Bands.of(2, None).rgb() == [0, 0, 0]
    with pytest.raises(UserError, match='--rgb names 2 bands; expected three'):
        bands.rgb([0, 1])
    with pytest.raises(UserError, match='--rgb: what is read has no band 9'):
        bands.rgb([0, 1, 9])


def test_a_data_sets_images_are_looked_at_in_the_bands_that_it_reads(file):
    path, values = file
    dataset = ImageFolder(os.path.dirname(path), [dict(type='LoadImage', bands=4)])
    bands = bands_read(SeededDataset(dataset))
    assert bands == 4 and bands_read(ImageFolder(os.path.dirname(path), [dict(type='LoadImage')])) is None
    assert (read_picture(dict(img_path=path), bands) == picture(values, [0, 1, 2])).all()
    assert (seen(values, ['blue', 'nir', 'green', 'red']) == picture(values, [3, 2, 0])).all()


def test_a_picture_is_stretched_between_the_percentiles():
    values = np.arange(101, dtype=np.uint16).reshape(101, 1, 1).repeat(2, 2) * 100
    shown = picture(values, [0, 1, 1])
    assert shown.dtype == np.uint8 and (shown[:3] == 0).all() and (shown[-3:] == 255).all()
    assert (picture(values, [0, 0, 0], [0] * 3, [20_000] * 3).max()) == 128
