"""Images per second of a config's training data, against mmpretrain's default pipeline on the same files."""
import itertools
import os
import platform
import statistics
import time
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from coma_mm.config.data_roots import check_data_roots
from coma_mm.config.read import parse_options, read_config
from coma_mm.datasets.seeding import seed_dataloader
from coma_mm.errors import UserError
from coma_mm.files import write_metrics
from coma_mm.progress import Progress

PEER = 'mmpretrain::_base_/datasets/imagenet_bs512_mae.py'


def run(args):
    """Measure, and print a table."""
    cfg = read_config(args.config, parse_options(args.cfg_options), data_root=args.data_root)
    check_data_roots(cfg, ['train'])
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    torch.set_num_threads(1)
    loaders = dict(ours=deepcopy(cfg.train_dataloader), peer=peer_dataloader(cfg.train_dataloader, args.files))
    # Built before it is seeded, so that it reads images as mmpretrain does.
    loaders['peer']['dataset'] = DATASETS.build(loaders['peer']['dataset'])
    found = dict(
        config=args.config, batch_size=cfg.train_dataloader.batch_size, batches=args.batches, repeats=args.repeats,
        step_ms=args.step, cores=len(os.sched_getaffinity(0)), machine=platform.processor() or platform.machine(),
        torch=torch.__version__, results=[])
    with Progress(transient=True) as progress:
        bar = progress.add_task('loading', total=len(args.workers) * args.repeats * 2)
        for workers in args.workers:
            times = {name: [] for name in loaders}
            for _, name in itertools.product(range(args.repeats), loaders):
                loader = build(loaders[name], workers)
                loaders[name]['dataset'] = loader.dataset  # built once
                times[name].append(measure(loader, args.batches, args.step))
                progress.advance(bar)
            found['results'].append(summarise(workers, times))
    Console(width=max(Console().width, 100)).print(table(found))  # no title cut short in a file
    if args.out:
        write_metrics(found, args.out)


def peer_dataloader(dataloader, files=None):
    """The same loader with mmpretrain's default pre-training pipeline.

    Args:
        dataloader (dict): The config's.
        files (str, optional): Folder of image files. Defaults to the data set's own.

    Returns:
        dict: A config of a loader.

    Raises:
        UserError: If the data set is a pack and `files` is missing.
    """
    peer = deepcopy(dataloader)
    if files:
        peer['dataset'] = dict(type='ImageFolder', data_root=files)
    elif peer['dataset'].get('type') == 'PackedImages':
        raise UserError("the config reads a pack, and mmpretrain's pipeline image files: give their folder by --files")
    peer['dataset']['pipeline'] = Config.fromstring(f'_base_ = {PEER!r}', '.py').train_pipeline
    return peer


def build(dataloader, workers):
    """DataLoader: Without end, in random order, seeded as in training."""
    dataloader = dict(dataloader, num_workers=workers, persistent_workers=False, pin_memory=False,
                      sampler=dict(type='InfiniteSampler', shuffle=True))
    seed_dataloader(dataloader)
    return Runner.build_dataloader(dataloader, seed=0)


def measure(loader, batches, step_ms=None):
    """Load for a while.

    Args:
        loader (DataLoader): Without end.
        batches (int): Number of batches that are timed.
        step_ms (float, optional): A step's length; without it no step is timed. Defaults to None.

    Returns:
        dict: `images_per_s`; `images_per_cpu_s`, per second of processor time, or None with workers; and `wait_ms`, what a
        step waits on average, or None.
    """
    iterator = iter(loader)
    for _ in range(2 * loader.num_workers + 1):  # as many are prepared ahead
        next(iterator)
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    seconds, cpu_seconds, wait = time.perf_counter() - start, time.process_time() - cpu_start, 0
    for _ in range(batches if step_ms else 0):
        time.sleep(step_ms / 1000)
        start = time.perf_counter()
        next(iterator)
        wait += time.perf_counter() - start
    images = batches * loader.batch_size
    return dict(images_per_s=images / seconds, images_per_cpu_s=None if loader.num_workers else images / cpu_seconds,
                wait_ms=1000 * wait / batches if step_ms else None)


def summarise(workers, times):
    """dict: Medians of what `measure` found, for `ours` and `peer`, and of the ratios of the two."""
    found = dict(workers=workers)
    for name, measured in times.items():
        found[name] = {key: _median([one[key] for one in measured]) for key in measured[0]}
        found[name]['images_per_s_per_worker'] = found[name]['images_per_s'] / max(1, workers)
        found[name]['repeats'] = measured
    for key, title in (('images_per_s', 'ratio'), ('images_per_cpu_s', 'cpu_ratio')):
        pairs = [(ours[key], peer[key]) for ours, peer in zip(times['ours'], times['peer'], strict=True)]
        found[title] = _median([None if None in pair else pair[0] / pair[1] for pair in pairs])
    return found


def _median(values):
    return None if None in values else statistics.median(values)


def table(found):
    """Table: Of what was found, for a person."""
    table = Table(title=f'{found["config"]}: images/s on {found["cores"]} cores', caption='peer: mmpretrain; CPU ratio: of '
                  'images per second of processor time')
    titles = ['workers', 'ours', 'per worker', 'scaling', 'peer', 'ratio', 'CPU ratio']
    if found['step_ms']:
        titles += ['wait', 'peer waits']
        table.caption += f'; wait: of a step of {found["step_ms"]:g} ms for its batch'
    for title in titles:
        table.add_column(title, justify='right')
    first = found['results'][0]['ours']['images_per_s']
    for one in found['results']:
        cells = [str(one['workers']), f'{one["ours"]["images_per_s"]:.0f}', f'{one["ours"]["images_per_s_per_worker"]:.0f}',
                 f'{one["ours"]["images_per_s"] / first:.2f}', f'{one["peer"]["images_per_s"]:.0f}', f'{one["ratio"]:.2f}',
                 f'{one["cpu_ratio"]:.2f}' if one['cpu_ratio'] else '']
        if found['step_ms']:
            cells += [f'{one[name]["wait_ms"]:.1f} ms' for name in ('ours', 'peer')]
        table.add_row(*cells)
    return table
