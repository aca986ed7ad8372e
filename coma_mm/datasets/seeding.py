"""Randomness of the data pipeline as a function of (seed, epoch, sample index).

A sampler puts the seed and the epoch on every index that it yields (`SampleIndex`), the data set seeds the generators
from the three while it prepares the sample (`SeededDataset`). So the same samples come out for any number of workers
and processes, with persistent workers, and after a resume; no worker needs to be told the epoch.
"""
import itertools
import logging
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset

from coma_mm.config_tree import type_name
from coma_mm.errors import BadImageError, NoDataError, UserError, choice
from coma_mm.ranges import number

from .annotations import pipeline_steps
from .band_augmentations import check_rgb_steps
from .loading import read_size, use_load_image, verify_image
from .own_generators import find_generators, seed_own


class SampleIndex(int):
    """The index of a sample that also carries the seed and the epoch it is drawn for, to loader workers too.

    Args:
        index (int): The sample's index in the data set.
        seed (int): The run's seed. Defaults to 0.
        epoch (int): The number of the pass over the data set, from 0. Defaults to 0.
    """

    def __new__(cls, index: int, seed: int = 0, epoch: int = 0) -> 'SampleIndex':
        self = super().__new__(cls, index)
        self.seed, self.epoch = seed, epoch
        return self

    def __reduce__(self) -> tuple:
        return SampleIndex, (int(self), self.seed, self.epoch)


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's `DefaultSampler`, yielding `SampleIndex`: the same indices in the same order."""
    _skipped = 0

    def skip(self, num_samples: int) -> None:
        """Leave out this process's first `num_samples` samples of the next epoch: a run saw them before it stopped."""
        self._skipped = num_samples

    def __iter__(self) -> Iterator[SampleIndex]:
        skipped, self._skipped = self._skipped, 0
        indices = itertools.islice(super().__iter__(), skipped, None)
        return (SampleIndex(index, self.seed, self.epoch) for index in indices)


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """mmengine's `InfiniteSampler`, yielding `SampleIndex` whose epoch is the number of the pass, from 0."""

    def _infinite_indices(self) -> Iterator[SampleIndex]:
        for position, index in enumerate(super()._infinite_indices()):
            yield SampleIndex(index, self.seed, position // self.size)


def seed_generators(*entropy: int) -> int:
    """Seed `random`, `numpy.random` and torch's CPU generator.

    Args:
        *entropy (int): Non-negative numbers, e.g. seed, epoch and sample index.

    Returns:
        int: The seed that torch's generator was given.
    """
    seeds = np.random.SeedSequence(entropy).generate_state(12)
    random.seed(seeds[:4].tobytes())
    np.random.seed(seeds[4:8])
    torch_seed = int.from_bytes(seeds[8:10].tobytes(), 'little')
    torch.default_generator.manual_seed(torch_seed)  # torch.manual_seed would seed the GPUs' generators too
    return torch_seed


@contextmanager
def kept_generators() -> Iterator[None]:
    """Whatever is drawn or seeded inside, afterwards the generators of `seed_generators` go on as before."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextmanager
def seeded_generators(*entropy: int) -> Iterator[None]:
    """`seed_generators` for a while; afterwards they go on as before."""
    with kept_generators():
        seed_generators(*entropy)
        yield


@DATASETS.register_module()
class SeededDataset:
    """A data set whose samples, augmentations included, depend on (seed, epoch, sample index) alone.

    It wraps any data set (wrappers of several too) and forwards everything else to it: `metainfo`, `get_data_info`,
    `full_init`, ... A plain int as index stands for seed 0 and epoch 0.

    Args:
        dataset (dict | Dataset): The data set or its config.
        on_bad_image (str): What to do about an image that cannot be decoded: 'error' stops the run naming the file;
            'skip' takes the next sample instead, logs the file's name once and counts it. Defaults to 'error'. In place of a
            sample without data (NoDataError) the next one is taken in both cases.
        wait_for_storage (float): Seconds to wait for the images' folder when it is gone in mid-run (a network disk that
            was unmounted) before the run stops. Defaults to 60.

    Raises:
        UserError: If `on_bad_image` is neither, if no image at all can be decoded, or the images' folder stays away.
        BadImageError: By `dataset[index]`, if the image is bad and `on_bad_image='error'`.
    """

    def __init__(self, dataset: dict | Dataset, on_bad_image: str = 'error', wait_for_storage: float = 60.):
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.on_bad_image = choice('SeededDataset: on_bad_image', on_bad_image, ('error', 'skip'))
        self.wait_for_storage = number(0).check('SeededDataset: wait_for_storage', wait_for_storage)
        self._find_own_generators()
        # One byte per sample, shared by the loader's workers: 1 where the sample was found to be bad.
        self._bad = multiprocessing.RawArray('B', len(self.dataset)) if on_bad_image == 'skip' else None
        # 1 where a sample was drawn without data, and the next one taken.
        has_bands = any(getattr(step, 'reading', None) for step in pipeline_steps(self.dataset))
        self._no_data = multiprocessing.RawArray('B', len(self.dataset)) if has_bands else None

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list:
        """The samples of a batch, as torch's loaders ask for it; the generators are kept once for all of them."""
        with kept_generators():
            return [self._sample(index) for index in indices]

    def _sample(self, index: int) -> Any:
        """The sample of an index, or of the next one that can be read."""
        seed, epoch = getattr(index, 'seed', 0), getattr(index, 'epoch', 0)
        size = len(self.dataset)
        index = int(index) % size
        for attempt in range(size):
            current = SampleIndex((index + attempt) % size, seed, epoch)
            try:
                return self._read(current)
            except NoDataError as error:
                if self._no_data is not None:
                    if not self.without_data().any():
                        print_log(f'Another sample is taken, as {error}', logger='current', level=logging.WARNING)
                    self._no_data[current] = 1
            except Exception as error:
                bad = error if isinstance(error, BadImageError) else self._bad_annotation(current, error)
                if bad is None:
                    raise
                if self.on_bad_image == 'error':
                    raise bad from error
                if not self._bad[current]:
                    self._bad[current] = 1
                    print_log(f'Skipped an unreadable image: {bad}', logger='current', level=logging.WARNING)
        raise UserError(f'None of the {size} images of the data set can be read (the last one: '
                        f'{self._file_name(current)}); check the files')

    def _read(self, index: SampleIndex) -> Any:
        """The sample of a `SampleIndex`, from its own seeds; waits for storage that is gone for a while."""
        waited = 0
        while True:
            try:
                if path := self._segmentation_map(index):
                    verify_image(path)
                seed_generators(index.seed, index.epoch, index)
                if self._own_generators:
                    seed_own(self._own_generators, index.seed, index.epoch, index)
                return self.dataset[index]
            except Exception as error:
                folder = self._missing_folder(index)
                if folder is None:
                    raise
                if waited >= self.wait_for_storage:
                    raise UserError(f'the folder {folder} is gone or empty since {waited:.0f} s (was it unmounted?); once '
                                    'it is back, go on with --resume') from error
            if not waited:
                print_log(f'The folder {folder} is gone or empty; waiting {self.wait_for_storage:.0f} s for it',
                          logger='current', level=logging.WARNING)
            pause = min(max(waited, 0.5), self.wait_for_storage - waited)  # as long again as so far
            time.sleep(pause)
            waited += pause

    def _missing_folder(self, index: int) -> str | None:
        """The folder of the sample's image, if it is gone, or empty as an unmounted disk's is."""
        try:
            info = self.dataset.get_data_info(index)
            folder = os.path.dirname(info.get('shard', info['img_path']))
            return None if any(os.scandir(folder)) else folder
        except OSError:
            return folder
        except (AttributeError, KeyError, TypeError):
            return None

    def bad_images(self) -> np.ndarray:
        """1 for each sample found unreadable so far, of shape (len(self), ); empty unless 'skip'."""
        return np.frombuffer(self._bad or b'', dtype=np.uint8)

    def without_data(self) -> np.ndarray:
        """1 for each sample in whose place another was taken so far, as it had no data, of shape (len(self), ); or empty."""
        return np.frombuffer(self._no_data or b'', dtype=np.uint8)

    def _bad_annotation(self, index: int, error: Exception) -> BadImageError | None:
        """What is wrong with the sample's map or masks; the libraries' error does not name them."""
        if 'Invalid RLE mask representation' in str(error):
            return BadImageError(f'{getattr(self.dataset, "ann_file", "the annotations")}: the RLE of a mask of '
                                 f'{self._file_name(index)} is damaged')
        if not (path := self._segmentation_map(index)):
            return None
        image_path = self._file_name(index)
        try:
            size, expected = (' × '.join(map(str, read_size(one)[::-1])) for one in (path, image_path))
        except BadImageError as error:
            return error
        return None if size == expected else BadImageError(
            f'the segmentation map {path} of {size} pixels does not fit its image {image_path} of {expected}')

    def _segmentation_map(self, index: int) -> str | None:
        """The sample's map file, if it has one."""
        try:
            path = self.dataset.get_data_info(index).get('seg_map_path')
        except (AttributeError, TypeError):
            return None
        return path if path and os.path.isfile(path) else None

    def _file_name(self, index: int) -> str:
        try:
            return self.dataset.get_data_info(index)['img_path']
        except (AttributeError, KeyError):
            return f'sample {index}'

    @property
    def pipeline(self) -> Callable:
        """The wrapped data set's pipeline; hooks that switch the pipeline in mid-training assign to it."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, value: Callable) -> None:
        self.dataset.pipeline = value
        self._find_own_generators()

    def _find_own_generators(self) -> None:
        self._own_generators = find_generators(self.dataset, kept_generators)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or 'dataset' not in self.__dict__:  # e.g. while being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)


_SEEDED_SAMPLERS = dict(DefaultSampler='SeededSampler', InfiniteSampler='SeededInfiniteSampler')


def seed_dataloader(dataloader: dict) -> None:
    """Give a data loader's config per-sample randomness and our reading of images, in place; once is as good as twice.

    A copy takes the place of the data set's config, see `use_load_image`, and is wrapped in `SeededDataset`; mmengine's
    samplers become the seeded ones. A loader with another sampler keeps the library's own seeding, because its indices carry
    no epoch. The keys `on_bad_image` and `wait_for_storage` of the loader, if given, go to `SeededDataset`.

    Args:
        dataloader (dict): A config as `Runner.build_dataloader` takes it.

    Raises:
        UserError: If a step of a pipeline knows colours alone, and its images have other bands.
    """
    sampler = dataloader.get('sampler')
    dataset = dataloader['dataset'] = use_load_image(dataloader.get('dataset'))
    check_rgb_steps(dataset)
    on_bad_image = dataloader.pop('on_bad_image', None)
    wait = dataloader.pop('wait_for_storage', None)
    name = type_name(sampler)
    if name in _SEEDED_SAMPLERS and isinstance(sampler, dict):
        sampler['type'] = _SEEDED_SAMPLERS[name]
    elif name not in _SEEDED_SAMPLERS.values():
        print_log(f'The sampler {name} does not say the epoch of a sample: augmentations and masks will depend on the '
                  'number of workers; DefaultSampler and InfiniteSampler avoid that', logger='current',
                  level=logging.WARNING)
        if on_bad_image:
            raise UserError(f'on_bad_image={on_bad_image!r} needs the sampler DefaultSampler or InfiniteSampler, '
                            f'not {name}')
        return
    if type_name(dataset) != 'SeededDataset':
        dataset = dict(type='SeededDataset', dataset=dataset)
    if on_bad_image:
        dataset['on_bad_image'] = on_bad_image
    if wait is not None:
        dataset['wait_for_storage'] = wait
    dataloader['dataset'] = dataset
