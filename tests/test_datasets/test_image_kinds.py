"""Images that would lose what they hold if they were read as 8-bit colour are refused, and say what they hold."""
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from coma_mm.datasets import ImageFolder, LoadRandomResizedCrop, SeededDataset, read_image
from coma_mm.datasets.image_kinds import why_not_8_bit
from coma_mm.datasets.loading import read_size
from coma_mm.errors import BadImageError, UserError
from coma_mm.prepare.check import Findings
from coma_mm.prepare.pack import pack
from coma_mm.prepare.survey import folder_sets, survey
from coma_mm.visualization import read_fitted

RAMP = np.tile(np.linspace(0, 1, 40), (32, 1))
DEEP = (RAMP * 4095).astype(np.uint16)
BYTES = (RAMP * 255).astype(np.uint8)
SUBFILE, PHOTOMETRIC, EXTRA = 254, 262, 338


def tiff(*pages):
    """A TIFF's content, as others than OpenCV and Pillow write it.

    Args:
        *pages (tuple[np.ndarray, dict]): Pixels (H, W[, bands]), and values of tags.
    """
    file = bytearray(b'II*\0' + struct.pack('<I', 8))
    for number, (pixels, tags) in enumerate(pages):
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        height, width, bands = pixels.shape
        kind = 'uif'.index(pixels.dtype.kind) + 1
        tags = {256: width, 257: height, 258: [8 * pixels.itemsize] * bands, 259: 1, PHOTOMETRIC: 1, 273: 0, 277: bands,
                278: height, 279: pixels.nbytes, 339: [kind] * bands} | tags
        at = len(file) + 6 + 12 * len(tags)  # of the lists, and then the pixels
        entries, lists = b'', b''
        tags[273] = at + sum(2 * len(value) for value in tags.values() if isinstance(value, list) and len(value) > 2)
        for tag, value in sorted(tags.items()):
            if isinstance(value, list):
                content = struct.pack(f'<{len(value)}H', *value)
                place = content.ljust(4, b'\0') if len(content) <= 4 else struct.pack('<I', at + len(lists))
                lists += content if len(content) > 4 else b''
                entries += struct.pack('<HHI', tag, 3, len(value)) + place
            else:
                entries += struct.pack('<HHII', tag, 4, 1, value)
        file += struct.pack('<H', len(tags)) + entries
        after = at + len(lists) + pixels.nbytes
        file += struct.pack('<I', after if number + 1 < len(pages) else 0) + lists + pixels.tobytes()
    return bytes(file)


def encoded(suffix, pixels):
    """What OpenCV writes."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


def bands(pixels, number):
    return np.repeat(pixels[..., None], number, -1)


REFUSED = {
    '12-bit.png': (encoded('.png', DEEP), '16-bit values from 0 to 4095 in 1 band'),
    'full.png': (encoded('.png', (RAMP * 65535).astype(np.uint16)), '16-bit values from 0 to 65535 in 1 band'),
    'colour.png': (encoded('.png', bands(DEEP, 3)), '16-bit values from 0 to 4095 in 3 bands'),
    'alpha.png': (encoded('.png', bands(DEEP, 4)), '16-bit values from 0 to 4095 in 4 bands'),
    'grey.pgm': (encoded('.pgm', DEEP), '16-bit values from 0 to 4095 in 1 band'),
    'colour.ppm': (b'P6 # a note\n40 32\n4095\n' + bands(DEEP, 3).byteswap().tobytes(),
                   '16-bit values from 0 to 4095 in 3 bands'),
    'float.pfm.ppm': (b'Pf\n40 32\n-1.0\n' + RAMP.astype(np.float32).tobytes(),
                      '32-bit floating-point values from 0 to 1 in 1 band'),
    'deep.tif': (encoded('.tif', DEEP), '16-bit values from 0 to 4095 in 1 band'),
    'colour.tif': (encoded('.tif', bands(DEEP, 3)), '16-bit values from 0 to 4095 in 3 bands'),
    'unit.tif': (tiff((RAMP.astype(np.float32), {})), '32-bit floating-point values from 0 to 1 in 1 band'),
    'double.tif': (tiff((300 + 2000 * RAMP, {})), '64-bit floating-point values from 300 to 2300 in 1 band'),
    'gaps.tif': (tiff((np.where(RAMP > .9, np.nan, RAMP).astype(np.float32), {})), 
                 '32-bit floating-point values from 0 to 0.897436 in 1 band'),
    'no value.tif': (tiff((RAMP.astype(np.float32) * np.nan, {})), '32-bit floating-point values in 1 band'),
    'float colour.tif': (tiff((bands(RAMP.astype(np.float32), 3), {PHOTOMETRIC: 2})),
                         '32-bit floating-point values from 0 to 1 in 3 bands'),
    'scan.tif': (tiff(((3000 * RAMP - 1000).astype(np.int16), {})), 'signed 16-bit values from -1000 to 2000 in 1 band'),
    'signed.tif': (tiff(((200 * RAMP - 100).astype(np.int8), {})), 'signed 8-bit values from -100 to 100 in 1 band'),
    'infrared.tif': (tiff((bands(BYTES, 4), {PHOTOMETRIC: 2, EXTRA: [0]})), '8-bit values from 0 to 255 in 4 bands'),
    'unsaid.tif': (encoded('.tif', bands(BYTES, 4)), '8-bit values from 0 to 255 in 4 bands'),
    'infrared and alpha.tif': (tiff((bands(BYTES, 5), {PHOTOMETRIC: 2, EXTRA: [0, 2]})), '8-bit values'),
    'two.tif': (tiff((bands(BYTES, 2), {EXTRA: [0]})), '8-bit values from 0 to 255 in 2 bands'),
    'pages.tif': (tiff(*[(BYTES, {})] * 3), '3 pages of 8-bit values'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_an_image_holds_is_said_instead_of_converted_in_silence(tmp_path, name, capfd):
    content, expected = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadImageError) as caught:
        read_image(str(tmp_path / name))
    line = str(caught.value)
    assert name in line and f'it holds {expected}' in line and 'docs/data.md, "Depths and bands"' in line
    assert line.count('\n') == 0 and capfd.readouterr() == ('', '')


def test_many_bands_are_counted_and_their_range_said():
    line = why_not_8_bit(tiff((bands(DEEP, 12), {EXTRA: [0] * 11})))
    assert re.search('16-bit values from 0 to 4095 in 12 bands', line)


def test_transparency_reduced_pages_and_masks_are_as_ever():
    small = BYTES[::2, ::2].copy()
    for content in (tiff((bands(BYTES, 4), {PHOTOMETRIC: 2, EXTRA: [2]})), tiff((bands(BYTES, 2), {EXTRA: [2]})),
                    tiff((BYTES, {}), (small, {SUBFILE: 1}), (BYTES, {SUBFILE: 4}))):
        np.testing.assert_array_equal(read_image('', content), bands(BYTES, 3))


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'CMYK'])
@pytest.mark.parametrize('compression', [None, 'tiff_lzw', 'jpeg'])
def test_tiffs_of_8_bits_are_read(tmp_path, mode, compression):
    if compression == 'jpeg' and mode in '1P':
        return
    Image.fromarray(BYTES).convert('RGB').convert(mode).save(tmp_path / 'a.tif', compression=compression)
    assert np.abs(read_image(str(tmp_path / 'a.tif')).astype(int).mean() - BYTES.mean()) < 2


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')
def test_a_damaged_header_is_left_to_the_decoder(tmp_path):
    content = tiff((BYTES, {}))
    for end in (6, 9, 50, len(content) - 100):
        assert why_not_8_bit(content[:end]) is None
        with pytest.raises(BadImageError, match='its list of tags is damaged|that Pillow cannot read|truncated'):
            read_image('', content[:end])
    deep = REFUSED['full.png'][0]
    for damaged in (deep[:-20], deep[:60] + b'\0' + deep[61:]):
        assert why_not_8_bit(damaged) is None
        with pytest.raises(BadImageError, match='truncated, or altered'):
            read_image('', damaged)
    looping = content[:4] + struct.pack('<I', 8) + content[8:]
    link = 8 + 2 + 12 * struct.unpack_from('<H', content, 8)[0]
    looping = looping[:link] + struct.pack('<I', 8) + looping[link + 4:]
    assert why_not_8_bit(looping) is None


@pytest.mark.filterwarnings('ignore:Image size')
def test_of_what_says_to_be_huge_no_value_is_decoded(monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('it was decoded'))
    content = bytearray(REFUSED['full.png'][0])
    content[16:24] = struct.pack('>II', 12000, 12000)
    content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    for one in (bytes(content), b'P5 30000 30000 65535\n', tiff((DEEP, {256: 30000, 257: 30000}))):
        assert 'it holds 16-bit values in 1 band' in why_not_8_bit(one)


def test_every_tool_refuses_alike(tmp_path):
    source = tmp_path / 'in'
    source.mkdir()
    Image.fromarray(DEEP).save(source / 'a.png')
    Image.fromarray(BYTES).save(source / 'b.png')
    expected = r'a\.png: it holds 16-bit values from 0 to 4095 in 1 band, .*: convert it \(docs/data.md'
    for read in (lambda: LoadRandomResizedCrop(scale=32)(dict(img_path=str(source / 'a.png'))),
                 lambda: read_fitted(str(source / 'a.png'), 32, 32),
                 lambda: pack(str(source), str(tmp_path / 'pack'), 16)):
        with pytest.raises(UserError, match=expected):
            read()
    findings = Findings()
    survey(folder_sets([str(source)], findings), findings)
    assert [bool(re.search(expected, line)) for line in findings.problems] == [True]
    # A run that skips what cannot be read goes on with the others.
    data = SeededDataset(ImageFolder(str(source), pipeline=[dict(type='LoadImage')]), on_bad_image='skip')
    np.testing.assert_array_equal(data[0]['img'], bands(BYTES, 3))
    assert data.bad_images().tolist() == [1, 0]


def test_a_map_of_16_bits_is_no_reason_of_another_error(tmp_path):
    Image.fromarray(DEEP).save(tmp_path / 'map.png')
    assert read_size(str(tmp_path / 'map.png')) == (32, 40)


def test_the_documented_conversion_makes_images_that_are_read(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / 'docs/data.md').read_text(encoding='utf-8')
    code = re.search(r'^### Depths and bands$.*?^```python\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'deep/below').mkdir(parents=True)
    for name in ('deep.tif', 'infrared.tif', 'unit.tif', '12-bit.png'):
        (tmp_path / 'deep/below' / name).write_bytes(REFUSED[name][0])
    exec(code, {})
    for name, last in (('deep', 255), ('infrared', 255 * 255 // 4095), ('unit', 0), ('12-bit', 255)):
        image = read_image(str(tmp_path / f'converted/below/{name}.png'))
        assert image.shape == (32, 40, 3) and image.max() == last and image.min() == 0
