"""Random generators of their own that members of a data pipeline hold, of albumentations, imgaug or the user's transforms.

`random`, `numpy.random` and torch are seeded for each sample; what draws from elsewhere has to be found and seeded as well.
"""
import functools
import logging
import random
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

SEEDED = (random._inst, np.random.mtrand._rand, torch.default_generator)
"""The generators that are seeded for each sample anyway."""
LEAVES = (str, bytes, int, float, complex, type(None), np.ndarray, np.generic, torch.Tensor, type, types.ModuleType,
          logging.Logger)
"""What is not looked into."""
PIPELINES = ('pipeline', 'dataset', 'datasets', 'transform', 'transforms')
"""Where data sets and their wrappers have their transforms."""


def find_generators(dataset: Any, trial: Callable[[], AbstractContextManager] = nullcontext) -> list[Any]:
    """Find what draws random numbers of its own in the pipelines of a data set.

    What cannot be seeded, the system's own randomness say, is named in a warning.

    Args:
        dataset (Any): A data set, perhaps a wrapper of others.
        trial (Callable): Makes the context in which seeding is tried. Defaults to none.

    Returns:
        list[Any]: Generators, or objects that seed theirs themselves, for `seed_own`; in a certain order.
    """
    found, unseeded, seen, todo = [], {}, {id(one) for one in SEEDED}, [(dataset, type(dataset).__name__)]
    kept = []  # what is seen stays, so that no other object gets its id
    while todo:
        one, place = todo.pop()
        if isinstance(one, LEAVES) or id(one) in seen:
            continue
        seen.add(id(one))
        kept.append(one)
        seed = _way_to_seed(one)
        if seed is None:
            todo += reversed(list(_members(one, place)))
            continue
        try:
            with trial():
                seed(0)
            found.append(one)
        except Exception as error:  # of whatever it is made
            unseeded[place] = str(error) or type(error).__name__
    if unseeded:
        print_log('Samples will not be repeatable: the random numbers of ' + ', '.join(unseeded) + ' cannot be seeded '
                  f'({" ".join(next(iter(unseeded.values())).split())}); take random, numpy.random or torch.rand there, or '
                  'one of their generators', logger='current', level=logging.WARNING)
    return found


def seed_own(generators: Sequence[Any], *entropy: int) -> None:
    """Seed what `find_generators` found, each with numbers of its own.

    Args:
        generators (Sequence[Any]): From `find_generators`.
        *entropy (int): Non-negative numbers, e.g. seed, epoch and sample index.
    """
    for number, one in enumerate(generators):
        _way_to_seed(one)(int(np.random.SeedSequence(entropy, spawn_key=(number, )).generate_state(1)[0]))


def _way_to_seed(one: Any) -> Callable[[int], Any] | None:
    """How an object's generator is seeded, if it has one that it does not leave to its members."""
    kind = type(one)
    if isinstance(one, torch.Generator):
        return one.manual_seed
    if isinstance(one, np.random.Generator):
        return lambda seed: setattr(one.bit_generator, 'state', type(one.bit_generator)(seed).state)
    if isinstance(one, random.SystemRandom):
        return _refuse
    if isinstance(one, (random.Random, np.random.RandomState)):
        return one.seed
    if callable(getattr(kind, 'set_random_seed', None)):  # albumentations
        if callable(getattr(kind, 'set_random_state', None)):  # which no version mixes with the number of a worker
            return lambda seed: one.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return one.set_random_seed
    return one.seed_ if callable(getattr(kind, 'seed_', None)) else None  # imgaug


def _refuse(seed: int) -> None:
    raise TypeError("the system's randomness has no seed")


def _members(one: Any, place: str) -> Iterator[tuple[Any, str]]:
    """What an object holds, and where that is. Of a data set its pipelines and generators: its samples may be millions."""
    if isinstance(one, dict):
        yield from ((member, place) for member in one.values())
    elif isinstance(one, (list, tuple)):
        yield from ((member, place) for member in one)
    elif isinstance(one, (types.MethodType, types.BuiltinMethodType)):
        yield one.__self__, place
        yield getattr(one, '__func__', None), place
    elif isinstance(one, types.FunctionType):
        yield (one.__defaults__, one.__kwdefaults__), place
        for cell in one.__closure__ or ():
            with suppress(ValueError):  # it is empty yet
                yield cell.cell_contents, place
        yield from _generators({name: one.__globals__.get(name) for name in one.__code__.co_names}, one.__module__)
    elif isinstance(one, functools.partial):
        yield (one.func, one.args, one.keywords), place
    else:
        kinds = type(one).__mro__
        slots = [name for kind in kinds for name in vars(kind).get('__slots__', ())]
        own = {name: getattr(one, name, None) for name in slots} | getattr(one, '__dict__', {})
        is_data = isinstance(one, Dataset) or hasattr(type(one), 'full_init')
        yield from ((own[name], f'{type(one).__name__}.{name}') for name in own if not is_data or name in PIPELINES)
        yield from _generators(own, type(one).__name__)
        for kind in kinds:
            yield from _generators(vars(kind), kind.__name__)
            yield from ((method, place) for method in vars(kind).values() if isinstance(method, types.FunctionType))


def _generators(members: Mapping[str, Any], owner: str) -> Iterator[tuple[Any, str]]:
    """Those members that are generators themselves, or seed theirs."""
    return ((member, f'{owner}.{name}') for name, member in members.items() if _way_to_seed(member))
