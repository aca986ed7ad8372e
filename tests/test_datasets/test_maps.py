"""Segmentation maps of every depth are read to the same ids, or refused."""
import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from PIL import Image

from coma_mm.config.read import register_libraries
from coma_mm.datasets.maps import MapClassIds
from coma_mm.errors import UserError

IDS = np.array([[0, 1, 2], [3, 254, 255]])


@pytest.fixture(autouse=True, scope='module')
def libraries():
    register_libraries('mmseg')
    register_libraries('mmseg')


def load(path, reduce=False, **kwargs):
    results = dict(seg_map_path=str(path), reduce_zero_label=reduce, seg_fields=[])
    return TRANSFORMS.build(dict(type='LoadAnnotations', **kwargs))(results)['gt_seg_map']


def save(path, values, mode=None):
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path)
    return path


def test_maps_of_any_depth_whose_ids_are_of_8_bits_are_read(tmp_path):
    deep = np.where(IDS == 255, 65535, IDS)
    palette = Image.fromarray(IDS.astype(np.uint8), 'P')
    palette.putpalette([7] * 768)
    palette.save(tmp_path / 'palette.png')
    for path in (tmp_path / 'palette.png', save(tmp_path / 'a.png', IDS.astype(np.uint8)),
                 save(tmp_path / 'b.png', deep.astype(np.uint16)), save(tmp_path / 'c.tif', IDS.astype(np.float32)),
                 save(tmp_path / 'd.tif', np.where(IDS == 255, -1, IDS).astype(np.int32))):
        ids = load(path)
        assert ids.dtype == np.uint8 and (ids == IDS).all(), path
        assert (load(path, reduce=True) == [[255, 0, 1], [2, 253, 255]]).all()
    assert (load(save(tmp_path / 'e.png', IDS > 1)) == (IDS > 1)).all()


@pytest.mark.parametrize('values, expected', [
    ((IDS + 256 * (IDS == 3)).astype(np.uint16), r'has the value 259 \(uint16\); expected class ids of 0 to 255'),
    ((IDS * 1000).astype(np.int32), r'has the value 255000 \(int32\)'),
    ((IDS - 2).astype(np.int32), r'has the value -2 \(int32\)'),
    ((IDS / 8).astype(np.float32), r'has the value 0.125 \(float32\)'),
    ((IDS * np.nan).astype(np.float32), r'has the value nan'),
    (np.stack([IDS, IDS, 0 * IDS], -1).astype(np.uint8), r'has 3 channels; .*does not fit its image.*: give each colour'),
    (np.stack([IDS] * 4, -1).astype(np.uint8), r'has 4 channels; .* all of these are equal, so write one'),
    (np.stack([IDS] * 2, -1).astype(np.uint8), 'has 2 channels'),
])
def test_maps_that_would_be_changed_in_silence_are_refused(tmp_path, values, expected):
    path = save(tmp_path / 'a.tif', values)
    for kwargs in (dict(), dict(imdecode_backend='tifffile')):
        with pytest.raises(UserError, match=f'the segmentation map {path} {expected}') as caught:
            load(path, **kwargs)
        assert '\n' not in str(caught.value)


def test_what_inherits_is_checked_and_images_are_not(tmp_path):
    class Own(LoadAnnotations):
        pass

    path = save(tmp_path / 'a.png', IDS.astype(np.uint16) * 99)
    with pytest.raises(UserError):
        Own()(dict(seg_map_path=str(path), reduce_zero_label=False, seg_fields=[]))
    from mmseg.datasets.transforms import loading
    assert loading.mmcv.imfrombytes(path.read_bytes(), flag='unchanged', backend='pillow').max() == 99 * 255


def test_values_get_other_class_ids(tmp_path):
    step = MapClassIds({255: 1, '3': 255})
    assert (step(dict(gt_seg_map=IDS.astype(np.uint8)))['gt_seg_map'] == [[0, 1, 2], [255, 254, 1]]).all()
    assert repr(step) == 'MapClassIds(ids={3: 255, 255: 1})'
    assert TRANSFORMS.build(dict(type='MapClassIds', ids={0: 255})).table[0] == 255
