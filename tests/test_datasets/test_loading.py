"""Images of every kind, and folders of them."""
import re
import struct
import warnings
from copy import deepcopy

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS
from PIL import Image

from coma_mm.datasets import ImageFolder, LoadImage, read_image
from coma_mm.datasets.encoded import MAX_PIXELS, limit_pixels
from coma_mm.datasets.loading import use_load_image
from coma_mm.errors import BadImageError, UserError


@pytest.fixture
def scene():
    """A 6x8 RGB image with a different colour in every corner region."""
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:3, :4] = 255, 0, 0
    pixels[:3, 4:] = 0, 255, 0
    pixels[3:, :4] = 0, 0, 255
    return pixels


@pytest.mark.parametrize('suffix', ['png', 'bmp', 'webp', 'gif', 'tif'])
def test_lossless_files_come_back_as_bgr(tmp_path, scene, suffix):
    path = tmp_path / f'a.{suffix}'
    Image.fromarray(scene).save(path, **(dict(lossless=True) if suffix == 'webp' else {}))
    image = read_image(str(path))
    assert image.dtype == np.uint8 and image.flags['C_CONTIGUOUS']
    np.testing.assert_array_equal(image, scene[..., ::-1])


@pytest.mark.parametrize('mode', ['RGBA', 'P', 'CMYK'])
def test_modes(tmp_path, scene, mode):
    path = tmp_path / ('a.jpg' if mode == 'CMYK' else 'a.png')
    Image.fromarray(scene).resize((64, 48), 0).convert(mode).save(path, quality=100)
    image = read_image(path)
    expected = np.asarray(Image.fromarray(scene).resize((64, 48), 0))[..., ::-1]
    assert image.shape == (48, 64, 3)
    # JPEG blurs the edges between the regions; their middles are exact to a few levels.
    middles = np.ix_([12, 36], [16, 48])
    np.testing.assert_allclose(image[middles].astype(int), expected[middles].astype(int), atol=3)


def test_grey_has_three_equal_channels(tmp_path):
    ramp = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(ramp).save(tmp_path / 'grey.png')
    np.testing.assert_array_equal(read_image(tmp_path / 'grey.png'), np.repeat(ramp[..., None], 3, axis=2))


def test_exif_orientation_is_applied(tmp_path, scene):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    Image.fromarray(scene).save(tmp_path / 'a.png', exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), np.rot90(scene, -1)[..., ::-1])


def test_bad_files_are_named(tmp_path, scene):
    whole = tmp_path / 'whole.jpg'
    Image.fromarray(scene).resize((64, 64)).save(whole)
    (tmp_path / 'truncated.jpg').write_bytes(whole.read_bytes()[:-300])
    (tmp_path / 'empty.jpg').write_bytes(b'')
    (tmp_path / 'text.jpg').write_text('not an image')
    Image.fromarray(scene).save(tmp_path / 'whole.png')
    (tmp_path / 'truncated.png').write_bytes((tmp_path / 'whole.png').read_bytes()[:-25])
    for name in ('truncated.jpg', 'empty.jpg', 'text.jpg', 'truncated.png'):
        with pytest.raises(BadImageError) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value) and 'on_bad_image' in str(caught.value) and '\n' not in str(caught.value)
    with pytest.raises(UserError, match='missing.jpg'):
        read_image(tmp_path / 'missing.jpg')


def tiff(bits, form, bands):
    """A TIFF of 2×2 zeros; `form`: 1 whole numbers, 3 floats."""
    data = bytes(4 * bands * bits // 8)
    tags = {256: [2], 257: [2], 258: [bits] * bands, 259: [1], 262: [1], 273: [8], 277: [bands], 278: [2], 279: [len(data)],
            339: [form] * bands}
    place = 8 + len(data)  # of longer values, then of the tags
    values, entries = b'', b''
    for tag, numbers in tags.items():
        value = struct.pack(f'<{len(numbers)}H', *numbers)
        if len(value) > 4:
            value, values = struct.pack('<I', place + len(values)), values + value
        entries += struct.pack('<HHI4s', tag, 3, len(numbers), value)
    head = b'II*\0' + struct.pack('<I', place + len(values))
    return head + data + values + struct.pack('<H', len(tags)) + entries + bytes(4)


def test_a_good_file_of_a_kind_that_is_not_read_is_called_what_it_is():
    for content, expected in (
        (tiff(32, 3, 3), r'it holds 32-bit floating-point values from 0 to 0 in 3 bands, .*: convert it'),
        (b'II*\0\x08\0\0\0', r'it begins like a TIFF image, and its list of tags is damaged'),
        (b'\0\0\0\x20ftypheic', 'it begins like a HEIC image; expected a whole file of BMP, GIF, JPEG, PNG'),
        (b'', ': empty or not an image;'), (b'text', ': empty or not an image;')):
        with pytest.raises(BadImageError, match=expected):
            read_image('a.tif', content)


def test_a_png_whose_check_sums_differ_is_refused(tmp_path):
    """Decoders fill up what they cannot read."""
    labels = np.kron(np.arange(30, dtype=np.uint8).reshape(5, 6), np.ones((8, 8), np.uint8))
    Image.fromarray(labels).save(tmp_path / 'a.png')
    content = bytearray((tmp_path / 'a.png').read_bytes())
    start = content.index(b'IDAT') + 4
    ended = 0
    for bit in range(8 * start, 8 * (len(content) - 16)):
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / 'b.png').write_bytes(content)
        try:
            ended += np.asarray(Image.open(tmp_path / 'b.png')).shape == (40, 48)
        except Exception:
            pass
        with pytest.raises(BadImageError, match='b.png'):
            read_image(tmp_path / 'b.png')
        content[bit // 8] ^= 1 << bit % 8
    assert ended  # by Pillow alone, in silence


@pytest.fixture
def limit(monkeypatch):
    """Function: sets the environment's limit of pixels; afterwards Pillow's is as before."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        yield lambda value: (monkeypatch.setenv(MAX_PIXELS, value), limit_pixels.cache_clear())
    Image.MAX_IMAGE_PIXELS = before
    limit_pixels.cache_clear()


def test_the_limit_of_pixels_is_an_option_that_the_error_names(tmp_path, limit):
    Image.new('1', (20, 10)).save(tmp_path / 'a.png')
    limit('198')
    with pytest.raises(BadImageError, match='a.png: it has 200 pixels, and more than 198 are') as caught:
        read_image(str(tmp_path / 'a.png'))
    setting = re.search(f'{MAX_PIXELS}=(\\d+)', str(caught.value))
    limit(setting[1])
    assert read_image(str(tmp_path / 'a.png')).shape == (10, 20, 3)
    for value in ('0', 'many', '-1', ''):
        limit(value)
        with pytest.raises(UserError, match=f"{MAX_PIXELS} is '{value}'; expected a number of pixels"):
            read_image(str(tmp_path / 'a.png'))


def test_load_image_fills_the_keys_of_the_libraries(tmp_path, scene):
    Image.fromarray(scene).save(tmp_path / 'a.png')
    for scope in ('mmpretrain', 'mmseg', 'mmdet'):
        with TRANSFORMS.switch_scope_and_registry(scope) as registry:
            results = registry.build(dict(type='LoadImage'))(dict(img_path=str(tmp_path / 'a.png')))
        assert results['img_shape'] == results['ori_shape'] == (6, 8) and results['img'].shape == (6, 8, 3)


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path, scene):
    Image.fromarray(scene).save(tmp_path / 'a.png')
    load = TRANSFORMS.build(dict(type='LoadImage'))
    info = dict(img_path=str(tmp_path / 'a.png'))
    load(dict(info, height=6, width=8.0))
    with pytest.raises(BadImageError, match='a.png is of 8 × 6 pixels, and its annotations are for one of 6 × 8'):
        load(dict(info, height=8, width=6))


def test_image_folder_finds_images_at_any_depth_in_order(tmp_path, scene):
    names = ['b.png', 'a/c.PNG', 'a/b/d.png', 'z/e.png']
    for name in names + ['.hidden/f.png', '.g.png']:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene).save(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('no image')
    dataset = DATASETS.build(dict(type='ImageFolder', data_root=str(tmp_path), pipeline=[dict(type='LoadImage')]))
    assert [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))] == sorted(
        str(tmp_path / name) for name in names)
    assert dataset[0]['img'].shape == (6, 8, 3)
    assert len(ImageFolder(str(tmp_path), indices=2)) == 2


def test_image_folder_says_what_is_wrong_with_the_root(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'empty').mkdir()
    for name, reason in (('none', 'does not exist'), ('file', 'not a folder'), ('empty', 'no image')):
        with pytest.raises(UserError, match=reason) as caught:
            ImageFolder(str(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value) and '\n' not in str(caught.value)


def test_an_image_that_is_there_is_passed_on():
    image = np.zeros((2, 3, 3), np.uint8)
    assert LoadImage()(dict(img=image, img_shape=(2, 3)))['img'] is image


def test_a_grey_image_that_is_there_gets_three_channels():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for grey in (image, image[..., None]):
        found = LoadImage()(dict(img=grey))['img']
        np.testing.assert_array_equal(found, np.stack([image] * 3, -1))


THEIRS = dict(type='LoadImageFromFile')


@pytest.mark.parametrize('theirs', [
    THEIRS, dict(type='mmdet.LoadImageFromFile', backend_args=None), dict(THEIRS, _scope_='mmseg'),
    dict(type=LoadImageFromFile, color_type='color', to_float32=False), dict(THEIRS, backend_args=dict(backend='local')),
    dict(THEIRS, imdecode_backend='pillow')])
def test_load_image_takes_the_place_of_the_libraries_step(theirs):
    dataset = dict(type='ConcatDataset', datasets=[
        dict(type='RepeatDataset', times=2, dataset=dict(type='ImageFolder', pipeline=[theirs, dict(type='PackInputs')])),
        dict(type='MultiImageMixDataset', pipeline=(dict(type='Mosaic'), ), dataset=Config(dict(pipeline=[
            theirs, dict(type='TestTimeAug', transforms=[[dict(type='Compose', transforms=[theirs])]])]))._cfg_dict)])
    before = deepcopy(dataset)
    repeated, mixed = use_load_image(dataset)['datasets']
    assert repeated['dataset']['pipeline'] == [dict(type='LoadImage'), dict(type='PackInputs')] and repeated['times'] == 2
    assert mixed['pipeline'] == (dict(type='Mosaic'), )
    load, augment = mixed['dataset'].pipeline
    assert load == augment.transforms[0][0].transforms[0] == dict(type='LoadImage')
    assert dataset == before


@pytest.mark.parametrize('argument', [
    dict(color_type='grayscale'), dict(color_type='unchanged'), dict(to_float32=True), dict(ignore_empty=True),
    dict(backend_args=dict(backend='petrel')), dict(imdecode_backend='tifffile'), dict(an_argument=1)])
def test_what_load_image_does_not_do_is_left_to_the_libraries_step(argument):
    dataset = dict(type='ImageFolder', pipeline=[dict(THEIRS, **argument)])
    assert use_load_image(dataset) == dataset


def test_a_built_data_set_is_left_as_it_is(tmp_path, scene):
    Image.fromarray(scene).save(tmp_path / 'a.png')
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=[THEIRS])
    assert use_load_image(dataset) is dataset
