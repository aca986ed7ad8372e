"""What experiment trackers are given of a run: TensorBoard, Weights & Biases, MLflow, and others that mmengine has."""
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend, MLflowVisBackend, Visualizer, WandbVisBackend
from mmengine.visualization.vis_backend import BaseVisBackend

from coma_mm.errors import printable


def trackers(visualizer: Visualizer) -> list[BaseVisBackend]:
    """What a visualiser writes to beside the files of the work dir."""
    return [one for one in visualizer._vis_backends.values() if not isinstance(one, LocalVisBackend)]


def set_up(visualizer: Visualizer, runner: Runner) -> None:
    """Have the trackers of a run show everything over its iterations, and never stop it.

    mmengine gives them metrics at the number of the epoch, where the losses of the iteration of that number are, and the
    times of a validation under the names of those of training. Here names begin with train/ or val/, as with its
    `log_with_hierarchy`, which trackers group them by. The files of the work dir are as mmengine writes them.

    Args:
        visualizer (Visualizer): Of the run, as it was built.
        runner (Runner): The run.
    """
    for backend in trackers(visualizer):
        if isinstance(backend, MLflowVisBackend) and not backend._tracking_uri:
            backend._tracking_uri = os.environ.get('MLFLOW_TRACKING_URI')  # which mmengine passes over
        going_on = _Going(type(backend).__name__, runner)
        backend.add_scalars = going_on(_over_iterations(backend, runner))
        backend.add_image = going_on(_named_by_iteration(backend))
        backend.close = going_on(_close_of(backend))


def iteration(runner: Runner) -> int:
    """How many iterations a run has done; 0 where nothing is trained."""
    loop = runner._train_loop
    return 0 if loop is None or isinstance(loop, dict) else loop.iter


def host_memory() -> float | None:
    """MiB of this process in the machine's memory; None where the system does not say."""
    try:
        return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20
    except (OSError, ValueError, IndexError):
        return None


def _over_iterations(backend: BaseVisBackend, runner: Runner) -> Callable[..., None]:
    # Of the class, as a visualiser of the same name may be one of an earlier run in this process.
    write = partial(type(backend).add_scalars, backend)

    def add_scalars(scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        scalars = dict(scalar_dict)
        if file_path is not None:  # only mmengine's LoggerHook gives one; other hooks know their steps
            split = 'train' if 'iter' in scalars else 'val'
            if split == 'val':
                step = iteration(runner)
            elif memory := host_memory():
                scalars['host_memory'] = memory
            scalars.pop('iter', None)
            scalars = {name if name.startswith(f'{split}/') else f'{split}/{name}': value for name, value in scalars.items()}
            if isinstance(backend, WandbVisBackend):  # which takes no step, see `use_trackers`
                scalars['iter'] = step
        write(scalars, step, file_path, **kwargs)

    return add_scalars


def _named_by_iteration(backend: BaseVisBackend) -> Callable[..., None]:
    write = partial(type(backend).add_image, backend)

    def add_image(name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        if isinstance(backend, WandbVisBackend):
            backend.experiment.log({name: backend.experiment.Image(image), 'iter': step})
        elif isinstance(backend, MLflowVisBackend):  # a file, which the next one of that name would replace
            write(f'{name}_{step:08d}.png', image, step, **kwargs)
        else:
            write(name, image, step, **kwargs)

    return add_image


def _close_of(backend: BaseVisBackend) -> Callable[[], None]:
    if not isinstance(backend, WandbVisBackend):
        return partial(type(backend).close, backend)

    def finish() -> None:  # mmengine calls its old name, `join`
        if hasattr(backend, '_wandb'):
            backend._wandb.finish()

    return finish


class _Going:
    """Lets training go on where a tracker fails, and says so once each time that it begins to."""

    def __init__(self, name: str, runner: Runner):
        self.name, self.runner, self.failed = name, runner, False

    def __call__(self, write: Callable[..., None]) -> Callable[..., None]:

        def write_if_possible(*args: Any, **kwargs: Any) -> None:
            try:
                write(*args, **kwargs)
                self.failed = False
            except Exception as error:  # by the tracker's library
                if not self.failed:
                    why = printable((str(error) or type(error).__name__).splitlines()[0])
                    self.runner.logger.error(f'cannot write to {self.name}: {why}; training goes on')
                self.failed = True

        return write_if_possible
