"""Augmentation keeps the type of images of any bands, and depends on the sample's seeds alone."""
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from mmpretrain.registry import TRANSFORMS as MMPRETRAIN

from coma_mm.datasets import (
    BandDrop,
    BandGain,
    LoadImage,
    RandomHorizontalFlip,
    RandomRotate90,
    RandomVerticalFlip,
    ResizeEdge,
    seed_dataloader,
)
from coma_mm.datasets.random_resized_crop import resize_any
from coma_mm.datasets.seeding import seeded_generators
from coma_mm.errors import UserError

RNG = np.random.default_rng(0)
FIVE = RNG.integers(100, 40000, (24, 32, 5), np.uint16)
TYPES = (np.uint8, np.uint16, np.float32)


def run(step, image, seed=0, **results):
    with seeded_generators(seed):
        return step.transform(dict(img=image.copy(), **results))


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('step', [BandGain(.5, .1), BandDrop(.5), RandomRotate90(1), RandomVerticalFlip(1),
                                  RandomHorizontalFlip(1)], ids=lambda step: type(step).__name__)
def test_a_step_keeps_type_and_size_and_draws_from_the_sample_s_seeds(step, dtype):
    image = FIVE.astype(dtype)
    first, again, other = (run(step, image, seed)['img'] for seed in (0, 0, 1))
    assert first.dtype == dtype and first.shape == image.shape
    assert (first == again).all() and (first != image).any()
    assert 'Flip' in type(step).__name__ or 'Rotate' in type(step).__name__ or (first != other).any()


def test_gain_is_of_each_band_and_stays_in_the_type_s_range():
    image = np.full((8, 8, 4), 60000, np.uint16)
    gains = run(BandGain(.5), image)['img'][0, 0] / 60000
    assert len(set(gains)) == 4 and gains.max() <= 65535 / 60000 and gains.min() >= .5
    assert (run(BandGain(.5), image)['img'] == run(BandGain(.5), image)['img'][:1, :1]).all()
    noisy = run(BandGain(0, .1), FIVE.astype(np.float32))['img'] - FIVE
    assert np.allclose(noisy.std((0, 1)), .1 * FIVE.std((0, 1)), rtol=.2)


def test_of_a_dropped_band_nothing_is_left():
    """Images that differ in the dropped bands alone become the same."""
    step, dropped = BandDrop(.5, fill=[1, 2, 3, 4, 5]), set()
    for seed in range(20):
        result = run(step, FIVE, seed)
        bands = result['dropped_bands']
        other = FIVE.copy()
        other[..., bands] = RNG.integers(0, 65536, other[..., bands].shape)
        assert (run(step, other, seed)['img'] == result['img']).all() and len(bands) < 5
        assert (result['img'][..., bands] == np.add(bands, 1)).all()
        dropped.update(bands)
    assert dropped == set(range(5))
    with pytest.raises(UserError, match='fill has 2 values, and the image has 5 bands'):
        BandDrop(fill=[1, 2]).transform(dict(img=FIVE))


def test_a_map_turns_with_its_image_and_boxes_are_refused():
    square = FIVE[:, :24]
    for seed in range(4):
        result = run(RandomRotate90(1), square, seed, gt_seg_map=square[..., 0])
        assert (result['gt_seg_map'] == result['img'][..., 0]).all()
    assert (run(RandomRotate90(1), FIVE)['img'] == FIVE[::-1, ::-1]).all()
    with pytest.raises(UserError, match='RandomRotate90 does not turn gt_bboxes'):
        run(RandomRotate90(1), FIVE, gt_bboxes=[])


@pytest.mark.parametrize('dtype', TYPES)
def test_resizing_keeps_values_bands_and_type(dtype):
    constant = np.full((20, 30, 7), 200, dtype) + np.arange(7, dtype=dtype)
    for size in (5, 7), (40, 33):
        resized = resize_any(constant, size)
        assert resized.dtype == dtype and np.allclose(resized, constant[0, 0]) and resized.shape == (*size, 7)
    step = ResizeEdge(scale=10, edge='short', backend='pillow', interpolation='bicubic')
    assert step.transform(dict(img=constant))['img'].shape == (10, 15, 7)
    for backend in 'pillow', 'cv2':
        step = MMPRETRAIN.build(dict(type='RandomResizedCrop', scale=12, backend=backend, interpolation='bicubic'))
        crop = step.transform(dict(img=constant))['img']
        assert crop.shape == (12, 12, 7) and crop.dtype == dtype and np.allclose(crop, constant[0, 0])
    for name in 'Resize', 'RandomResize':  # mmcv's, by OpenCV
        scale = dict(scale=(60, 40), **(dict(ratio_range=(1., 1.)) if name == 'RandomResize' else {}), keep_ratio=True)
        step = TRANSFORMS.build(dict(type=name, **scale))
        resized = step.transform(dict(img=constant))['img']
        assert resized.shape == (40, 60, 7) and resized.dtype == dtype and np.allclose(resized, constant[0, 0])


def loader(bands, *steps):
    pipeline = [dict(type='LoadImage', **(dict(bands=bands) if bands else {})), *steps]
    return dict(sampler=dict(type='DefaultSampler'), dataset=dict(type='ConcatDataset', datasets=[
        dict(type='ImageFolder', data_root='data', pipeline=pipeline)]))


@pytest.mark.parametrize('step', [
    dict(type='ColorJitter', brightness=.4), dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='RandomApply', transforms=[dict(type='ColorJitter')]), dict(type='Albu', transforms=[dict(type='ToSepia')])])
def test_steps_that_know_colours_alone_are_refused_by_name_for_other_bands(step):
    name = 'ToSepia' if step['type'] == 'Albu' else 'ColorJitter' if 'Photo' not in step['type'] else 'PhotoMetricDistortion'
    for bands in 4, [0, 1], ['nir']:
        with pytest.raises(UserError, match=f'the step {name} of a pipeline knows red, green and blue alone'):
            seed_dataloader(loader(bands, step))
    for bands in None, 3, [3, 2, 1]:
        seed_dataloader(loader(bands, step))
    seed_dataloader(loader(4, dict(type='BandGain')))


ALBU = [dict(type='HorizontalFlip', p=.5), dict(type='RandomRotate90', p=.8), dict(type='RandomCrop', height=16, width=16),
        dict(type='GaussNoise', p=1)]


@pytest.mark.parametrize('kind', ['mmdet.Albu', 'mmpretrain.Albumentations', 'mmseg.Albu'])
@pytest.mark.parametrize(('dtype', 'bands'), [(np.uint8, 3), (np.uint8, 5), (np.float32, 5), (np.uint16, 5)])
def test_albumentations_work_on_bands_and_repeat_by_the_sample(tmp_path, kind, dtype, bands):
    pytest.importorskip('albumentations')
    import mmseg.datasets  # noqa: F401, they register their steps

    from coma_mm.datasets import ImageFolder, SampleIndex, SeededDataset
    image = (RNG.random((24, 32, bands)) * (200 if dtype == np.uint8 else 1)).astype(dtype)
    steps = ALBU if dtype != np.uint16 else ALBU[:3]  # its noise knows uint8 and float32
    for at in range(3):
        np.save(tmp_path / f'{at}.npy', image + np.asarray(at, dtype))
    options = dict(bgr_to_rgb=False) if kind == 'mmseg.Albu' else {}
    pipeline = [LoadImage(bands=bands), TRANSFORMS.build(dict(type=kind, transforms=steps, **options))]
    dataset = SeededDataset(ImageFolder(str(tmp_path), pipeline, serialize_data=False))
    first, other, again = (dataset[SampleIndex(1, 5, epoch)]['img'] for epoch in (0, 1, 0))
    assert first.shape == (16, 16, bands) and first.dtype == dtype
    assert (first == again).all() and (dtype == np.uint16 or (first != other).any())


def test_flips_of_many_bands_are_packed_right():
    for bands in 1, 4, 13:
        image = RNG.integers(0, 65536, (6, 8, bands), np.uint16)
        flipped = RandomHorizontalFlip(1).transform(dict(img=image))['img']
        from coma_mm.datasets import PackMaskedImage
        assert (PackMaskedImage().transform(dict(img=flipped))['inputs'].numpy() == image[:, ::-1].transpose(2, 0, 1)).all()
