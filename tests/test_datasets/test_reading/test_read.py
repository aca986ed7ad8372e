"""Files of any bands, depth and format give what was written into them, whole and by windows."""
import importlib
import io
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from coma_mm.datasets import read_image as read_bgr
from coma_mm.datasets.reading import ImageInfo, image_info, open_bands, read_image
from coma_mm.errors import BadImageError, UserError

RNG = np.random.default_rng(0)
FOUR = RNG.integers(0, 65536, (70, 90, 4), np.uint16)
WINDOW = (13, 31, 40, 50)


def part(image):
    return image[13:53, 31:81]


WRITE = {
    'interleaved': dict(photometric='rgb', extrasamples=['unspecified']),
    'strips': dict(photometric='minisblack', planarconfig='contig', rowsperstrip=7, compression='lzw', predictor=True),
    'tiles': dict(photometric='minisblack', planarconfig='contig', tile=(16, 32), compression='zstd'),
    'plain tiles': dict(photometric='minisblack', planarconfig='contig', tile=(16, 32)),
    'planes': dict(photometric='minisblack', planarconfig='separate'),
    'tiles of planes': dict(photometric='minisblack', planarconfig='separate', tile=(32, 16), compression='deflate'),
    'big-endian': dict(photometric='minisblack', planarconfig='contig', byteorder='>'),
    'big': dict(photometric='minisblack', planarconfig='contig', bigtiff=True, tile=(64, 64), compression='lzma'),
}


@pytest.mark.parametrize('how', WRITE)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_a_tiff_of_any_layout_and_depth_is_read_as_it_was_written(tmp_path, how, dtype):
    image, path, options = FOUR.astype(dtype), str(tmp_path / 'image.tif'), WRITE[how]
    planar = options.get('planarconfig') == 'separate'
    tifffile.imwrite(path, np.moveaxis(image, -1, 0) if planar else image, metadata=None, **options)
    kept = dtype if dtype in (np.uint8, np.uint16) else np.float32
    for encoded in None, open(path, 'rb').read():
        with open_bands(path, 4, encoded=encoded) as opened:
            assert opened.shape == (70, 90, 4) and opened.info.dtype == np.dtype(kept).name
            whole, share = opened.read()
            assert whole.dtype == kept and (whole == image.astype(kept)).all() and not share
            assert (opened.read(WINDOW)[0] == part(whole)).all()
    assert (read_image(path, [3, 0], WINDOW) == part(whole)[..., [3, 0]]).all()


@pytest.mark.parametrize('options', [{}, dict(compression='zstd'), dict(tile=(16, 16))])
def test_pages_are_bands_on_request(tmp_path, options):
    path, pages = str(tmp_path / 'stack.tif'), np.moveaxis(FOUR, -1, 0)
    tifffile.imwrite(path, pages, **dict(photometric='minisblack') | options)
    with pytest.raises(BadImageError, match=r'stack.tif: it has 4 pages of 90 × 70 px \(uint16\); expected one image, or '
                       'set pages=True'):
        read_image(path)
    assert (read_image(path, pages=True) == FOUR).all()
    assert (read_image(path, [2], WINDOW, pages=True) == part(FOUR)[..., 2:3]).all()


def test_channels_of_ome_and_imagej_are_bands_without_a_request(tmp_path):
    path = str(tmp_path / 'image.ome.tif')
    tifffile.imwrite(path, np.moveaxis(FOUR, -1, 0), metadata=dict(axes='CYX'), compression='zlib', photometric='minisblack')
    assert (read_image(path) == FOUR).all()
    tifffile.imwrite(path, np.moveaxis(FOUR, -1, 0), imagej=True)
    assert (read_image(path) == FOUR).all()


def test_of_a_pyramid_the_whole_image_is_read(tmp_path):
    path, small = str(tmp_path / 'pyramid.tif'), FOUR[::2, ::2]
    options = dict(photometric='minisblack', planarconfig='contig', metadata=None)
    with tifffile.TiffWriter(path) as file:
        file.write(FOUR, **options, tile=(16, 16))
        file.write(small, **options, subfiletype=1, tile=(16, 16))
    assert (read_image(path) == FOUR).all() and image_info(path).bands == 4
    with tifffile.TiffWriter(path) as file:
        file.write(small, **options)
        file.write(FOUR, **options)
    with pytest.raises(BadImageError, match='its first page is of 45 × 35 px, less than the 90 × 70 px of a later one'):
        read_image(path)


def test_only_the_tiles_that_a_window_touches_are_decoded(tmp_path, monkeypatch):
    path = str(tmp_path / 'tiles.tif')
    tifffile.imwrite(path, FOUR, photometric='minisblack', planarconfig='contig', tile=(16, 16), compression='zstd')
    with open_bands(path) as image:
        reader, read = image._reader, []
        tile = reader._tile
        monkeypatch.setattr(reader, '_tile', lambda page, index: read.append(index) or tile(page, index))
        image.read((16, 16, 16, 17))
        assert read == [7, 8]  # of 5 × 6
        image.read((69, 89, 1, 1))
        assert read == [7, 8, 29]


def test_an_array_is_read_by_memory_map_and_its_bands_are_where_they_must_be(tmp_path):
    path = str(tmp_path / 'image.npy')
    for array, expected in ((FOUR, FOUR), (np.moveaxis(FOUR, -1, 0), FOUR), (FOUR[..., 0], FOUR[..., :1]),
                            (FOUR[:1, :, :3], FOUR[:1, :, :3])):
        np.save(path, array)
        assert (read_image(path) == expected).all()
        np.savez_compressed(tmp_path / 'image.npz', array)
        assert (read_image(str(tmp_path / 'image.npz')) == expected).all()
        assert read_image(path).flags.writeable and read_image(path).flags.c_contiguous
        assert image_info(str(tmp_path / 'image.npz')) == image_info(path) == ImageInfo(*expected.shape, 'uint16', ())
    np.save(path, RNG.random((10, 12, 20)))
    assert image_info(path)[:4] == (12, 20, 10, 'float32') and image_info(path, 20)[:4] == (10, 12, 20, 'float32')
    with open_bands(path) as image:
        assert isinstance(image._reader._pixels, np.memmap) or isinstance(image._reader._pixels.base, np.memmap)
    np.save(path, np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(BadImageError, match='Python objects'):
        read_image(path)
    np.savez(tmp_path / 'image.npz', a=FOUR, b=FOUR)
    with pytest.raises(BadImageError, match='it holds the arrays a, b; expected one'):
        read_image(str(tmp_path / 'image.npz'))


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp', '.avif', '.bmp', '.heic'])
def test_a_picture_of_8_bits_is_red_green_and_blue(tmp_path, suffix):
    path, image = str(tmp_path / f'image{suffix}'), Image.fromarray((FOUR[..., :3] >> 8).astype(np.uint8))
    if suffix == '.heic':
        pytest.importorskip('pillow_heif').register_heif_opener()
    image.save(path)
    read = read_image(path)
    assert image_info(path) == (70, 90, 3, 'uint8', ('red', 'green', 'blue'))
    assert (read[..., ::-1] == read_bgr(path)).all() and (read_image(path, ['blue']) == read[..., 2:]).all()
    assert (read_image(path, window=WINDOW) == part(read)).all() and read.flags.writeable


def test_grey_and_transparency_are_bands_for_whoever_asks(tmp_path):
    grey, clear = str(tmp_path / 'grey.png'), str(tmp_path / 'clear.png')
    pixels = (FOUR >> 8).astype(np.uint8)
    Image.fromarray(pixels[..., 0]).save(grey)
    Image.fromarray(pixels).save(clear)
    assert read_image(grey).shape == (70, 90, 3) and (read_image(grey, 1) == pixels[..., :1]).all()
    assert (read_image(clear) == pixels[..., :3]).all() and (read_image(clear, 4) == pixels).all()


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_of_a_png_are_not_scaled(tmp_path, channels):
    path = str(tmp_path / 'deep.png')
    cv2.imwrite(path, FOUR[..., [2, 1, 0, 3][:channels]] if channels > 1 else FOUR[..., 0])
    read = read_image(path, channels)
    assert read.dtype == np.uint16 and (read == FOUR[..., :channels]).all() and image_info(path, channels).dtype == 'uint16'


def test_a_turned_or_inverted_tiff_is_read_as_it_is_viewed(tmp_path):
    pixels, path = (FOUR[..., :3] >> 8).astype(np.uint8), str(tmp_path / 'turned.tif')
    for orientation in range(1, 9):
        tifffile.imwrite(path, pixels, photometric='rgb', extratags=[(274, 'H', 1, orientation, True)], metadata=None)
        read = read_image(path)
        assert (read[..., ::-1] == read_bgr(path)).all(), orientation
        assert image_info(path)[:2] == read.shape[:2]
    tifffile.imwrite(path, pixels[..., 0], photometric='miniswhite')
    assert (read_image(path)[..., 0] == 255 - pixels[..., 0]).all()


def test_names_of_bands_and_the_value_of_no_data_come_from_gdal(tmp_path):
    path = str(tmp_path / 'named.tif')
    image = FOUR.astype(np.float32)
    image[:10] = -9999
    image[0, 0] = np.nan
    items = ''.join(f'<Item name="DESCRIPTION" sample="{at}" role="description">{name}</Item>'
                    for at, name in enumerate(['Blue', 'Green', 'Red', 'NIR']))
    tifffile.imwrite(path, image, photometric='minisblack', planarconfig='contig', metadata=None, extratags=[
        (42112, 's', 0, f'<GDALMetadata>{items}</GDALMetadata>', True), (42113, 's', 0, '-9999', True)])
    assert image_info(path).names == ('Blue', 'Green', 'Red', 'NIR')
    with open_bands(path, ['nir', 'red']) as opened:
        read, share = opened.read()
    assert share == pytest.approx(1 / 7) and (read[10:] == image[10:][..., [3, 2]]).all()
    assert np.allclose(read[:10], image[10:][..., [3, 2]].mean((0, 1)))
    tifffile.imwrite(path, FOUR, photometric='minisblack', planarconfig='contig', metadata=None, extratags=[
        (42112, 's', 0, '<GDALMetadata><Item', True)])
    assert image_info(path).names == () and (read_image(path) == FOUR).all()


def test_no_data_of_integers_are_filled_with_the_mean_of_the_band(tmp_path):
    path = str(tmp_path / 'image.npy')
    np.save(path, np.array([[[0, 7]], [[4, 0]], [[5, 9]]], np.uint16))
    assert read_image(path, nodata=0).tolist() == [[[4, 7]], [[4, 8]], [[5, 9]]]
    assert read_image(path, nodata=-1).tolist() == read_image(path).tolist()
    np.save(path, np.array([[[2**32 - 1], [3]]], np.uint32))
    assert read_image(path, nodata=2**32 - 1).ravel().tolist() == [3, 3]


def bad(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return str(path)


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    tif = str(tmp_path / 'image.tif')
    tifffile.imwrite(tif, FOUR, photometric='minisblack', planarconfig='contig', tile=(16, 16), metadata=None)
    whole = open(tif, 'rb').read()
    jpeg = io.BytesIO()
    Image.new('RGB', (9, 8)).save(jpeg, 'JPEG')
    mixed = bytearray(open(tif, 'rb').read())
    mixed = mixed.replace(struct.pack('<4H', 16, 16, 16, 16), struct.pack('<4H', 16, 8, 16, 16))
    for path, options, line in (
        (tif, dict(bands=3), r'it is a TIFF of 90 × 70 px with 4 bands of uint16; expected bands=3, so choose them: bands='
                             r'\[0, 1, 2\]'),
        (tif, dict(bands=5), 'with 4 bands of uint16; expected bands=5;'),
        (tif, dict(bands=[0, 4]), 'has no band 4; expected an index of 0 to 3'),
        (tif, dict(bands=['nir']), "has no band 'nir'; expected an index of 0 to 3, as its bands have no names"),
        (bad(tmp_path, 'cut.tif', whole[:-3000]), {}, r'it is cut off: tile \d+ of 30 should end at byte \d+'),
        (bad(tmp_path, 'jpeg.tif', jpeg.getvalue()), dict(bands=4),
         r'it is a JPEG of 9 × 8 px with 3 bands \(red, green, blue\) of uint8; expected bands=4;'),
        (bad(tmp_path, 'mixed.tif', bytes(mixed)), {}, 'expected bands of one depth'),
        (bad(tmp_path, 'text.npy', b'hello'), {}, 'not an image'),
    ):
        with pytest.raises(BadImageError, match=line) as error:
            read_image(path, **options)
        assert str(error.value).startswith(f'cannot read the image {path}: ') and '\n' not in str(error.value)
    for damage in (0xff, 0), (8, 200):  # what a library says in several lines, or with the bytes that it could not parse
        header = bytearray(np.lib.format.magic(1, 0) + bytes(500))
        header[damage[0] % 10] = damage[1]
        with pytest.raises(BadImageError) as error:
            read_image(bad(tmp_path, 'damaged.npy', bytes(header)))
        assert '\n' not in str(error.value) and len(str(error.value)) < 900
    with pytest.raises(UserError, match=r'the window .* = \(0, 0, 71, 90\) is not inside of the image .* of 90 × 70 px'):
        read_image(tif, window=(0, 0, 71, 90))
    assert read_image(bad(tmp_path, 'jpeg.tif', jpeg.getvalue())).shape == (8, 9, 3)


def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / 'image.dcm').write_bytes(bytes(128) + b'DICM')
    monkeypatch.setattr('coma_mm.datasets.libraries.import_module', lambda name: importlib.import_module(f'{name}_missing'))
    with pytest.raises(BadImageError, match=r"image.dcm: reading DICOM needs the library pydicom .*: pip install pydicom, "
                       r"or pip install 'coma-mm\[dicom\]'"):
        read_image(str(tmp_path / 'image.dcm'))


def test_a_window_of_a_large_image_is_read_where_the_whole_is_refused(tmp_path, monkeypatch):
    path = str(tmp_path / 'large.tif')
    tifffile.imwrite(path, FOUR, photometric='minisblack', planarconfig='contig', tile=(16, 16), compression='zstd')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1500)
    assert (read_image(path, window=WINDOW) == part(FOUR)).all()
    with pytest.raises(BadImageError, match='it has 6300 pixels, and more than 3000 are not decoded'):
        read_image(path)


def test_a_geotiff_is_read_as_gdal_reads_it(tmp_path):
    rasterio = pytest.importorskip('rasterio')
    path = str(tmp_path / 'scene.tif')
    tiled = dict(tiled=True, blockxsize=32, blockysize=16, compress='deflate', interleave='band', sparse_ok=True)
    for options in {}, tiled:
        with rasterio.open(path, 'w', driver='GTiff', height=70, width=90, count=4, dtype='int16', nodata=-7,
                           crs='EPSG:32632', **options) as file:
            file.descriptions = ('blue', 'green', 'red', 'nir')
            file.write(FOUR.astype(np.int16).transpose(2, 0, 1)[:, 16:48, :64], window=((16, 48), (0, 64)))
        with rasterio.open(path) as file:
            expected = file.read().transpose(1, 2, 0)
        with open_bands(path) as image:
            read, share = image.read()
        valid = expected != -7
        assert share == 1 - valid.mean() > 0 and (read[valid] == expected[valid]).all()
        assert image.info.names == ('blue', 'green', 'red', 'nir')
