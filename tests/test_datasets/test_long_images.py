"""Very long images fit the memory; nothing else changes."""
import numpy as np
import pytest
from mmcv.transforms import CenterCrop
from mmengine.dataset import Compose
from mmpretrain.datasets.transforms import ResizeEdge as TheirResizeEdge
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from coma_mm.datasets.long_images import LONGEST, ResizeEdge, cut_middle
from coma_mm.visualization import read_fitted


@pytest.mark.parametrize(('shape', 'expected'), [
    ((6, 20000, 3), 1534), ((20000, 6, 3), 1534), ((20001, 6), 1535), ((1, 300), 254), ((6, 1535, 3), 1535), ((1, 1, 3), 1),
    ((480, 640, 3), 640)])
def test_what_is_left_of_a_long_image_is_its_middle(shape, expected):
    length = max(shape[:2])
    axis = shape.index(length)
    image = np.broadcast_to(np.arange(length).reshape(-1, *[1] * (len(shape) - 1 - axis)), shape)
    left = cut_middle(image, 256)
    assert left.shape == (*shape[:axis], expected, *shape[axis + 1:]) and (left is image) == (expected == length)
    assert expected * 256 // min(shape[:2]) <= LONGEST
    start = (length - expected) // 2
    assert left.flat[0] == start and left.flat[-1] == start + expected - 1


def test_validation_crops_a_long_image_as_if_all_of_it_had_been_enlarged():
    noise = np.random.default_rng(0).integers(0, 256, (6, 20000, 3), np.uint8)
    steps = Compose([TRANSFORMS.build(dict(type='ResizeEdge', scale=64, edge='short', backend='pillow')),
                     TRANSFORMS.build(dict(type='CenterCrop', crop_size=56))])
    half = 28 * 6 / 64
    expected = Image.fromarray(noise).resize((56, 56), Image.Resampling.BILINEAR,
                                             (10000 - half, 3 - half, 10000 + half, 3 + half))
    cropped = steps(dict(img=noise))['img'].astype(int)
    assert np.abs(cropped - np.asarray(expected)).mean() < 2
    turned = steps(dict(img=noise.transpose(1, 0, 2).copy()))['img'].astype(int)
    assert np.abs(cropped - turned.transpose(1, 0, 2)).mean() < 2


@pytest.mark.parametrize('edge', ['short', 'long', 'width', 'height'])
def test_of_other_images_nothing_changes(edge):
    assert TRANSFORMS.get('ResizeEdge') is ResizeEdge
    for shape in ((30, 600, 3), (50, 40, 3)):
        image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        one, other = (kind(scale=20, edge=edge)(dict(img=image)) for kind in (ResizeEdge, TheirResizeEdge))
        np.testing.assert_array_equal(one.pop('img'), other.pop('img'))
        assert one == other


def test_a_long_image_is_drawn_in_its_middle(tmp_path):
    for size in ((5000, 6), (6, 5000)):
        Image.new('L', size).save(tmp_path / 'a.png')
        assert sorted(read_fitted(str(tmp_path / 'a.png'), 64, 32).shape) == [3, 64, 512]


@pytest.mark.parametrize('size', [(160, 320), (20, 30), (1, 90), (90, 2), (400, 200), (320, 160)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_from_a_size_that_fills_height_and_width_any_crop_can_be_taken(size, dtype):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(dtype)
    resized = ResizeEdge((160, 320), backend='pillow', interpolation='bicubic').transform(dict(img=image))
    height, width = resized['img'].shape[:2]
    assert height >= 160 and width >= 320 and (height == 160 or width == 320) and resized['img'].dtype == dtype
    assert CenterCrop((320, 160)).transform(resized)['img'].shape == (160, 320, 3)
