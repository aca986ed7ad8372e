"""A trained model and the data that its config names, to look at what it does."""
import os
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.datasets.transforms import LoadAnnotations
from torch import nn
from torch.utils.data import Dataset

from coma_mm.config_tree import find_types
from coma_mm.datasets.annotations import check_annotations, leaves, pipeline_steps
from coma_mm.datasets.bands import Choice
from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, walk_files
from coma_mm.datasets.loading import LoadImage, as_color, use_load_image
from coma_mm.datasets.long_images import cut_middle
from coma_mm.datasets.random_resized_crop import resize_any
from coma_mm.datasets.seeding import SeededDataset
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError
from coma_mm.models import MaskedImagePreprocessor
from coma_mm.weights.load import load_weights_only


def load_model(cfg: Config, checkpoint: str | Path | None) -> nn.Module:
    """Build the model of a run with its trained weights.

    Args:
        cfg (Config): The run's config, of mmpretrain, mmsegmentation or mmdetection.
        checkpoint (str | Path, optional): Its checkpoint, with the weights of the whole model. None: the model as a
            training of that config starts.

    Returns:
        nn.Module: In evaluation mode on the CPU.

    Raises:
        UserError: The checkpoint does not fit the config.
    """
    model = build_model(cfg)
    if checkpoint is None:
        model.init_weights()
        return model
    weights = load_weights_only(str(checkpoint))['state_dict']
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        difference = str(error).splitlines()[1].strip()
        raise UserError(f'{checkpoint} does not hold the model of {cfg.filename or "the config"}: {difference}') from error
    return model


def load_for_viewing(config: str | Path | Config, checkpoint: str | Path | None,
                     split: str = 'val') -> tuple[nn.Module, Dataset]:
    """Build the model of a run with its trained weights, and one of its data sets.

    Args:
        config (str | Path | Config): See `load_model`; or its file.
        checkpoint (str | Path, optional): See `load_model`.
        split (str): 'train', 'val' or 'test': whose data loader's data set. Defaults to 'val'.

    Returns:
        tuple[nn.Module, Dataset]: The model in evaluation mode on the CPU, and the data set.

    Raises:
        UserError: The checkpoint does not fit the config, or the config has no such data loader.
    """
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'{cfg.filename or "the config"} has no {split}_dataloader to take pictures from')
    model = load_model(cfg, checkpoint)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        # As our runner does: the masks of a sample are the same in every picture.
        dataset = SeededDataset(use_load_image(loader['dataset']))
        check_annotations(dataset)
    return model, dataset


def find_images(paths: list[str]) -> list[str]:
    """Image files, and those in folders and below them, sorted within each folder.

    Raises:
        UserError: A path does not exist, or a folder holds no image.
    """
    found = []
    for path in paths:
        if not os.path.isdir(path):
            if not os.path.exists(path):
                raise UserError(f'no image {path}; expected files, or folders of them')
            found.append(path)
            continue
        inside = sorted(file for file in walk_files(path) if file.lower().endswith(IMAGE_SUFFIXES))
        if not inside:
            raise UserError(f'no image in {path}; expected files that end in {", ".join(IMAGE_SUFFIXES)}')
        found += inside
    return found


def read_fitted(path: str, size: int, multiple: int, bands: Choice | None = None) -> np.ndarray:
    """Read an image, scale its short side to `size` px, and crop the middle to whole patches, eight times as long at most.

    Args:
        path (str): The file.
        size (int): In px, rounded down to a multiple, one at least.
        multiple (int): What both sides become multiples of, in px.
        bands (int | Sequence, optional): See `LoadImage`. Defaults to None: 8-bit colour.

    Returns:
        ndarray: uint8 (H, W, 3), BGR; or (H, W, bands) of the file's depth.

    Raises:
        BadImageError: The file cannot be decoded.
        UserError: There is no such file.
    """
    return fitted(LoadImage(bands).transform(dict(img_path=path))['img'], size, multiple)


def fitted(image: np.ndarray, size: int, multiple: int) -> np.ndarray:
    """What `read_fitted` makes of an image that is read."""
    size = max(size // multiple, 1) * multiple
    image = cut_middle(image, size, 8 * size)  # of a picture that is longer little would be seen
    height, width = image.shape[:2]
    scale = size / min(height, width)
    sides = max(round(height * scale), size), max(round(width * scale), size)
    if image.dtype == np.uint8 and image.shape[2:] in ((), (3, )):
        image = mmcv.imresize(image, sides[::-1], interpolation='bicubic', backend='pillow')
    else:
        image = resize_any(image, sides)
    height, width = (side // multiple * multiple for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top:top + height, left:left + width])


def prepare(model: nn.Module, image: np.ndarray) -> torch.Tensor:
    """Have the model's own preprocessor, of any library, normalise an image.

    Args:
        model (nn.Module): With a `data_preprocessor`.
        image (ndarray): BGR uint8 (H, W, 3), or the bands that the model sees, see `read_fitted`; or grey (H, W).

    Returns:
        Tensor: What the backbone takes, (1, 3, H, W).
    """
    inputs = torch.from_numpy(np.ascontiguousarray((as_color(image) if image.ndim == 2 else image).transpose(2, 0, 1)))
    inputs = inputs[None] if isinstance(model.data_preprocessor, MaskedImagePreprocessor) else [inputs]
    inputs = model.data_preprocessor(dict(inputs=inputs))['inputs']
    return inputs[..., :image.shape[0], :image.shape[1]]  # without padding


def image_size(cfg: Config) -> int:
    """Find the size of a config's images.

    Args:
        cfg (Config): Any.

    Returns:
        int: The short side in px that images have in its validation; 224 where it does not say.
    """
    for name in ('CenterCrop', 'Resize', 'ResizeEdge'):
        for step in find_types(cfg.get('val_dataloader'), name):
            size = step.get('crop_size', step.get('scale'))
            if size:
                return size if isinstance(size, int) else min(size)
    return 224


def with_true_map(dataset: Dataset, index: int) -> dict[str, Any]:
    """A sample of a segmentation with `gt_seg_map` (H, W), the class ids that training has, `MapClassIds` included."""
    info = dataset.get_data_info(index)
    names = ('LoadAnnotations', 'MapClassIds')
    steps = [step for step in pipeline_steps(leaves(dataset)[0]) if type(step).__name__ in names]
    for step in steps or [LoadAnnotations()]:
        info = step(info)
    return info


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device
