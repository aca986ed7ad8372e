"""Checkpoints of small models with random weights, which say how they are used."""
from functools import cache
from pathlib import Path

import torch

from coma_mm.config.read import read_config
from coma_mm.engine.description import as_text, describe
from coma_mm.engine.models import build_model
from coma_mm.weights.description import KEY

CONFIGS = Path(__file__).parents[2] / 'configs/shapes'
NAMES = dict(
    classification='dyvit-tiny-p16_scratch_shapes-easy', segmentation='upernet_dyvit-tiny-p16_scratch_shapes-easy',
    detection='mask-rcnn_dyvit-tiny-p16_scratch_shapes-easy', pretraining='coma_dyvit-tiny-p16_shapes-easy')
CLASSES = ['circle', 'cross', 'square', 'star', 'triangle']


def config_path(task):
    """The file of a small model's config."""
    return str(CONFIGS / f'{NAMES[task]}.py')


@cache
def trained(task):
    """Its config, and the model with random weights: not to be changed."""
    cfg = read_config(config_path(task))
    torch.manual_seed(0)
    model = build_model(cfg)
    for value in model.parameters():
        value.data.add_(torch.randn(value.shape) * .05)
    return cfg, model


def description(task, **changes):
    """What a checkpoint of such a model says of its use, with keys replaced."""
    cfg, model = trained(task)
    return {**describe(cfg, model, dict(classes=CLASSES)), **changes}


def write_checkpoint(path, task, **changes):
    """Write one; `changes` are of its description, and `description` is text in the place of it, or None."""
    use = changes.pop('description', None) if 'description' in changes else as_text(description(task, **changes))
    meta = dict(dataset_meta=dict(classes=CLASSES)) | ({} if use is None else {KEY: use})
    torch.save(dict(state_dict=trained(task)[1].state_dict(), meta=meta), path)
    return str(path)
