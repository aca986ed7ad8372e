"""Pictures for experiment trackers, at each validation of a run."""
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from coma_mm.datasets.seeding import kept_generators
from coma_mm.engine.models import unwrap
from coma_mm.engine.tracking import iteration, trackers
from coma_mm.errors import printable
from coma_mm.ranges import whole

from .predictions import classification_figure, detection_figure, segmentation_figure
from .reconstruction import reconstruction_figure

FIGURES = dict(
    MaskedAutoencoder=('reconstructions', reconstruction_figure), BaseSegmentor=('predictions', segmentation_figure),
    BaseDetector=('predictions', detection_figure), BaseClassifier=('predictions', classification_figure))
"""By a class that a model is of: what its pictures are called, and what draws them."""
DPI = 110


@HOOKS.register_module()
class ValidationPicturesHook(Hook):
    """Gives a run's experiment trackers a picture at each validation, of the weights that were validated.

    It shows reconstructions of a masked autoencoder, and predictions of a classifier, a segmenter or a detector beside the
    truth. Without a tracker it does nothing. A picture that cannot be drawn is said, and training goes on without; what is
    drawn changes nothing of it.

    Args:
        number (int): Images of the validation data, evenly spread. Defaults to 4.
    """
    priority = 'ABOVE_NORMAL'  # an EMAHook puts back the weights of training at NORMAL

    def __init__(self, number: int = 4):
        self.number = whole(1).check('ValidationPicturesHook: number', number)
        self.failed = False

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Draw, and hand the picture to each tracker."""
        backends, model = trackers(runner.visualizer), unwrap(runner.model)
        name, draw = _figure_of(model)
        if self.failed or draw is None or not backends or not is_main_process():
            return
        try:
            with kept_generators():
                image = as_array(draw(model, runner.val_dataloader.dataset, self.number))
        except Exception as error:  # such as masks that the annotations do not have
            self.failed = True
            why = printable(f'{type(error).__name__}: {error}'.splitlines()[0])
            runner.logger.warning(f'cannot draw the {name} for the tracker ({why}); training goes on without pictures')
            return
        for backend in backends:
            backend.add_image(f'val/{name}', image, iteration(runner))


def _figure_of(model: nn.Module) -> tuple[str, Callable[..., Figure] | None]:
    kinds = (kind.__name__ for kind in type(model).__mro__)  # by name: importing the libraries' models takes seconds
    return next((FIGURES[kind] for kind in kinds if kind in FIGURES), ('', None))


def as_array(figure: Figure) -> np.ndarray:
    """A figure as an image.

    Args:
        figure (Figure): Of matplotlib.

    Returns:
        ndarray: RGB uint8 (H, W, 3).
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
