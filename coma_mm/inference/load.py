"""A trained model, ready for images, from its checkpoint alone."""
import copy
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseTTAModel
from mmengine.registry import TRANSFORMS, DefaultScope
from mmengine.structures import BaseDataElement
from torch import nn

from coma_mm.config.read import read_config, use_tta
from coma_mm.config_tree import find_types, type_name
from coma_mm.datasets.bands import Bands, picture
from coma_mm.datasets.loading import LoadImage, as_color, use_load_image
from coma_mm.engine.description import describe
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError, first_names, printable
from coma_mm.weights.bounded import Bounded
from coma_mm.weights.description import decode, read_description
from coma_mm.weights.load import load_weights_only
from coma_mm.weights.released import released

from .images import Picture, as_read, several
from .result import Result, to_result

Image = str | Path | np.ndarray


@dataclass
class Usable:
    """A trained model, and how it is used.

    Args:
        model (nn.Module): In evaluation mode, on its device.
        task (str): 'classification', 'segmentation', 'detection' or 'pretraining'.
        classes (list[str] | None): Their names.
        palette (list[list[int]] | None): A colour for each, RGB from 0 to 255, if the data has some.
        pipeline (list[dict] | None): The config of what is done to an image, of the library `scope`.
        scope (str): 'mmpretrain', 'mmseg' or 'mmdet'.
        checkpoint (str): The file that it is from.
        meta (dict): What that says of itself.
        amp (bool): Whether it computes in bf16. Defaults to False.
        bands (Bands, optional): What it sees, if that is not 8-bit colour. Defaults to None.
        rgb (Sequence[int | str], optional): Of these the three to look at. Defaults to what `Bands.rgb` says.
    """
    model: nn.Module
    task: str
    classes: list[str] | None
    palette: list[list[int]] | None
    pipeline: list[dict] | None
    scope: str
    checkpoint: str
    meta: dict[str, Any] = field(repr=False)
    amp: bool = False
    bands: Bands | None = None
    rgb: Sequence[int | str] | None = None

    @property
    def takes_arrays(self) -> bool:
        """Whether an image may be read before: its first step would read it as 8-bit colour."""
        return type_name(use_load_image(self.pipeline)[0]) == 'LoadImage'

    @cached_property
    def _steps(self) -> Compose:
        """What is done to an image that is read, or, if its first step reads it in another way, to a file."""
        with DefaultScope.overwrite_default_scope(self.scope):
            return Compose([TRANSFORMS.build(copy.deepcopy(one)) for one in self.pipeline[self.takes_arrays:]])

    def check(self) -> None:
        """Raise a UserError if this model predicts nothing."""
        if self.task == 'pretraining':
            raise UserError(f'{self.checkpoint} was pre-trained and predicts nothing; fine-tune it first, or look at what '
                            'it reconstructs with coma-mm visualize reconstruct')
        if not self.pipeline:
            raise UserError(f'{self.checkpoint} does not say what is done to an image before; pass --config CONFIG, one '
                            'with a test_dataloader')

    def prepare(self, image: Image) -> dict[str, Any]:
        """Have the pipeline make a sample of an image.

        Args:
            image (str | Path | ndarray): A file, or uint8 (H, W, 3) in the order BGR, or grey (H, W); for a model of other
                bands, these in the order in which it reads them.

        Returns:
            dict: With 'inputs' and 'data_samples', as `predict_samples` takes them.

        Raises:
            BadImageError: If the file cannot be decoded.
            UserError: If there is no such file, or this model predicts nothing.
        """
        self.check()
        given = dict(img_id=0, img_path='')
        if not isinstance(image, np.ndarray):
            given['img_path'] = str(image)
            image = self.read(given['img_path']) if self.takes_arrays else None
        elif not self.takes_arrays:
            raise UserError(f'{self.checkpoint} is of images that {self.pipeline[0]} reads; give it files')
        if image is not None:
            image = as_color(image) if self.bands is None else as_read(image, self.bands)
            given.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        with DefaultScope.overwrite_default_scope(self.scope):
            return self._steps(given)

    def read(self, path: str) -> np.ndarray:
        """Read an image file as `prepare` takes arrays.

        Raises:
            BadImageError: If the file cannot be decoded, or has other bands.
            UserError: If there is no such file.
        """
        return as_read(path, self.bands, self.reading)

    @cached_property
    def reading(self) -> LoadImage | None:
        """The step that reads files of other bands, see `loading_step`."""
        return loading_step(self.pipeline, self.checkpoint)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """What `read` gives as uint8 (H, W, 3), BGR, to look at."""
        if self.bands is None:
            return image
        return np.ascontiguousarray(picture(image, **self.bands.view(self.rgb))[..., ::-1])

    @torch.no_grad()
    def predict_samples(self, samples: list[dict[str, Any]]) -> list[BaseDataElement]:
        """The model's results for samples whose inputs are of one size.

        Args:
            samples (list[dict]): From `prepare`.

        Returns:
            list[BaseDataElement]: Of the library, on the CPU, in the scale of the image.
        """
        kind = next(self.model.parameters()).device.type
        with (DefaultScope.overwrite_default_scope(self.scope), warnings.catch_warnings(),
              torch.autocast(kind, torch.bfloat16, enabled=self.amp)):
            warnings.filterwarnings('ignore', 'The shape of value will convert', UserWarning)  # mmsegmentation's TTA
            return [one.cpu() for one in self.model.test_step(pseudo_collate(samples))]

    def predict(self, images: Iterable[Image], batch_size: int = 1) -> Iterator[BaseDataElement]:
        """Predict.

        Images of one size that follow each other go through the model together, so that no result depends on its neighbours.

        Args:
            images (Iterable): See `prepare`.
            batch_size (int): The most images at a time. Defaults to 1.

        Yields:
            BaseDataElement: mmpretrain's `DataSample`, mmsegmentation's `SegDataSample` or mmdetection's `DetDataSample`, in
            the scale of the image, in the order of the images.
        """
        for _, samples in groupby(map(self.prepare, images), shape_of):
            for batch in batched(samples, batch_size):
                yield from self.predict_samples(batch)

    def __call__(self, images: Picture | Sequence[Picture], batch_size: int = 1) -> Result | list[Result]:
        """Predict, for Python and notebooks.

        Args:
            images (Picture | Sequence[Picture]): One image, or several: paths, arrays in RGB, Pillow's images, tensors. For
                a model of other bands than RGB: paths, or arrays (H, W, bands).
            batch_size (int): See `predict`. Defaults to 1.

        Returns:
            Result | list[Result]: For each image, in order.
        """
        given, single = several(images)
        arrays = [self.read(os.fspath(one)) if isinstance(one, (str, os.PathLike)) else as_read(one, self.bands)
                  for one in given]
        found = [to_result(sample, self.picture(array), self.task, self.classes, self.palette)
                 for sample, array in zip(self.predict(arrays, batch_size), arrays, strict=True)]
        return found[0] if single else found


def shape_of(sample: dict[str, Any]) -> Any:
    """The shape of a sample's input; of the first one, where there are several by test-time augmentation."""
    inputs = sample['inputs']
    return tuple(one.shape for one in inputs) if isinstance(inputs, list) else inputs.shape


def batched(values: Iterable, size: int) -> Iterator[list]:
    """Lists of so many values, the last one shorter; each is made when it is asked for."""
    batch = []
    for value in values:
        batch.append(value)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def load_described(checkpoint: str | Path, config: str | Path | Config | None = None,
                   device: str | torch.device = 'cpu', tta: bool = False) -> Usable:
    """Make a trained model ready for images.

    What a checkpoint says of its use is data: nothing in it is run, imported, fetched or opened.

    Args:
        checkpoint (str | Path): Of a whole model, as `load_weights_only` reads it, or the name of released weights.
        config (str | Path | Config, optional): The config that it was trained with, which is code and is run. Defaults to
            what the checkpoint says of its use.
        device (str | device): Where to compute. Defaults to 'cpu'.
        tta (bool): Whether images are augmented, see `use_tta`; its defaults are flips. Defaults to False.

    Returns:
        Usable: The model.

    Raises:
        UserError: If the checkpoint cannot be read, does not say how it is used, says what there may not be, or does not
            hold the model.
    """
    path = released(str(checkpoint))
    loaded = load_weights_only(path)
    try:
        torch.empty(0, device=device)
    except Exception as error:  # RuntimeError, AssertionError, ... by what is missing
        line = str(error).splitlines()[0]
        raise UserError(f'cannot compute on {device} ({line}); choose a device that is there, such as cpu') from error
    if config is None:
        use, by = read_description(loaded['meta'], path), 'its own description'
        with _buildable(path), Bounded(loaded['state_dict'], path):
            model = build_model(_config(use, tta))
    else:
        cfg = config if isinstance(config, Config) else read_config(str(config))
        by = cfg.filename or 'the config'
        model = build_model(cfg)
        trained_on = loaded['meta'].get('dataset_meta')
        use = describe(cfg, model, trained_on if isinstance(trained_on, dict) and trained_on else None)
        if use is None:
            raise UserError(f'{by}: the model is a {type(model).__name__}; expected a classifier, a segmentor or a detector')
        use = decode(use)
        if tta:
            model = build_model(_config(use, tta))
    _fill(model.module if isinstance(model, BaseTTAModel) else model, loaded['state_dict'], path, by)
    model.to(device).eval()
    usable = Usable(model, use['task'], use['classes'], use['palette'], use['pipeline'], use['scope'], path, loaded['meta'],
                    bands=described_bands(use))
    if usable.pipeline and usable.task != 'pretraining':
        with _buildable(path) if config is None else nullcontext():
            usable._steps  # noqa: B018 - built once, and now
    return usable


def described_bands(use: dict[str, Any]) -> Bands | None:
    """What a model sees, as its description or else its loading step says; None for 8-bit colour."""
    if use.get('bands'):
        return Bands.of_plain(use['bands'])
    return Bands.of(next((one['bands'] for one in find_types(use['pipeline'], 'LoadImage') if one.get('bands')), None), None)


def loading_step(pipeline: Any, path: str) -> LoadImage | None:
    """The first step of a pipeline that reads bands, with all that is said of these; None where there is none.

    Args:
        pipeline (list[dict] | None): Of a description.
        path (str): The checkpoint that it is of, for messages.

    Returns:
        LoadImage | None: The step.

    Raises:
        UserError: If it cannot be built.
    """
    step = next((one for one in find_types(pipeline, 'LoadImage') if one.get('bands') is not None), None)
    with _buildable(path):
        return step and LoadImage(**{key: value for key, value in step.items() if key not in ('type', '_scope_')})


def _config(use: dict[str, Any], tta: bool) -> Config:
    """The config of the model; with `tta` that of the model around it, whose pipeline goes into `use`."""
    cfg = Config(dict(model=use['model'], default_scope=use['scope']))
    if tta and use['pipeline'] and use['task'] != 'pretraining':
        cfg.test_dataloader = dict(dataset=dict(pipeline=use['pipeline']))
        if use['tta']:
            cfg.tta_model, cfg.tta_pipeline = use['tta']['model'], use['tta']['pipeline']
        elif use['scope'] == 'mmseg':
            cfg.tta_model = dict(type='SegTTAModel')
        use_tta(cfg)
        use['pipeline'] = cfg.test_dataloader.dataset.pipeline
    return cfg


@contextmanager
def _buildable(path: str) -> Iterator[None]:
    """Whatever the libraries' classes raise on what a checkpoint says is to blame on that."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = printable(' '.join(f'{type(error).__name__}: {error}'.split()))[:300]
        raise UserError(f'{path}: what it says of its use cannot be built ({line}); pass --config CONFIG, the config '
                        'that it was trained with') from error


def _fill(model: nn.Module, weights: dict[str, torch.Tensor], path: str, by: str) -> None:
    """Load weights, all of which a model must find."""
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    own = model.state_dict()
    try:
        missing, _ = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        line = [*str(error).splitlines()[1:], str(error)][0].strip()
        raise UserError(f'{path} does not hold the model of {by}: {line}; pass the --config that it was '
                        'trained with') from error
    missing = [name for name in missing if not name.startswith('data_preprocessor.')]
    if missing:
        remedy = 'pass the --config that it was trained with'
        if not any(name.startswith('backbone.') for name in weights):
            remedy = 'it holds a backbone alone: take the checkpoint that it was exported from'
        raise UserError(f'{path} lacks {len(missing)} of {len(own)} tensors of {type(model).__name__}, the model of {by}: '
                        f'{first_names(missing)}; {remedy}')
