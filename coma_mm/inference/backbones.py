"""A backbone from a file alone, and its feature maps of any image."""
import copy
import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.config.registered import check_registered
from coma_mm.config_tree import type_name
from coma_mm.datasets.bands import Bands
from coma_mm.datasets.loading import LoadImage
from coma_mm.errors import UserError
from coma_mm.models import DyViT
from coma_mm.weights.bounded import Bounded
from coma_mm.weights.description import KEY, read_description
from coma_mm.weights.load import load_backbone as load_weights
from coma_mm.weights.load import load_weights_only, stated_backbone
from coma_mm.weights.released import released

from .images import Picture, as_read, several
from .load import described_bands, loading_step

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's, RGB in 0 to 255: what all our configs take."""


def load_backbone(source: str | os.PathLike, device: str | torch.device = 'cpu', **settings: Any) -> nn.Module:
    """Make a backbone with its weights, from what a file says of itself.

    Args:
        source (str | PathLike): A checkpoint of pre-training or of a fine-tuned model, an exported backbone, or the name of
            released weights (`coma_mm.list_models()`).
        device (str | device): Defaults to 'cpu'.
        **settings: Arguments of the backbone in the place of those of its training. A DyViT gives the maps of all stages,
            unless `out_indices` says otherwise.

    Returns:
        nn.Module: In evaluation mode. Called with normalised images it gives what the backbone of this class gives: for
        DyViT a tuple of maps (B, C, ceil(H/stride), ceil(W/stride)). `features` does the rest; `backbone.moments`, mean and
        standard deviation per channel in RGB, 0 to 255, are those that it was trained with; or per band, where
        `backbone.bands` says which.

    Raises:
        UserError: The file cannot be read, or says neither which backbone it holds nor do `settings`.
    """
    path = released(os.fspath(source))
    loaded = load_weights_only(path)
    cfg, preprocessor, bands, reading = _described(loaded['meta'], path, named=bool({'type', 'arch'} & settings.keys()))
    cfg |= settings
    if type_name(cfg) == 'DyViT':
        cfg |= dict(out_indices=settings.get('out_indices', (0, 1, 2, 3)), out_type='featmap')
    with DefaultScope.overwrite_default_scope('mmpretrain'), Bounded(loaded['state_dict'], path):
        backbone = MODELS.build(copy.deepcopy(cfg))
    backbone.init_cfg = None  # the weights come from the file
    load_weights(backbone, path, loaded=loaded)
    backbone.moments = tuple(tuple(preprocessor.get(key) or standard)
                             for key, standard in (('mean', MEAN), ('std', STD)))
    backbone.bands, backbone.reading = bands, reading
    backbone.to(device).eval()  # of some backbones of the libraries this gives nothing
    return backbone


def stated_settings(source: str) -> dict[str, Any]:
    """What a file says of the DyViT in it.

    Args:
        source (str): See `load_backbone`.

    Returns:
        dict: Its config; empty, if the file says nothing or is of another backbone.
    """
    path = released(source)
    cfg, *_ = _described(load_weights_only(path)['meta'], path, named=True)
    return cfg if type_name(cfg) == DyViT.__name__ and 'arch' in cfg else {}


def _described(meta: dict[str, Any], path: str, named: bool
               ) -> tuple[dict[str, Any], dict[str, Any], Bands | None, LoadImage | None]:
    """The configs of a backbone and of the preprocessor that it was trained with, its bands, and the step that reads them.

    Of the file, as far as it says them. It has to say something, unless the backbone is `named` otherwise.
    """
    if KEY in meta:
        use = read_description(meta, path)
        model = use['model']
        backbone, preprocessor = (model.get(key) for key in ('backbone', 'data_preprocessor'))
        if isinstance(backbone, dict):
            return (backbone, preprocessor if isinstance(preprocessor, dict) else {}, described_bands(use),
                    loading_step(use['pipeline'], path))
    facts = meta.get('coma_mm') or {}
    stated = stated_backbone(meta)
    if stated.get('backbone') != DyViT.__name__ or not stated.get('arch'):
        if named:
            return dict(type=DyViT.__name__), {}, None, None
        raise UserError(f'{path} does not say which backbone it holds; name it: '
                        "load_backbone(…, arch=…), and type=… if it is no DyViT, with the settings of its training")
    settings = facts.get('settings') if isinstance(facts.get('settings'), dict) else {}
    settings = {key: value for key, value in settings.items() if value is not None}
    cfg = check_registered(dict(type='DyViT', arch=stated['arch'], **settings), f'{path}: backbone', 'mmpretrain')
    return cfg, {}, None, None


@torch.no_grad()
def features(backbone: nn.Module, images: Picture | Sequence[Picture], pooled: bool = False,
             size: int | None = None) -> list[torch.Tensor] | torch.Tensor | list[list[torch.Tensor]]:
    """Feature maps of images.

    Args:
        backbone (nn.Module): From `load_backbone`.
        images (Picture | Sequence[Picture]): An image, or several: paths, arrays, Pillow's images or tensors, see
            `coma_mm.inference.images`.
        pooled (bool): The mean of the last map in the place of the maps. Defaults to False.
        size (int, optional): Bring the short side to so many px. Defaults to the image's own size.

    Returns:
        list[Tensor] | Tensor: Of one image a map (C, h, w) for each stage, the finest first; with `pooled` a vector (C, ).
        Of several a list of these, or with `pooled` one tensor (N, C). On the CPU, in float32.

    Raises:
        BadImageError: A file cannot be decoded.
        UserError: Something stands for no image.
    """
    given, single = several(images)
    found = [_maps(backbone, one, size) for one in given]
    if pooled:
        vectors = [(maps[-1] if maps[-1].ndim == 1 else maps[-1].mean((1, 2))) for maps in found]
        return vectors[0] if single else torch.stack(vectors)
    return found[0] if single else found


def _maps(backbone: nn.Module, image: Picture, size: int | None) -> list[torch.Tensor]:
    """What a backbone makes of one image."""
    parameter = next(backbone.parameters())
    mean, std = (torch.tensor(values, device=parameter.device).view(-1, 1, 1) for values in backbone.moments)
    bands = getattr(backbone, 'bands', None)
    pixels = as_read(image, bands, getattr(backbone, 'reading', None))
    pixels = torch.from_numpy(pixels if bands else pixels[..., ::-1].copy()).permute(2, 0, 1).to(parameter.device)
    pixels = ((pixels - mean) / std).to(parameter.dtype)[None]
    if size:
        scale = size / min(pixels.shape[-2:])
        sides = [max(round(side * scale), 1) for side in pixels.shape[-2:]]
        pixels = nn.functional.interpolate(pixels, sides, mode='bicubic', antialias=True)
    return [one[0].float().cpu() for one in backbone(pixels)]
