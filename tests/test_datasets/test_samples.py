"""Steps that load bands read no more than they must, draw samples without data anew, and take one depth."""
import numpy as np
import pytest
import tifffile
from PIL import Image

from coma_mm.datasets import (
    ImageFolder,
    LoadImage,
    LoadRandomResizedCrop,
    PackMaskedImage,
    PatchMask,
    SampleIndex,
    SeededDataset,
)
from coma_mm.datasets.image_folder import BAND_SUFFIXES, IMAGE_SUFFIXES
from coma_mm.errors import BadImageError, NoDataError, UserError

RNG = np.random.default_rng(0)
FOUR = RNG.integers(1, 65536, (70, 90, 4), np.uint16)


@pytest.fixture
def scene(tmp_path):
    path = str(tmp_path / 'scene.tif')
    tifffile.imwrite(path, FOUR, photometric='minisblack', planarconfig='contig', tile=(16, 16), compression='zstd')
    return path


@pytest.mark.parametrize('size', [(1, 300), (300, 1), (5, 7), (40, 2000), (64, 64)])
@pytest.mark.parametrize('bands', [None, 3, 5])
def test_images_of_any_size_make_crops_of_one_size(tmp_path, size, bands):
    image = RNG.integers(0, 256, (*size, bands or 3), np.uint8)
    path = str(tmp_path / ('image.npy' if bands else 'image.png'))
    if bands:
        np.save(path, image)
    else:
        Image.fromarray(image).save(path)
    for within in None, 32:
        step = LoadRandomResizedCrop((32, 64), bands=bands, within=within, crop_ratio_range=(.2, 1.))
        result = PatchMask(patch_size=16).transform(step.transform(dict(img_path=path)))
        assert result['img'].shape == (32, 64, bands or 3) and result['ori_shape'] == size
        assert len(result['ids_keep']) + len(result['ids_rest']) == 8
        assert PackMaskedImage().transform(result)['inputs'].shape == (bands or 3, 32, 64)


def test_a_crop_within_a_square_is_anywhere_in_a_panorama(tmp_path):
    path = str(tmp_path / 'panorama.npy')
    np.save(path, np.tile(np.arange(1000, dtype=np.uint16)[:, None], (40, 1, 1)))
    np.random.seed(0)
    whole, within = (np.array([LoadRandomResizedCrop(8, bands=1, within=within).transform(dict(img_path=path))['img'].mean()
                               for _ in range(50)]) for within in (None, 40))
    assert np.ptp(whole) < 60 and within.min() < 100 and within.max() > 900


def test_depth_is_kept_from_the_file_to_the_batch(tmp_path):
    for dtype in np.uint8, np.uint16, np.float32:
        path = str(tmp_path / 'image.npy')
        np.save(path, FOUR.astype(dtype))
        crop = LoadRandomResizedCrop(32, bands=4).transform(dict(img_path=path))['img']
        assert crop.dtype == dtype and crop.min() >= FOUR.astype(dtype).min() and crop.max() <= FOUR.astype(dtype).max()
        whole = LoadImage(bands=[3, 1]).transform(dict(img_path=path))
        assert (whole['img'] == FOUR.astype(dtype)[..., [3, 1]]).all() and whole['ori_shape'] == (70, 90)
        assert PackMaskedImage().transform(dict(img=crop))['inputs'].numpy().dtype == dtype


def test_a_crop_reads_only_the_tiles_that_it_touches(scene, monkeypatch):
    from coma_mm.datasets.reading.tiff import TiffReader
    read, tile = [], TiffReader._tile
    monkeypatch.setattr(TiffReader, '_tile', lambda self, page, index: read.append(index) or tile(self, page, index))
    step = LoadRandomResizedCrop(8, bands=4, crop_ratio_range=(.01, .02))
    monkeypatch.setattr(step, 'rand_crop_params', lambda _: (17, 33, 10, 10))
    step.transform(dict(img_path=scene))
    assert read == [8]  # of 5 × 6


def folder(tmp_path, images, pipeline, **options):
    for at, image in enumerate(images):
        np.save(tmp_path / f'{at}.npy', image)
    return SeededDataset(ImageFolder(str(tmp_path), pipeline, serialize_data=False), **options)


def test_a_sample_of_more_than_half_no_data_is_drawn_anew_and_counted(tmp_path):
    half = FOUR.copy()
    half[:, :60] = 0  # some crops of it have data
    pipeline = [LoadRandomResizedCrop(16, bands=4, nodata=0, crop_ratio_range=(.05, .1))]
    dataset = folder(tmp_path, [np.zeros_like(FOUR), half, FOUR], pipeline)
    samples = [dataset[SampleIndex(at, 7, 1)] for at in range(3)]
    assert [sample['img_path'][-5] for sample in samples] == ['1', '1', '2']
    assert all(sample['img'].all() for sample in samples)
    assert dataset.without_data().tolist() == [1, 0, 0] and not len(dataset.bad_images())
    again = [dataset[SampleIndex(at, 7, 1)] for at in (2, 1, 0)]
    assert all((one['img'] == other['img']).all() for one, other in zip(samples, reversed(again), strict=True))
    (tmp_path / 'empty').mkdir()
    dataset = folder(tmp_path / 'empty', [np.zeros_like(FOUR)], pipeline)
    with pytest.raises(UserError, match='None of the 1 images of the data set can be read'):
        dataset[0]


def test_a_whole_image_without_data_is_refused_only_where_asked(tmp_path):
    path = str(tmp_path / 'empty.npy')
    np.save(path, np.full((4, 4, 2), np.nan, np.float32))
    assert not LoadImage(bands=2).transform(dict(img_path=path))['img'].any()
    with pytest.raises(NoDataError, match=r'empty.npy has no data for 100% of its values; expected at most 50%'):
        LoadImage(bands=2, max_nodata=.5).transform(dict(img_path=path))


def test_files_of_two_depths_are_refused_naming_both(tmp_path):
    dataset = folder(tmp_path, [FOUR, FOUR.astype(np.uint8)], [LoadImage(bands=4)], on_bad_image='skip')
    dataset[0]
    with pytest.raises(UserError, match=r'1.npy is of uint8, and .*0.npy is of uint16; expected images of one depth'):
        dataset[1]


def test_files_of_other_bands_are_passed_over_on_request(tmp_path):
    dataset = folder(tmp_path, [FOUR, FOUR[..., :2]], [LoadImage(bands=4)], on_bad_image='skip')
    assert dataset[1]['img_path'].endswith('0.npy') and dataset.bad_images().tolist() == [0, 1]
    with pytest.raises(BadImageError, match='1.npy: it is an array of NumPy of 90 × 70 px with 2 bands of uint16; expected'):
        LoadImage(bands=4).transform(dict(img_path=str(tmp_path / '1.npy')))


@pytest.mark.parametrize('bands', [0, True, [], [1, 1], [-1], 2.5])
def test_bands_that_are_none_are_refused(bands):
    with pytest.raises(UserError, match='bands='):
        LoadImage(bands=bands)


def test_a_folder_has_more_kinds_of_images_with_bands(tmp_path):
    np.save(tmp_path / 'a.npy', FOUR)
    Image.new('RGB', (9, 8)).save(tmp_path / 'b.png')
    for pipeline in [], [dict(type='LoadImage')]:
        dataset = ImageFolder(str(tmp_path), pipeline, serialize_data=False)
        assert len(dataset) == 1 and dataset.suffixes == IMAGE_SUFFIXES
    for step in dict(type='LoadImage', bands=4), LoadImage(bands=4):
        dataset = ImageFolder(str(tmp_path), [step], serialize_data=False)
        assert len(dataset) == 2 and dataset.suffixes == BAND_SUFFIXES


@pytest.mark.parametrize('options, expected', [
    (dict(max_nodata=2), 'max_nodata=2: expected a number from 0 to 1'),
    (dict(nodata='none'), "nodata='none': expected the number that stands for no data, as -9999"),
    (dict(depth='int16'), "depth='int16': expected one of uint8, uint16, float32; did you mean 'uint16'"),
    (dict(bands=0), 'bands=0: expected how many bands the images have')])
def test_a_wrong_setting_of_the_bands_is_named_before_anything_is_read(options, expected):
    with pytest.raises(UserError, match=expected):
        LoadImage(**{**dict(bands=4), **options})
