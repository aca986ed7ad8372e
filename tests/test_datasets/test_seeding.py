"""Samples depend on (seed, epoch, index) alone."""
import pickle
import random
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import BaseDataset, ConcatDataset, DefaultSampler, InfiniteSampler, RepeatDataset
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from coma_mm.datasets import seeding
from coma_mm.datasets.seeding import (
    SampleIndex,
    SeededDataset,
    SeededInfiniteSampler,
    SeededSampler,
    seed_dataloader,
)
from coma_mm.errors import BadImageError, UserError


class Noise(Dataset):
    """Samples of (index, a draw from each of the three generators)."""
    metainfo = dict(classes=('noise', ))

    def __init__(self, size=7, bad=()):
        self.size, self.bad = size, bad

    def __getitem__(self, index):
        if index in self.bad:
            raise BadImageError(f'cannot read the image {index}.jpg')
        return int(index), random.random(), np.random.rand(), torch.rand(1).item()

    def __len__(self):
        return self.size


def epochs_of(dataset, sampler, epochs, **loader_kwargs):
    """{epoch: {index: sample}} as a data loader gives them."""
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, collate_fn=list, **loader_kwargs)
    found = {}
    for epoch in epochs:
        sampler.set_epoch(epoch)
        found[epoch] = {sample[0]: sample for batch in loader for sample in batch}
    return found


def with_world(monkeypatch, sampler_type, rank, world_size, *args, **kwargs):
    import mmengine.dataset.sampler as library
    monkeypatch.setattr(library, 'get_dist_info', lambda: (rank, world_size))
    return sampler_type(*args, **kwargs)


def test_samples_are_a_function_of_seed_epoch_and_index(monkeypatch):
    dataset = SeededDataset(Noise())
    expected = epochs_of(dataset, SeededSampler(dataset, seed=3), range(3))
    values = [sample[1:] for samples in expected.values() for sample in samples.values()]
    assert len(values) == 21 and len(set(values)) == 21
    for epoch, samples in expected.items():
        for index, sample in samples.items():
            assert dataset[SampleIndex(index, 3, epoch)] == sample

    sampler = SeededSampler(dataset, seed=3)
    for kwargs in (dict(num_workers=2), dict(num_workers=2, persistent_workers=True)):
        assert epochs_of(dataset, sampler, range(3), **kwargs) == expected
    # A resumed run starts at a later epoch.
    assert epochs_of(dataset, SeededSampler(dataset, seed=3), [2]) == {2: expected[2]}
    assert epochs_of(dataset, SeededSampler(dataset, seed=4), [0]) != {0: expected[0]}
    ranks = [
        epochs_of(dataset, with_world(monkeypatch, SeededSampler, rank, 2, dataset, seed=3), [1])[1] for rank in (0, 1)
    ]
    assert {**ranks[0], **ranks[1]} == expected[1]


@given(size=st.integers(1, 20), seed=st.integers(0, 5), epoch=st.integers(0, 3), world=st.integers(1, 3),
       shuffle=st.booleans(), round_up=st.booleans())
def test_order_is_the_library_samplers(size, seed, epoch, world, shuffle, round_up):
    with pytest.MonkeyPatch.context() as monkeypatch:
        for rank in range(world):
            pair = [
                with_world(monkeypatch, kind, rank, world, range(size), shuffle=shuffle, seed=seed, round_up=round_up)
                for kind in (SeededSampler, DefaultSampler)
            ]
            for sampler in pair:
                sampler.set_epoch(epoch)
            assert list(pair[0]) == list(pair[1]) and len(pair[0]) == len(pair[1])
            assert all((index.seed, index.epoch) == (seed, epoch) for index in pair[0])


@given(size=st.integers(1, 9), world=st.integers(1, 3), skipped=st.integers(0, 30))
def test_infinite_sampler_counts_passes_also_after_a_skip(size, world, skipped):
    with pytest.MonkeyPatch.context() as monkeypatch:
        for rank in range(world):
            seeded, plain = (
                with_world(monkeypatch, kind, rank, world, range(size), seed=1)
                for kind in (SeededInfiniteSampler, InfiniteSampler))
            seeded.skip(skipped)
            plain.skip(skipped)
            pairs = [pair for pair, _ in zip(zip(seeded, plain, strict=True), range(20), strict=False)]
            for position, (ours, theirs) in enumerate(pairs):
                assert ours == theirs
                assert ours.epoch == ((skipped + position) * world + rank) // size


def test_sample_index_survives_pickling_and_is_an_int():
    index = pickle.loads(pickle.dumps(SampleIndex(5, seed=2, epoch=9)))
    assert (index, index.seed, index.epoch) == (5, 2, 9)
    assert type(index + 1) is int and [10, 20, 30][SampleIndex(1)] == 20


def test_the_numbers_of_a_sample_stay_the_same():
    """Runs are resumed, and compared with earlier ones."""
    expected = (5, 0.7025177290342716, 0.9843908799568918, 0.036894023418426514)
    dataset, index = SeededDataset(Noise()), SampleIndex(5, 3, 1)
    assert dataset[index] == expected
    assert dataset.__getitems__([SampleIndex(1, 3, 1), index, SampleIndex(5, 3, 2)])[1] == expected


def test_generators_of_the_caller_are_left_alone():
    dataset = SeededDataset(Noise(bad=[2]))

    def draws(touch=lambda: None):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        first = np.random.normal()  # NumPy keeps the second of a pair
        touch()
        return first, random.random(), np.random.normal(), np.random.rand(), torch.rand(1).item()

    expected = draws()
    assert draws(lambda: dataset[SampleIndex(3, 1, 2)]) == expected
    assert draws(lambda: dataset.__getitems__([SampleIndex(3, 1, 2), 4])) == expected
    assert draws(lambda: pytest.raises(BadImageError, dataset.__getitems__, [1, 2])) == expected


def test_a_loader_keeps_the_generators_once_for_a_batch(monkeypatch):
    kept = mock.Mock(side_effect=seeding.kept_generators)
    monkeypatch.setattr(seeding, 'kept_generators', kept)
    assert len(list(DataLoader(SeededDataset(Noise(7)), batch_size=4))) == kept.call_count == 2


def test_wrapped_data_sets_and_forwarding():
    class List(BaseDataset):
        def load_data_list(self):
            return [dict(img_path=f'{number}.png') for number in range(4)]

        def prepare_data(self, idx):
            return idx, random.random()

    inner = ConcatDataset([List(), List()])
    dataset = SeededDataset(RepeatDataset(inner.datasets[0], times=2))
    assert len(dataset) == 8 and dataset[SampleIndex(1)] != dataset[SampleIndex(5)]
    dataset = SeededDataset(inner)
    assert len(dataset) == 8 and dataset.metainfo == inner.metainfo
    assert dataset.get_data_info(SampleIndex(5))['img_path'] == '1.png'
    first, again, other = (dataset[SampleIndex(index, 0, 1)] for index in (5, 5, 1))
    assert first == again and first[1] != other[1]
    with pytest.raises(AttributeError):
        dataset.no_such_attribute  # noqa: B018
    # A hook that switches the pipeline in mid-training assigns to the data set that it sees.
    single = SeededDataset(List())
    single.pipeline = 'switched'
    assert single.dataset.pipeline == 'switched'


def test_aspect_ratio_batches_keep_the_seeds():
    from mmdet.datasets.samplers import AspectRatioBatchSampler

    class Shapes(Noise):
        def get_data_info(self, index):
            return dict(width=1 + index % 2, height=1.5)

    dataset = SeededDataset(Shapes(8))
    sampler = SeededSampler(dataset, seed=1)
    sampler.set_epoch(4)
    batches = list(AspectRatioBatchSampler(sampler, 2))
    assert sorted(sum(batches, [])) == list(range(8))
    assert all(len({index % 2 for index in batch}) == 1 for batch in batches)
    assert {index.epoch for batch in batches for index in batch} == {4}


def test_bad_images_stop_the_run_or_are_skipped_with_a_count(monkeypatch):
    lines = []
    monkeypatch.setattr(seeding, 'print_log', lambda line, **_: lines.append(line))
    with pytest.raises(BadImageError, match='2.jpg'):
        SeededDataset(Noise(bad=[2]))[2]
    dataset = SeededDataset(Noise(bad=[2, 3, 6]), on_bad_image='skip')
    assert dataset[SampleIndex(2, 1, 5)] == dataset[SampleIndex(4, 1, 5)] == dataset[SampleIndex(3, 1, 5)]
    assert dataset[6][0] == 0
    assert len(lines) == 3 and '2.jpg' in lines[0]
    assert dataset.bad_images().tolist() == [0, 0, 1, 1, 0, 0, 1]
    fresh = SeededDataset(Noise(bad=[2, 3, 6]), on_bad_image='skip')
    epochs_of(fresh, SeededSampler(fresh, seed=0), [0], num_workers=2)
    assert fresh.bad_images().tolist() == [0, 0, 1, 1, 0, 0, 1]  # counted in the workers, seen here
    with pytest.raises(UserError, match='None of the 3 images'):
        SeededDataset(Noise(3, bad=range(3)), on_bad_image='skip')[1]
    with pytest.raises(UserError, match='on_bad_image'):
        SeededDataset(Noise(), on_bad_image='ignore')


def test_loaders_are_seeded_once():
    def loader(sampler):
        return dict(dataset=dict(type='ADE20KDataset'), sampler=dict(type=sampler, shuffle=True), batch_size=2)

    cfg = dict(train_dataloader=loader('mmengine.InfiniteSampler'), val_dataloader=loader(DefaultSampler),
               test_dataloader=loader('RepeatAugSampler'))
    cfg['train_dataloader']['on_bad_image'] = 'skip'
    for _ in range(2):
        for one in cfg.values():
            seed_dataloader(one)
        assert cfg['train_dataloader'] == dict(
            dataset=dict(type='SeededDataset', dataset=dict(type='ADE20KDataset'), on_bad_image='skip'),
            sampler=dict(type='SeededInfiniteSampler', shuffle=True), batch_size=2)
        assert cfg['val_dataloader']['sampler']['type'] == 'SeededSampler'
        assert cfg['val_dataloader']['dataset'] == dict(type='SeededDataset', dataset=dict(type='ADE20KDataset'))
        assert cfg['test_dataloader'] == loader('RepeatAugSampler')


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'RepeatAugSampler'])
def test_seeded_loaders_read_images_with_load_image(sampler):
    dataset = dict(type='ImageFolder', pipeline=[dict(type='LoadImageFromFile')])
    cfg = dict(dataset=dataset, sampler=dict(type=sampler, shuffle=True))
    seed_dataloader(cfg)
    assert cfg['dataset'].get('dataset', cfg['dataset'])['pipeline'] == [dict(type='LoadImage')]
    assert dataset['pipeline'] == [dict(type='LoadImageFromFile')]  # the run's config, which inferencers take


def test_a_built_loader_gives_the_same_samples_for_any_number_of_workers():
    batches = []
    for workers in (0, 2):
        cfg = dict(dataset=Noise(), sampler=dict(type='DefaultSampler', shuffle=True), batch_size=3,
                   num_workers=workers)
        seed_dataloader(cfg)
        loader = Runner.build_dataloader(cfg, seed=1)
        batches.append(list(loader))
        assert loader.dataset.metainfo == Noise.metainfo
    assert batches[0] == batches[1]


class Images(Dataset):
    """Reads a file for every sample."""

    def __init__(self, folder):
        self.folder = folder

    def get_data_info(self, index):
        return dict(img_path=f'{self.folder}/images/{index}.txt')

    def __getitem__(self, index):
        return open(self.get_data_info(index)['img_path']).read()

    def __len__(self):
        return 2


def test_storage_that_goes_away_is_waited_for(tmp_path, monkeypatch):
    folder, pauses = tmp_path / 'images', []
    folder.mkdir()
    for index in range(2):
        (folder / f'{index}.txt').write_text(str(index))
    dataset = SeededDataset(Images(tmp_path), wait_for_storage=10)

    def back_after(seconds):
        def sleep(pause):
            pauses.append(pause)
            if sum(pauses) >= seconds:
                (tmp_path / 'away').rename(folder)

        pauses.clear()
        folder.rename(tmp_path / 'away')
        monkeypatch.setattr('coma_mm.datasets.seeding.time.sleep', sleep)

    back_after(3)
    assert dataset[SampleIndex(1)] == '1' and 3 <= sum(pauses) <= 6
    back_after(60)
    with pytest.raises(UserError, match=f'the folder {folder} is gone or empty since 10 s .was it unmounted..; once'):
        dataset[SampleIndex(1)]
    assert sum(pauses) == 10
    folder.mkdir()  # the mount point
    with pytest.raises(UserError, match='is gone or empty since'):
        dataset[SampleIndex(1)]
    (folder / 'other.txt').touch()  # one file alone is missing: no waiting
    pauses.clear()
    with pytest.raises(FileNotFoundError):
        dataset[SampleIndex(1)]
    assert not pauses
