"""DyViT in the forms that other libraries take: timm's `features_only`, segmentation_models_pytorch, torchvision."""
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from coma_mm.errors import UserError
from coma_mm.ranges import whole
from coma_mm.weights.load import load_backbone

from .dyvit import DyViT


class FeatureInfo:
    """What is known of the maps of a backbone, to be asked as timm's class of this name.

    Args:
        info (Sequence[dict]): For each stage 'num_chs', 'reduction' (its stride in px), 'module' and 'index'.
        out_indices (Sequence[int]): The stages that are returned.
    """

    def __init__(self, info: Sequence[dict[str, Any]], out_indices: Sequence[int]):
        self.info = list(info)
        self.out_indices = tuple(out_indices)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """One fact: of a stage, of some, or, without `idx`, of those that are returned."""
        if isinstance(idx, int):
            return self.info[idx][key]
        return [self.info[i][key] for i in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of the maps."""
        return self.get('num_chs', idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Strides of the maps in px."""
        return self.get('reduction', idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Where in the backbone the maps come from."""
        return self.get('module', idx)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)


class TimmBackbone(nn.Module):
    """DyViT as a model of timm that was made with `features_only=True`; see `timm_backbone`.

    Attributes:
        out_channels (list[int]): Channels of the maps.
        strides (list[int]): Their strides in px; `reductions` is the same.
        feature_info (FeatureInfo): Both, as timm gives them.
        backbone (DyViT): Its tensors are named 'backbone.…', as in a checkpoint of a whole model, so that every tool takes
            the file that `torch.save(module.state_dict(), …)` writes.
    """

    def __init__(self, backbone: DyViT):
        super().__init__()
        self.backbone = backbone
        self.feature_info = FeatureInfo(
            [dict(num_chs=dims, reduction=stride, module=f'stages.{i}', index=i)
             for i, (dims, stride) in enumerate(zip(backbone.dims, backbone.strides, strict=True))], backbone.out_indices)
        self.out_channels: list[int] = self.feature_info.channels()
        self.strides: list[int] = self.feature_info.reduction()
        self.reductions = self.strides

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_channels, H, W) -> a map (B, C, ceil(H/stride), ceil(W/stride)) of each stage, the finest first."""
        return list(self.backbone(x))


def timm_backbone(arch: str | dict = 'tiny', checkpoint: str | None = None, in_channels: int = 3,
                  out_indices: Sequence[int] = (0, 1, 2, 3), **dyvit: Any) -> TimmBackbone:
    """Make a DyViT that returns maps, as other libraries expect a backbone.

    Args:
        arch (str | dict): As of `DyViT`. Defaults to 'tiny'.
        checkpoint (str, optional): Of a pre-training, of a fine-tuned model or of a backbone alone; see `load_backbone`.
            Defaults to None: random weights.
        in_channels (int): Channels of the images. Defaults to 3.
        out_indices (Sequence[int]): The stages whose maps are returned, 0 to 3. Defaults to all.
        **dyvit: Further arguments of `DyViT`, such as `patch_size=16`; those that the checkpoint was trained with.

    Returns:
        TimmBackbone: In training mode.

    Raises:
        UserError: If a setting is none of DyViT's, or the checkpoint does not fit.
    """
    for name, instead in (('out_type', 'maps are what it returns'), ('init_cfg', 'use checkpoint=…')):
        if name in dyvit:
            raise UserError(f'timm_backbone: {name}={dyvit[name]!r} cannot be set here: {instead}')
    backbone = DyViT(arch, in_channels, out_indices=out_indices, **dyvit)
    _init_quietly(backbone)
    if checkpoint is not None:
        load_backbone(backbone, checkpoint)
    return TimmBackbone(backbone)


def _init_quietly(backbone: DyViT) -> None:
    """Initialise without mmengine's line for each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        backbone.init_weights()
    finally:
        logger.setLevel(level)


class TorchvisionBackbone(nn.Module):
    """DyViT and a feature pyramid, for torchvision's detectors; see `torchvision_backbone`.

    Attributes:
        out_channels (int): Channels of each map.
    """

    def __init__(self, body: TimmBackbone, out_channels: int = 256):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.out_channels, out_channels, LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, in_channels, H, W) -> a map (B, out_channels, …) for '0', '1', … from the finest on, and 'pool'."""
        return self.fpn({str(i): one for i, one in enumerate(self.body(x))})


def torchvision_backbone(arch: str | dict = 'tiny', checkpoint: str | None = None, out_channels: int = 256,
                         **settings: Any) -> TorchvisionBackbone:
    """Make a DyViT with a feature pyramid, the argument `backbone` of torchvision's `FasterRCNN`, `MaskRCNN`, ….

    With all four stages it gives five maps, '0' to '3' and 'pool', for which these classes have anchors.

    Args:
        arch (str | dict): As of `DyViT`. Defaults to 'tiny'.
        checkpoint (str, optional): See `timm_backbone`. Defaults to None: random weights.
        out_channels (int): Channels of each map. Defaults to 256.
        **settings: Further arguments of `timm_backbone`.

    Returns:
        TorchvisionBackbone: In training mode; only its pyramid is not pre-trained.

    Raises:
        UserError: As of `timm_backbone`.
    """
    whole(1).check('torchvision_backbone: out_channels', out_channels)
    return TorchvisionBackbone(timm_backbone(arch, checkpoint, **settings), out_channels)


class SmpEncoder(nn.Module):
    """DyViT as an encoder of segmentation_models_pytorch; see `add_to_smp`.

    That library wants the image itself, and a map for each stride from 2 on. As with its own transformers, which begin at
    stride 4, the map of stride 2 has no channels, unless `half_channels` asks for some.

    Args:
        settings (dict): Of `timm_backbone`, without `in_channels` and `out_indices`.
        half_channels (int): Channels of stride 2, from a convolution that starts with random weights. Defaults to 0.
        depth (int): How many times the side is halved, 2 to 5. Defaults to 5.
        output_stride (int): What smp asks for; `make_dilated` says what is had. Defaults to 32.

    Raises:
        UserError: As of `timm_backbone`, and for another depth.
    """

    def __init__(self, settings: dict[str, Any], half_channels: int = 0, depth: int = 5, output_stride: int = 32):
        super().__init__()
        whole(2, 5).check('SmpEncoder: depth', depth)
        whole(0).check('SmpEncoder: half_channels', half_channels)
        self._settings = dict(settings, out_indices=range(depth - 1))
        self._half_channels = half_channels
        self._build(3)

    def _build(self, in_channels: int) -> None:
        self.body = timm_backbone(in_channels=in_channels, **self._settings)
        self.halved = None
        if self._half_channels:
            self.halved = nn.Sequential(nn.Conv2d(in_channels, self._half_channels, 3, stride=2, padding=1), nn.GELU())
        self.out_channels = [in_channels, self._half_channels, *self.body.out_channels]
        self.output_stride = self.body.strides[-1]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Be an encoder of images with another number of channels, which a checkpoint has to be for as well."""
        if in_channels != self.out_channels[0]:
            self._build(in_channels)

    def make_dilated(self, output_stride: int) -> None:
        """See that the last stage has the stride that DeepLabV3+ and PAN ask for; nothing can be dilated."""
        if output_stride != self.output_stride:
            raise UserError(f'SmpEncoder: encoder_output_stride={output_stride}: the last stage of this DyViT is at stride '
                            f'{self.output_stride}; set that, or patch_size=16 for 16 and 32 for 32')

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_channels, H, W) -> the image, then maps at strides 2, 4, …, each (B, C, ceil(H/stride), ceil(W/stride))."""
        if self.halved is None:
            halved = x.new_empty(x.shape[0], 0, *((side + 1) // 2 for side in x.shape[-2:]))
        else:
            halved = self.halved(x)
        return [x, halved, *self.body(x)]


def add_to_smp(name: str, half_channels: int = 0, **settings: Any) -> None:
    """Give segmentation_models_pytorch a DyViT under a name, as in `smp.Unet('dyvit-tiny', encoder_weights=None)`.

    Args:
        name (str): For `encoder_name`. A second call with the same name replaces what it stands for.
        half_channels (int): Channels of the map of stride 2, which DyViT does not have: as many as asked for, from a
            convolution that starts with random weights. 0 does for Unet, FPN, Segformer, UPerNet and others; Linknet and
            UnetPlusPlus need some. Defaults to 0.
        **settings: Of `timm_backbone`: `arch`, `checkpoint`, `patch_size` and others. `in_channels` is given to the model.

    Raises:
        UserError: If the library is not there, or the settings are not right.
    """
    try:
        from segmentation_models_pytorch.encoders import encoders
    except ImportError as error:
        raise UserError(f'add_to_smp needs segmentation_models_pytorch, which cannot be imported ({error}); '
                        'pip install segmentation-models-pytorch') from error
    for key in ('in_channels', 'out_indices'):
        if key in settings:
            raise UserError(f'add_to_smp: {key} is given to the model of smp, as {_GIVEN[key]}; leave it out here')
    encoders[name] = dict(encoder=partial(SmpEncoder, settings, half_channels), pretrained_settings={}, params={})


_GIVEN = dict(in_channels='in_channels=…', out_indices='encoder_depth=…')
