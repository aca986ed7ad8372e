"""Drawings of a test's predictions, each under the path of its image."""
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.dist import get_world_size
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from coma_mm.datasets.annotations import leaves
from coma_mm.datasets.viewing import bands_read, read_picture, seen
from coma_mm.engine.models import unwrap
from coma_mm.files import made_folder


@HOOKS.register_module()
class DrawingsHook(Hook):
    """Draws the predictions of a test into a folder, by the visualizer of the library that the model is of.

    The libraries' own hooks call a drawing after its image's file, so of two images a/x.jpg and b/x.jpg one would be lost.
    Here the folder has the folders that the images are in, below that of the data: a/x.jpg.png and b/x.jpg.png.

    Args:
        out_dir (str): Where the drawings go.
        interval (int): Every how many images are drawn. Defaults to 1, all.
        score_thr (float, optional): The lowest score of a detection that is drawn. Defaults to the visualizer's, 0.3.
        backend_args (dict, optional): How image files are read, of mmengine's file backends. Defaults to a disk's.
        **options: More for the visualizer's drawing method, `visualize_cls` or `add_datasample`.
    """

    def __init__(self, out_dir: str, interval: int = 1, score_thr: float | None = None, backend_args: dict | None = None,
                 **options: Any):
        self.out_dir, self.interval, self.backend_args = os.path.abspath(out_dir), interval, backend_args
        self.options = options if score_thr is None else dict(options, pred_score_thr=score_thr)

    def before_test_epoch(self, runner: Runner) -> None:
        """Find the folder of the images."""
        self.root, self.count = image_folder(runner.test_dataloader.dataset), 0
        self.bands = bands_read(runner.test_dataloader.dataset)
        if get_world_size() > 1:
            runner.logger.warning(f'--show-dir: of {get_world_size()} processes the first one draws, and that its own '
                                  'images alone; test with one process to have them all')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                        outputs: Sequence | None = None) -> None:
        """Draw the images of a batch."""
        for number, sample in enumerate(outputs):
            self.count += 1
            if (self.count - 1) % self.interval:
                continue
            path = sample.get('img_path')
            file = Path(self.out_dir, f'{name_below(path, self.root) if path else self.count - 1}.png')
            with made_folder(file.parent):
                if hasattr(runner.visualizer, 'visualize_cls'):
                    image = data_batch['inputs'][number]
                    image = _as_rgb(image, runner) if self.bands is None else seen(
                        image.permute(1, 2, 0).cpu().numpy(), self.bands)
                    runner.visualizer.visualize_cls(image, sample, out_file=str(file), **self.options)
                else:
                    image = mmcv.imfrombytes(get(path, backend_args=self.backend_args), channel_order='rgb') \
                        if self.bands is None else read_picture(dict(img_path=path), self.bands)
                    runner.visualizer.add_datasample('', image, sample, out_file=str(file), **self.options)


def image_folder(dataset: Dataset) -> str:
    """The folder below which all images of a data set are, by its prefixes and roots; '/' if they name none."""
    folders = []
    for leaf in leaves(dataset):
        prefixes = getattr(leaf, 'data_prefix', None) or {}
        folders.append(prefixes.get('img_path') or prefixes.get('img') or getattr(leaf, 'data_root', None) or os.sep)
    return os.path.commonpath(map(os.path.abspath, folders))


def name_below(path: str, folder: str) -> str:
    """The path of a file below a folder; of one that is elsewhere, its whole path without the first slash."""
    path = os.path.abspath(path)
    name = os.path.relpath(path, folder)
    return path.lstrip(os.sep) if name.startswith(os.pardir) else name


def _as_rgb(image: Any, runner: Runner) -> np.ndarray:
    """The input of a classifier as a visualizer takes it."""
    image = image.permute(1, 2, 0).cpu().numpy().astype('uint8')
    turned = getattr(unwrap(runner.model).data_preprocessor, 'to_rgb', False)
    return image[..., ::-1].copy() if turned else image
