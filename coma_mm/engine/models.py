"""Models of the three libraries, as runs handle them: build, unwrap, compile, copy to the CPU, write."""
import copy
import io
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import apply_to
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import nn

from coma_mm.errors import UserError


def build_model(cfg: Config) -> nn.Module:
    """Build the model that a config names, as mmengine's runner does, without initialising its weights.

    Args:
        cfg (Config): From `read_config`, or of mmengine's `Config.fromfile`.

    Returns:
        nn.Module: The model, in evaluation mode.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model_cfg = copy.deepcopy(cfg.model)  # some models change their config
        # A config may name the preprocessor beside the model.
        if 'data_preprocessor' in cfg:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        return MODELS.build(model_cfg).eval()


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for distributed training, or itself."""
    return model.module if is_model_wrapper(model) else model


def compile_training(model: nn.Module, **options: Any) -> str:
    """Compile what training computes on tensors of fixed shape: pre-training's loss, other models' features.

    mmengine compiles the whole training step: data preparation and backward pass break its graph, and the optimiser's
    step is compiled anew for every learning rate. Losses of segmentors and detectors loop over images and boxes, and so
    would be compiled anew for almost every batch.

    Args:
        model (nn.Module): Its method is replaced.
        **options: Arguments of `torch.compile`.

    Returns:
        str: The method's name.

    Raises:
        UserError: If the model is none of the three libraries' kinds.
    """
    name = 'loss' if isinstance(model, BaseSelfSupervisor) else 'extract_feat'
    if not hasattr(model, name):
        raise UserError(f'compile: {type(model).__name__} has no method {name}, which would be compiled; leave compile '
                        'out of the config')
    plain = getattr(model, name)
    compiled = torch.compile(plain, **options)

    def compiled_in_training(*args: Any, **kwargs: Any) -> Any:
        return (compiled if model.training else plain)(*args, **kwargs)

    setattr(model, name, compiled_in_training)
    return name


def to_cpu(values: Any, copy: bool = False) -> Any:
    """Nested dicts and lists with their tensors on the CPU; with `copy`, none of them shared with the argument."""
    return apply_to(values, lambda value: hasattr(value, 'cpu'), lambda value: value.detach().to('cpu', copy=copy))


def serialize(checkpoint: dict[str, Any]) -> memoryview:
    """What `torch.save` writes of a checkpoint."""
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getbuffer()
