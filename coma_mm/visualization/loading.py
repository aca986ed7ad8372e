"""A trained model and the data that its config names, to look at what it does."""
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.utils.data import Dataset

from coma_mm.datasets.paths import check_annotations
from coma_mm.datasets.seeding import SeededDataset
from coma_mm.engine.checkpoint import load_weights_only
from coma_mm.errors import UserError


def load_for_viewing(config: str | Path | Config, checkpoint: str | Path,
                     split: str = 'val') -> tuple[nn.Module, Dataset]:
    """Build the model of a run with its trained weights, and one of its data sets.

    Args:
        config (str | Path | Config): The run's config, of mmpretrain, mmsegmentation or mmdetection.
        checkpoint (str | Path): Its checkpoint, with the weights of the whole model.
        split (str): 'train', 'val' or 'test': whose data loader's data set. Defaults to 'val'.

    Returns:
        tuple[nn.Module, Dataset]: The model in evaluation mode on the CPU, and the data set.

    Raises:
        UserError: The checkpoint does not fit the config, or the config has no such data loader.
    """
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    name = cfg.filename or 'the config'
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'{name} has no {split}_dataloader to take pictures from')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model_cfg = cfg.model.copy()
        # As mmengine's Runner does: a config may name the preprocessor beside the model.
        if 'data_preprocessor' in cfg:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        model = MODELS.build(model_cfg)
        # As our runner does: the masks of a sample are the same in every picture.
        dataset = SeededDataset(loader['dataset'])
        check_annotations(dataset)
    weights = load_weights_only(str(checkpoint))['state_dict']
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        difference = str(error).splitlines()[1].strip()
        raise UserError(f'{checkpoint} does not hold the model of {name}: {difference}') from error
    return model.eval(), dataset


def spread_indices(dataset: Dataset, number: int) -> list[int]:
    """``number`` indices (fewer if the data set is smaller), evenly spread over a data set."""
    number = min(number, len(dataset))
    return [i * len(dataset) // number for i in range(number)]


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device
