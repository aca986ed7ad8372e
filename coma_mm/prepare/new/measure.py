"""How long an image takes in a training, on the machine at hand."""
import copy
import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch.utils.data import Dataset

from coma_mm.config.read import read_config

SECONDS = 5.
"""After which no further iteration begins."""
MOST_SECONDS = 15.
"""After which there is no second one."""
MOST = 20
"""Iterations."""


class Speed(NamedTuple):
    """What was measured.

    Args:
        per_image (float): Seconds of an image.
        iterations (int): Over how many iterations.
        reading (float): Seconds in which a core reads an image. Defaults to 0.
        computing (float): Seconds in which the model computes an image, on all cores or a GPU. Defaults to 0.
        checkpoint (int): Bytes of a checkpoint: the weights, and the two moments of AdamW of those that are trained.
            Defaults to 0.
    """
    per_image: float
    iterations: int
    reading: float = 0.
    computing: float = 0.
    checkpoint: int = 0


def measure_speed(text: str, batch: int) -> Speed:
    """Measure a config's training on its own data: reading, forward and backward pass of a small batch.

    Args:
        text (str): Of the config.
        batch (int): Images of its batch. On a CPU two are enough; a GPU wants up to 16.

    Returns:
        Speed: Seconds of an image.
    """
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), _no_new_loggers():
        path = Path(folder, 'new.py')
        path.write_text(text, encoding='utf-8', errors='surrogateescape')
        return measure_config(read_config(str(path)), batch)


def measure_config(cfg: Config, batch: int, dataset: Dataset | None = None) -> Speed:
    """Measure a config's training as `measure_speed` does.

    Args:
        cfg (Config): From `read_config`.
        batch (int): Images of its batch.
        dataset (Dataset, optional): Its training data. Defaults to building them.

    Returns:
        Speed: Seconds of an image.
    """
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        most = 16 if torch.cuda.is_available() else 1 if cfg.default_scope == 'mmdet' else 2  # BatchNorm wants two
        return _measure(cfg, dataset or DATASETS.build(cfg.train_dataloader.dataset), min(batch, most))


@contextmanager
def _no_new_loggers() -> Iterator[None]:
    """Forget the loggers that are made meanwhile: they would write to where standard output was then."""
    before = dict(MMLogger._instance_dict)
    try:
        yield
    finally:
        MMLogger._instance_dict.clear()
        MMLogger._instance_dict.update(before)


def _measure(cfg: Config, dataset: Dataset, batch: int) -> Speed:
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model_cfg = copy.deepcopy(cfg.model)
    model_cfg.backbone.init_cfg = None
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model_cfg).to(device).train()
    collate = default_collate if cfg.default_scope == 'mmpretrain' else pseudo_collate
    batch = max(1, min(batch, len(dataset)))
    half = cfg.optim_wrapper.get('type') == 'AutocastOptimWrapper'
    reading = computing = 0.
    begun = time.perf_counter()
    for iteration in range(MOST + 1):  # the first one is slower, and not counted unless it is the only one
        start = time.perf_counter()
        data = collate([dataset[(iteration * batch + number) % len(dataset)] for number in range(batch)])
        read = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            data = model.data_preprocessor(data, True)
            losses = model(**data, mode='loss')
            loss, _ = model.parse_losses(losses)
        loss.backward()
        if device.type == 'cuda':
            torch.cuda.synchronize()
        end = time.perf_counter()
        if iteration == 1:
            reading = computing = 0.
        reading, computing = reading + read - start, computing + end - read
        if end - begun > (SECONDS if iteration else MOST_SECONDS):
            break
    iterations = max(1, iteration)
    reading, computing = reading / (iterations * batch), computing / (iterations * batch)
    workers = max(1, len(os.sched_getaffinity(0)))
    # Beside a GPU the cores read; without one they do both.
    per_image = max(reading / workers, computing) if device.type == 'cuda' else reading / workers + computing
    trained = sum(value.nbytes for value in model.parameters() if value.requires_grad)
    held = sum(value.nbytes for value in model.state_dict().values())
    return Speed(per_image, iterations, reading, computing, held + 2 * trained)
