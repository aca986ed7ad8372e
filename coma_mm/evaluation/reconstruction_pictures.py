"""A picture of what a pre-training reconstructs, at each of its validations."""
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from mmengine.dataset import default_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import LocalVisBackend
from PIL import Image, ImageDraw, ImageFont

from coma_mm.config_tree import type_name
from coma_mm.datasets.seeding import kept_generators
from coma_mm.datasets.usage import many
from coma_mm.engine.models import unwrap
from coma_mm.engine.tracking import iteration
from coma_mm.errors import printable
from coma_mm.models.masked_autoencoder import MaskedAutoencoder
from coma_mm.ranges import number as number_in
from coma_mm.ranges import whole

from .beside_training import TimeShare, ends_here
from .panels import BORROWED, panel_title, reconstruction_panels, spread_indices

NAME = 'reconstructions'
"""Of the pictures in trackers, after `val/`, and of the files in the run's `vis_data/vis_image`, with their iteration."""
SIDES = 128, 256
"""The least and the greatest side of an image in the picture, in px."""
GAP, FONT = 4, 13


@HOOKS.register_module()
class ReconstructionsHook(Hook):
    """Draws at each validation of a pre-training what the model reconstructs of some fixed images, with fixed masks.

    The picture is a file of the run, `vis_data/vis_image/reconstructions_<iteration>.png`, of which the first one and the
    latest ones are kept, and goes to each tracker, unless `ValidationPicturesHook` has one for them. Nothing of the training
    changes: what is drawn takes a tenth of a second, and what cannot be drawn is said once. Models that are no masked
    autoencoders have no picture.

    Args:
        number (int): Images of the validation data, evenly spread. Defaults to 4.
        keep (int): Files that a run keeps at most. Defaults to 10.
        max_share (float): A picture is left out where they would take more than this share of the run's time, but for the
            first and the last one. Defaults to 0.01.
    """
    priority = 'ABOVE_NORMAL'  # an EMAHook puts back the weights of training at NORMAL

    def __init__(self, number: int = 4, keep: int = 10, max_share: float = 0.01):
        for name, value, values in (('number', number, whole(1)), ('keep', keep, whole(2)),
                                    ('max_share', max_share, number_in(0, 1))):
            values.check(f'ReconstructionsHook: {name}', value)
        self.number, self.keep, self.max_share = number, keep, max_share
        self.draws, self.drawn, self.left_out, self.time = False, 0, 0, TimeShare()

    def before_train(self, runner: Runner) -> None:
        """Look at whether there will be anything to draw."""
        self.time.begin(runner)
        self.draws = is_main_process() and isinstance(runner._train_loop, BaseLoop) and isinstance(
            unwrap(runner.model), MaskedAutoencoder)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Draw, and hand the picture on."""
        if not self.draws:
            return
        if not ends_here(runner) and self.time.by_the_end(runner) > self.max_share < 1:
            self.left_out += 1
            return
        try:
            with self.time.timed(), kept_generators():
                image = reconstruction_picture(unwrap(runner.model), runner.val_dataloader.dataset, self.number)
                self._hand_on(image, runner)
            self.drawn += 1
        except Exception as error:  # of a pipeline or a model of anybody's
            self.draws = False
            why = printable(f'{type(error).__name__}: {error}'.splitlines()[0])
            runner.logger.warning(f'cannot draw the {NAME} ({why}); training goes on without pictures')

    def after_train(self, runner: Runner) -> None:
        """Say what it took."""
        if self.drawn:
            left_out = f'; {self.left_out} validations have none, for max_share={self.max_share:g}' if self.left_out else ''
            runner.logger.info(f'Drawing {many(self.drawn, f"picture of {NAME}")} took {self.time.seconds:.1f} s, '
                               f'{self.time.of_run():.1%} of the time of this run{left_out}')

    def _hand_on(self, image: np.ndarray, runner: Runner) -> None:
        elsewhere = any(type_name(hook) == 'ValidationPicturesHook' for hook in runner.hooks)
        for backend in runner.visualizer._vis_backends.values():
            if isinstance(backend, LocalVisBackend):
                backend.add_image(NAME, image, iteration(runner))
                self._thin(Path(backend._img_save_dir))
            elif not elsewhere:
                backend.add_image(f'val/{NAME}', image, iteration(runner))

    def _thin(self, folder: Path) -> None:
        """Remove the second picture and those after it, until no more are left than are to be kept."""
        files = pictures_in(folder)
        for file in files[1:max(1, len(files) - self.keep + 1)]:
            file.unlink(missing_ok=True)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that the hook has drawn into a folder, by their iterations."""
    found = [file for file in folder.glob(f'{NAME}_*.png') if file.stem.removeprefix(f'{NAME}_').isdecimal()]
    return sorted(found, key=lambda file: int(file.stem.removeprefix(f'{NAME}_')))


def reconstruction_picture(model: MaskedAutoencoder, dataset: Sequence[dict], number: int = 4) -> np.ndarray:
    """One row per image, with the panels of `reconstruction_panels`; drawn in a tenth of a figure's time.

    Args:
        model (MaskedAutoencoder): Or CoMA. The mode of each of its parts is restored.
        dataset (Sequence[dict]): A data set whose pipeline ends in `PatchMask` and `PackMaskedImage`.
        number (int): Images, evenly spread over the data set. Defaults to 4.

    Returns:
        ndarray: RGB uint8 (H, W, 3).
    """
    batch = default_collate([dataset[index] for index in spread_indices(dataset, number)])
    panels = reconstruction_panels(model, batch['inputs'], batch['ids_keep'], batch['ids_rest'])
    height, width = panels['input'].shape[1:3]
    least, most = SIDES
    scale = max(1, math.ceil(least / max(height, width))) * min(1., most / max(height, width))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    top, below = 3 * FONT, 2 * FONT if model.head.norm_pix else 0
    rows = len(panels['input'])
    picture = Image.new('RGB', (len(panels) * (width + GAP) - GAP, top + rows * (height + GAP) - GAP + below), 'white')
    draw = ImageDraw.Draw(picture)
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf'), FONT)
    for column, (name, images) in enumerate(panels.items()):
        left = column * (width + GAP)
        draw.multiline_text((left + width / 2, top - GAP), panel_title(model, name), 'black', font, 'md', align='center')
        for row, image in enumerate(images):
            shown = Image.fromarray(image).resize(
                (width, height), Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)
            picture.paste(shown, (left, top + row * (height + GAP)))
    if below:
        draw.text((GAP, picture.height - below / 2), BORROWED, 'black', font, 'lm')
    return np.asarray(picture)
