"""Whether neck and heads expect what the backbone gives."""
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

import torch
from mmpretrain.models import BaseSelfSupervisor
from torch import nn

from coma_mm.errors import UserError

from .parts import Parts

HEADS = ('decode_head', 'auxiliary_head', 'rpn_head', 'bbox_head', 'mask_head', 'panoptic_head', 'head')
"""What reads the backbone's outputs in a model without a neck."""
DENSE = ('BaseSegmentor', 'BaseDetector')
"""Models that read maps."""
SIDE = 256
"""Of the image that is tried, in px."""


def check_channels(parts: Parts) -> None:
    """Compare `in_channels` of neck and heads with the channels of a backbone that tells them, and see that it gives maps.

    What looks wrong is tried, on a black image: only what fails is refused.

    Args:
        parts (Parts): Of the run.

    Raises:
        UserError: With what is expected and what the backbone gives, of all parts that read it.
    """
    model, backbone = parts.model, getattr(parts.model, 'backbone', None)
    widths = getattr(backbone, 'out_channels', None)
    # Backbones that tell their outputs; a pre-training's neck and decoder follow them.
    if not hasattr(backbone, 'output_channels') or not isinstance(widths, tuple) or isinstance(model, BaseSelfSupervisor):
        return
    gives = f'{type(backbone).__name__} with out_indices={tuple(backbone.out_indices)} gives'
    kind = getattr(backbone, 'out_type', 'featmap')
    dense = any(base.__name__ in DENSE for base in type(model).__mro__)
    readers = list(_readers(model, parts.model_cfg))
    if dense and kind != 'featmap' and any(_fails(model, module) for _, module, _ in readers):
        raise UserError(f'{type(model).__name__} reads feature maps, and {gives} none with out_type={kind!r}; set '
                        "model.backbone.out_type='featmap'")
    wrong, remedies = [], []
    for place, module, cfg in readers:
        expected, index = cfg.get('in_channels'), cfg.get('in_index', getattr(module, 'in_index', None))
        fitting = _fitting(expected, index, widths)
        if expected not in fitting and _fails(model, module):
            at = f' for in_index={index}' if index is not None else ''
            wrong.append(f'{place}.in_channels={expected}{at}')
            remedies += [f'{place}.in_channels={fitting[0]}'.replace(' ', '')] if fitting[0] else []
    if wrong:
        remedy = f'set {" ".join(remedies)}' if remedies else 'take other stages by in_index or model.backbone.out_indices'
        raise UserError(f'{" and ".join(wrong)} {"do" if len(wrong) > 1 else "does"} not fit the backbone: {gives} outputs '
                        f'of {list(widths)} channels; {remedy}')


def _readers(model: nn.Module, cfg: Mapping[str, Any]) -> Iterator[tuple[str, nn.Module, Mapping[str, Any]]]:
    """Name, module and config of what reads the backbone's outputs, or the mean that a classifier's neck makes of them."""
    neck = getattr(model, 'neck', None)
    names = ('neck', *(['head'] if hasattr(model, 'head') else [])) if neck is not None else HEADS
    for name in names:
        module, config = getattr(model, name, None), cfg.get(name)
        if isinstance(config, (list, tuple)):
            if name == 'neck':  # one after the other: the first reads the backbone
                config = config[0] if config else None
            elif isinstance(module, nn.ModuleList):
                yield from ((f'model.{name}.{i}', one, each) for i, (one, each) in enumerate(
                    zip(module, config, strict=False)) if isinstance(each, Mapping))
                continue
        if isinstance(module, nn.Module) and isinstance(config, Mapping):
            yield f'model.{name}', module, config


def _fitting(expected: Any, index: Any, widths: tuple[int, ...]) -> list[Any]:
    """The values of `in_channels` that need no trial, the likeliest first; that is None if there is none."""
    if isinstance(expected, int) and index is None:  # the last map, another, or all side by side
        return [widths[-1], *widths, sum(widths)]
    if not isinstance(expected, (int, list, tuple)):
        return [expected]
    try:
        if isinstance(expected, int):
            return [widths[index]]
        chosen = list(widths) if index is None else [widths[i] for i in index]
    except (IndexError, TypeError):
        return [None]
    return [chosen, tuple(chosen)]


def _fails(model: nn.Module, part: nn.Module) -> bool:
    """Whether a part of a model cannot take what comes to it."""
    modes = {module: module.training for module in model.modules()}
    stem = next((module for module in model.backbone.modules() if isinstance(module, nn.Conv2d)), None)
    part = getattr(part, 'pixel_decoder', part)  # whose head wants annotations
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            feats = model.backbone(torch.zeros(1, stem.in_channels, SIDE, SIDE, device=stem.weight.device))
            neck = getattr(model, 'neck', None)
            if neck is not None and part is not neck:
                feats = neck(feats)
            metas = [dict(batch_input_shape=(SIDE, SIDE), img_shape=(SIDE, SIDE))]
            part(feats, **(dict(batch_img_metas=metas) if 'batch_img_metas' in signature(part.forward).parameters else {}))
    except (RuntimeError, AssertionError, IndexError, ValueError):
        return True
    except Exception:  # it is called in another way
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode
    return False
