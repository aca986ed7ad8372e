import mmcv
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.transforms import RandomFlip
from mmengine.dataset import default_collate
from mmengine.registry import TRANSFORMS

from coma_mm.datasets import PackMaskedImage, PatchMask, RandomHorizontalFlip, draw_masks
from coma_mm.datasets.seeding import seeded_generators
from coma_mm.errors import UserError


def masked(seed, height=224, width=224, **kwargs):
    np.random.seed(seed)
    return PatchMask(**kwargs)(dict(img=np.zeros((height, width, 3), np.uint8)))


def test_the_default_is_the_papers():
    out = masked(0)
    assert (len(out['ids_keep']), len(out['ids_rest'])) == (20, 29)
    assert sorted([*out['ids_keep'], *out['ids_rest']]) == list(range(49))


def test_a_function_of_numpys_global_seed():
    assert np.array_equal(masked(3)['ids_keep'], masked(3)['ids_keep'])
    torch.manual_seed(0)
    first = masked(3)['ids_keep']
    torch.manual_seed(1)
    assert np.array_equal(masked(3)['ids_keep'], first)
    assert len({tuple(masked(seed)['ids_keep']) for seed in range(20)}) == 20


@given(seed=st.integers(0, 2**32 - 1))
def test_masks_of_a_seed_stay_the_same(seed):
    """Runs are resumed, and compared with earlier ones."""
    found, drawn = masked(seed)['ids_keep'], np.random.rand()
    np.random.seed(seed)
    rng = np.random.default_rng([int(np.random.randint(2**32, dtype=np.uint64)) for _ in range(4)])
    assert np.array_equal(found, np.sort(rng.permutation(49)[:20])) and np.random.rand() == drawn
    assert masked(3)['ids_keep'].tolist() == [1, 2, 3, 6, 7, 9, 12, 13, 17, 19, 21, 22, 24, 25, 31, 32, 36, 37, 42, 47]


def test_consecutive_samples_differ():
    np.random.seed(0)
    step = PatchMask()
    draws = [tuple(step(dict(img=np.zeros((224, 224, 3), np.uint8)))['ids_keep']) for _ in range(20)]
    assert len(set(draws)) == 20


def test_masks_of_given_images_are_those_of_training_and_disturb_no_generator():
    sampler, samples = dict(type='BlockMaskSampler', ratio=.5), [(3, 0, 7), (3, 1, 7), (3, 0, 7)]
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    keep, rest = draw_masks((64, 160), samples, sampler, 16, 32)
    assert np.random.rand() == expected
    assert keep.shape == rest.shape == (3, 20) and keep.dtype == rest.dtype == torch.int64
    for sample, own_keep, own_rest in zip(samples, keep, rest, strict=True):
        with seeded_generators(*sample):
            drawn = PatchMask(sampler, 16, 32)(dict(img=np.zeros((64, 160, 3), np.uint8)))
        assert np.array_equal(own_keep, drawn['ids_keep']) and np.array_equal(own_rest, drawn['ids_rest'])
    assert torch.equal(keep[0], keep[2]) and not torch.equal(keep[0], keep[1])


@pytest.mark.parametrize('height, width', [(224, 224), (64, 160)])
def test_height_is_rows(height, width):
    out = masked(0, height, width)
    assert len(out['ids_keep']) + len(out['ids_rest']) == (height // 32) * (width // 32)


def test_units_of_two_by_two_patches_are_masked_as_one():
    out = masked(0, 192, 256, unit=64)
    mask = np.zeros((6, 8), int)
    mask.flat[out['ids_keep']] = 1
    sums = mask.reshape(3, 2, 4, 2).sum((1, 3))
    assert set(np.unique(sums)) == {0, 4}
    assert (sums == 4).sum() == round(12 * 0.4)
    assert np.array_equal(np.flatnonzero(mask == 0), out['ids_rest'])


def test_any_sampler():
    out = masked(0, sampler=dict(type='UniformMaskSampler', ratio=0.75), patch_size=16)
    assert len(out['ids_keep']) == 49


@pytest.mark.parametrize('kwargs, words', [
    (dict(unit=48), 'unit=48 px is not a multiple of the patch of 32 px'),
    (dict(height=200), 'image of 224×200 px'),
    (dict(unit=64), 'multiples of 64 px'),
    (dict(unit=0), 'PatchMask: unit=0: expected a whole number, 1 or more'),
    (dict(patch_size=0), 'PatchMask: patch_size=0: expected a whole number, 1 or more'),
    (dict(height=32, width=32), 'at least one must be kept'),
    (dict(sampler=dict(type='UniformMaskSampler', ratio=1.)), r'outside \(0, 1\)'),
])
def test_bad_input(kwargs, words):
    with pytest.raises(UserError, match=words):
        masked(0, **kwargs)


def test_packed_samples_collate_to_a_batch():
    pack = TRANSFORMS.build(dict(type='PackMaskedImage'))
    assert isinstance(pack, PackMaskedImage)
    samples = []
    for i in range(2):
        img = np.random.default_rng(i).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        results = masked(i, 64, 96)
        results.update(img=img, sample_idx=i, img_path=f'{i}.jpg', gt_label=1)
        packed = pack(results)
        assert packed['inputs'].dtype == torch.uint8
        assert np.array_equal(packed['inputs'].permute(1, 2, 0).numpy(), img)
        assert packed['data_samples'].metainfo == dict(sample_idx=i, img_path=f'{i}.jpg')
        samples.append(packed)
    batch = default_collate([{k: v for k, v in s.items() if k != 'data_samples'} for s in samples])
    assert batch['inputs'].shape == (2, 3, 64, 96)
    assert batch['ids_keep'].dtype == torch.int64 and batch['ids_keep'].shape == (2, 2)
    assert batch['ids_rest'].shape == (2, 4)


@given(height=st.integers(1, 40), width=st.integers(1, 40), margin=st.integers(0, 3), seed=st.integers(0, 99),
       channels=st.sampled_from([1, 3, 4]), direction=st.sampled_from([None, 'horizontal', 'vertical', 'diagonal']))
def test_packed_pixels_are_those_of_the_image(height, width, margin, seed, channels, direction):
    """mmcv's flips and crops are views, of strides that torch or OpenCV do not take."""
    whole = np.random.default_rng(seed).integers(0, 256, (height + margin, width + 2 * margin, channels), dtype=np.uint8)
    image = whole[margin:, margin:margin + width]
    if direction:
        image = mmcv.imflip(image, direction)
    before = image.copy()
    inputs = PackMaskedImage()(dict(img=image, ids_keep=np.arange(2), ids_rest=np.arange(3)))['inputs']
    assert inputs.is_contiguous() and inputs.dtype == torch.uint8
    np.testing.assert_array_equal(inputs, np.ascontiguousarray(before.transpose(2, 0, 1)))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize('flip', [False, True])
def test_a_grey_image_is_packed_as_one_channel(flip):
    grey = np.random.default_rng(0).integers(0, 256, (32, 64), np.uint8)
    sample = PatchMask()(RandomHorizontalFlip(float(flip))(dict(img=grey.copy())))
    inputs = PackMaskedImage()(sample)['inputs']
    np.testing.assert_array_equal(inputs, grey[None, :, ::-1] if flip else grey[None])


@given(seed=st.integers(0, 2**32 - 1), prob=st.one_of(st.sampled_from([0., 0.5, 1.]), st.floats(0, 1)))
def test_flips_are_mmcvs(seed, prob):
    found = []
    for step in (RandomHorizontalFlip(prob), RandomFlip(prob)):
        np.random.seed(seed)
        sample = step(dict(img=np.arange(18, dtype=np.uint8).reshape(2, 3, 3)))
        found.append([sample['flip'], sample['flip_direction'], sample['img'].tolist(), np.random.rand()])
    assert found[0] == found[1]


def test_a_probability_is_one():
    with pytest.raises(UserError, match=r'prob=1.5 is outside \[0, 1\]'):
        RandomHorizontalFlip(1.5)


@pytest.mark.parametrize('sampler', ['UniformMaskSampler', 'BlockMaskSampler'])
def test_an_independent_second_mask_leaves_the_first_and_the_generators_as_they_are(sampler):
    plain, pair = masked(3, sampler=dict(type=sampler)), masked(3, sampler=dict(type=sampler), pair='independent')
    after = np.random.rand()
    masked(3)
    assert np.random.rand() == after
    assert np.array_equal(pair['ids_keep'], plain['ids_keep']) and np.array_equal(pair['ids_rest'], plain['ids_rest'])
    assert len(pair['second_keep']) == len(plain['ids_rest']) == 29  # as many as the complement has
    assert sorted([*pair['second_keep'], *pair['second_rest']]) == list(range(49))
    assert 'second_keep' not in plain
    packed = PackMaskedImage()(dict(pair, img=np.zeros((224, 224, 3), np.uint8)))
    assert list(packed) == ['inputs', 'ids_keep', 'ids_rest', 'second_keep', 'second_rest', 'data_samples']


def test_the_second_mask_knows_nothing_of_the_first():
    """Each patch that the first sees is in the second with the share of all patches, 29 of 49."""
    np.random.seed(0)
    step, shared = PatchMask(pair='independent'), 0
    for _ in range(400):
        out = step(dict(img=np.zeros((224, 224, 3), np.uint8)))
        shared += len(np.intersect1d(out['ids_keep'], out['second_keep']))
    assert shared / (400 * 20) == pytest.approx(29 / 49, abs=0.02)
    assert masked(5, pair='independent')['second_keep'].tolist() == masked(5, pair='independent')['second_keep'].tolist()


def test_an_unknown_pair_is_refused():
    with pytest.raises(UserError, match="PatchMask: pair='both': expected one of complementary, independent"):
        PatchMask(pair='both')
