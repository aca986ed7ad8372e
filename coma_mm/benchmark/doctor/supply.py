"""How fast images come, from the disk and through the pipeline, against how fast the model takes them."""
import io
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from torch.utils.data import Dataset

from coma_mm.config.data_roots import check_data_roots
from coma_mm.config.read import read_config
from coma_mm.datasets.annotations import leaves, pipeline_steps
from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, walk_files
from coma_mm.datasets.loading import read_encoded, read_image, use_load_image
from coma_mm.datasets.samples import BandReading
from coma_mm.datasets.usage import many, number
from coma_mm.engine.workers import loader_workers
from coma_mm.errors import BadImageError, UserError
from coma_mm.files import check_folder
from coma_mm.prepare.new.measure import Speed, measure_config

from .finding import BAD, LOOK, OK, Finding
from .machine import free_memory, usable_cores

SECONDS = 2.
"""After which no further image is read."""
SAMPLE = 200
"""Images that are read at most."""
FEW = 1.2
"""How many times as many images as the model takes there should be, as reading varies."""

SMALLER = 'make the images smaller, once and for all'
PACK = ': coma-mm pack_dataset IMAGES OUT --short-side 256'
"""For images without masks and boxes."""
FASTER = f'put the images on a faster disk, or {SMALLER}'


class Reading(NamedTuple):
    """What was measured of some images.

    Args:
        disk (float): Images per second that the disk gives, or what is in its place: a server, a cache of its own.
        decode (float): Images per second that a core decodes.
        size (float): Bytes of a file.
        shape (tuple[int, int]): Height and width of the one in the middle, in px.
        bad (list[str]): Why some cannot be read.
    """
    disk: float
    decode: float
    size: float
    shape: tuple[int, int]
    bad: list[str]


class Planned(NamedTuple):
    """A config and its training data.

    Args:
        cfg (Config): The config.
        dataset (Dataset): What it trains on.
        reading (Reading): What was measured of its files.
        speed (Speed): What was measured of the training.
    """
    cfg: Config
    dataset: Dataset
    reading: Reading
    speed: Speed


def plan(path: str, data_root: str | None, options: dict[str, Any] | None) -> Planned:
    """Read a config, build its data and its model, and train it for some seconds, without a trace.

    Args:
        path (str): The config.
        data_root (str, optional): Folder of its data, instead of its own.
        options (dict, optional): Settings that replace those of the config.

    Returns:
        Planned: All of it.

    Raises:
        UserError: If the config or the data are not as expected.
    """
    with redirect_stdout(io.StringIO()):  # pycocotools tells how far it is
        cfg = read_config(path, options, data_root=data_root)
        check_data_roots(cfg, ['train'])
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            dataset = DATASETS.build(use_load_image(cfg.train_dataloader.dataset))
        samples = [dataset.get_data_info(index) for index in _some(range(len(dataset)))]
        bands = next((step.reading for one in leaves(dataset) for step in pipeline_steps(one)
                      if isinstance(getattr(step, 'reading', None), BandReading)), None)
        reading = measure_reading([one for one in samples if one.get('img_path')], bands)  # first, while not in memory
        return Planned(cfg, dataset, reading, measure_config(cfg, cfg.train_dataloader.batch_size, dataset))


def of_config(planned: Planned) -> Finding:
    """What the config is, in a line."""
    cfg, dataset, _, speed = planned
    per_update = cfg.train_dataloader.batch_size
    return Finding(OK, 'config', f'{cfg.model.type} on {many(len(dataset), "image")}, batches of {per_update}, tried on '
                   f'{many(speed.iterations, "iteration")}')


def of_training(planned: Planned) -> Finding:
    """How fast images come, against how fast the model takes them."""
    cfg, dataset, found, speed = planned
    if found.bad:
        return _unreadable(found.bad)
    workers = cfg.train_dataloader.num_workers
    workers = loader_workers()[0] if workers == 'auto' else workers
    at_once = min(max(workers, 1), usable_cores())
    line = compare(speed, found, at_once, torch.cuda.is_available(), workers, found.size * len(dataset) < free_memory() / 2)
    packs = line.remedy.endswith(SMALLER) and cfg.default_scope == 'mmpretrain'
    return line._replace(remedy=line.remedy + PACK) if packs else line


def compare(speed: Speed, found: Reading, at_once: float, on_gpu: bool, workers: int, kept: bool = False) -> Finding:
    """Set what the disk and the cores give against what the model takes.

    Args:
        speed (Speed): Of the model and of its pipeline.
        found (Reading): Of the disk.
        at_once (float): Cores that read.
        on_gpu (bool): Whether the model computes on a GPU, beside them.
        workers (int): Processes that read.
        kept (bool): Whether the memory holds all files after the first epoch. Defaults to False.

    Returns:
        Finding: Good if there are more images than the model takes.
    """
    takes, gives = 1 / max(speed.computing, 1e-9), at_once / max(speed.reading, 1e-9)
    line = (f'the model takes {_rate(takes)} images/s; reading and augmenting give {_rate(gives)} '
            f'({many(workers, "worker")} of {_rate(1 / max(speed.reading, 1e-9))}), the disk {_rate(found.disk)} '
            f'({found.disk * found.size / 1e6:.0f} MB/s)' + (' in the first epoch, the memory later' if kept else ''))
    if found.disk < takes * FEW and not kept:
        return Finding(LOOK, 'data', line, FASTER)
    if not on_gpu:  # the same cores do both
        share = 1 / gives / (1 / gives + 1 / takes)
        line += f'; reading is {100 * share:.0f} % of the time'
        return Finding(OK, 'data', line) if share < 0.5 else Finding(
            LOOK, 'data', line, SMALLER)
    if gives < takes * FEW:
        fit = -(-takes * FEW * speed.reading // 1)
        more = f'train_dataloader.num_workers={fit:.0f}' if fit <= usable_cores() else 'a machine with more cores'
        return Finding(LOOK, 'data', f'{line}: the GPU waits', f'take {more}, or {SMALLER}')
    return Finding(OK, 'data', line)


def of_folder(folder: str) -> Finding:
    """How fast the images of a folder come, where there is no model to compare with."""
    check_folder(folder, 'one with images', '--data')
    paths = [path for path in walk_files(folder) if path.lower().endswith(IMAGE_SUFFIXES)]
    if not paths:
        return Finding(BAD, 'data', f'no image in {folder} or the folders below it', 'give their folder by --data')
    found = measure_reading([dict(img_path=path) for path in _some(sorted(paths))])
    if found.bad:
        return _unreadable(found.bad)
    gives = found.decode * usable_cores()
    line = (f'{number(len(paths))} images, as of {found.shape[1]} × {found.shape[0]} px; the disk gives {_rate(found.disk)} '
            f'images/s ({found.disk * found.size / 1e6:.0f} MB/s), a core decodes {_rate(found.decode)}, all {_rate(gives)}')
    if found.disk < gives / 2 and found.size * len(paths) > free_memory() / 2:  # else it is so in the first epoch alone
        return Finding(LOOK, 'data', f'{line}: the cores wait for the disk', FASTER + PACK)
    return Finding(OK, 'data', line)


def of_nothing() -> Finding:
    """How fast this machine decodes a photograph's like, where no data are named."""
    noise = np.random.default_rng(0).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, 'JPEG', quality=90)
    rate, _ = _timed(lambda encoded: read_image('drawn', encoded), [file.getvalue()] * SAMPLE, 0.5)
    return Finding(OK, 'data', f'none named; a core decodes {_rate(rate)} images/s of 500 × 375 px (--data DIR measures a '
                   'folder; CONFIG measures its data and model)')


def shared_bytes(planned: Planned) -> float:
    """Bytes of the batches that workers have ready at once."""
    loader = planned.cfg.train_dataloader
    workers = loader_workers()[0] if loader.num_workers == 'auto' else loader.num_workers
    inputs = planned.dataset[0]['inputs']
    one = sum(view.nbytes for view in (inputs if isinstance(inputs, (list, tuple)) else [inputs]))
    return one * loader.batch_size * workers * (loader.get('prefetch_factor') or 2)


def checkpoint_bytes(planned: Planned) -> float:
    """Bytes of the checkpoints that a run keeps, and of the one that is being written."""
    hook = (planned.cfg.get('default_hooks') or {}).get('checkpoint') or {}
    loop = planned.cfg.get('train_cfg') or {}
    length, every = loop.get('max_epochs') or loop.get('max_iters') or 1, hook.get('interval') or -1
    written = max(1, length // every) if every > 0 else 1
    kept = hook.get('max_keep_ckpts') or -1
    return planned.speed.checkpoint * ((min(kept, written) if kept > 0 else written) + 1)


def measure_reading(samples: Sequence[dict], bands: BandReading | None = None) -> Reading:
    """Read and decode some images, the first time as if they had not been read before.

    Args:
        samples (Sequence[dict]): As `read_encoded` takes them.
        bands (BandReading, optional): How they are decoded. Defaults to 8-bit colour.

    Returns:
        Reading: Their speed. What is in the memory of a server or of the disk itself is not known here.

    Raises:
        UserError: If there is none.
    """
    if not samples:
        raise UserError('the training data name no image file')
    for sample in samples:
        _forget(sample.get('shard') or sample['img_path'])
    disk, encoded = _timed(read_encoded, samples, SECONDS)
    shapes, bad = [], []

    def pixels(sample: dict, content: bytes) -> np.ndarray:
        if bands is None:
            return read_image(sample['img_path'], content)
        with bands.open(sample) as image:
            return image.read()[0]

    def decode(pair: tuple[dict, bytes]) -> None:
        try:
            shapes.append(pixels(*pair).shape[:2])
        except BadImageError as error:
            bad.append(str(error))

    rate, _ = _timed(decode, list(zip(samples, encoded, strict=False)), SECONDS)
    size = sum(map(len, encoded)) / len(encoded)
    return Reading(disk, rate, size, sorted(shapes)[len(shapes) // 2] if shapes else (0, 0), bad)


def _unreadable(bad: list[str]) -> Finding:
    more = f' (and {len(bad) - 1} more of those tried)' if len(bad) > 1 else ''
    return Finding(BAD, 'data', f'{bad[0]}{more}')


def _some(items: Sequence) -> list:
    return random.Random(0).sample(items, min(SAMPLE, len(items)))


def _forget(path: str) -> None:
    """Have the system forget what it holds of a file in memory, where it can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _timed(work: Callable, items: Iterable, seconds: float) -> tuple[float, list]:
    """Items per second, and the results, of as many as there is time for; one at least."""
    start, results = time.perf_counter(), []
    for item in items:
        results.append(work(item))
        spent = time.perf_counter() - start
        if spent > seconds:
            break
    return len(results) / max(spent, 1e-9), results


def _rate(value: float) -> str:
    return number(round(value)) if value >= 10 else f'{value:.2g}'
