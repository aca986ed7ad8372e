"""Interleaved repeats, ratios within a repeat, and peak memory."""
import os
import random
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler's library tells of every start and stop


def interleave(steps, repeats, seed=0, steps_per_repeat=1, synchronise=lambda: None, clock=time.perf_counter,
               after_each=lambda: None):
    """Time steps in turn, so that a machine that slows down slows all of them down.

    In each repeat every contestant runs once, one after another, in an order that is shuffled anew.

    Args:
        steps (dict[str, Callable]): By name; what is timed, warm.
        repeats (int): Rounds.
        seed (int): Of the order. Defaults to 0.
        steps_per_repeat (int): Calls in a row that are timed together. Defaults to 1.
        synchronise (Callable): Waits for the device. Defaults to nothing.
        clock (Callable): Gives seconds. Defaults to `time.perf_counter`.
        after_each (Callable): Called after each contestant's turn. Defaults to nothing.

    Yields:
        dict[str, float]: Seconds per step of each contestant, of one whole repeat.
    """
    order = random.Random(seed)
    for _ in range(repeats):
        seconds = {}
        for name in order.sample(list(steps), len(steps)):
            synchronise()
            start = clock()
            for _ in range(steps_per_repeat):
                steps[name]()
            synchronise()
            seconds[name] = (clock() - start) / steps_per_repeat
            after_each()
        yield seconds


def quartiles(values):
    """tuple[float, float, float]: Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    return tuple(statistics.quantiles(values, n=4, method='inclusive'))


def speed_ratio(seconds, peer):
    """How many times as fast as a peer: the median over repeats of the ratio within a repeat.

    Args:
        seconds (Sequence[float]): Of each repeat.
        peer (Sequence[float]): The peer's, of the same repeats.

    Returns:
        float: Above 1: faster than the peer.
    """
    return statistics.median(theirs / ours for ours, theirs in zip(seconds, peer, strict=True))


def storage_bytes(tensors):
    """int: Bytes of memory behind tensors, what they share counted once."""
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors}
    return sum(storages.values())


def peak_bytes(step, device):
    """Most memory that a step has allocated at one time, above what was there before it.

    On a GPU it is the caching allocator's own count. On a CPU every allocation and release of torch's allocator is
    recorded by its profiler, which includes what operators allocate for themselves, but not the scratch memory that
    oneDNN and MKL take past that allocator.

    Args:
        step (Callable): Takes no argument; warm, so that what it keeps for ever is there already.
        device (torch.device): Where it runs.

    Returns:
        int: Bytes.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    changes = [(event.start_ns(), event.nbytes()) for event in profiler.profiler.kineto_results.events()
               if event.name() == '[memory]']
    live = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        live += change
        peak = max(peak, live)
    return peak
