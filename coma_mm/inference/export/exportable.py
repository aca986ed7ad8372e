"""What is exported of a model: plain modules, from normalised images to plain tensors."""
import copy

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsHead, MultiLabelClsHead
from torch import nn

from coma_mm.errors import UserError
from coma_mm.models import DyViT

from .adaptive_pool import exportable_pools


class Exportable(nn.Module):
    """A model as exported programs compute it.

    Args:
        model (nn.Module): Of one of the three libraries, in evaluation mode. It is copied.

    Attributes:
        outputs (dict[str, str]): Names of what `forward` returns, and what each is.
        batch (bool): Whether it takes several images at a time.
    """
    outputs: dict[str, str] = {}
    batch = True

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = exportable_pools(copy.deepcopy(model).cpu().float().eval().requires_grad_(False))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images (B, C, H, W), without padding -> one tensor for each of `outputs`."""
        raise NotImplementedError

    @staticmethod
    def by_library(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The same of the model itself, by the code that its library tests it with; what exports are compared with."""
        raise NotImplementedError


class ExportableBackbone(Exportable):
    """The maps of a backbone, or whatever it gives; of a DyViT maps, also where its model wants means or tokens.

    Args:
        model (nn.Module): A model with a `backbone`.
    """

    def __init__(self, model: nn.Module):
        super().__init__(_with_maps(model.backbone))
        with torch.no_grad():
            number = len(self(torch.zeros(1, channels_of(model), 64, 64)))
        self.outputs = {f'stage{i}': 'features of the backbone' for i in range(number)}

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, C, H, W) -> a tensor for each of the backbone's outputs."""
        found = self.model(images)
        return found if isinstance(found, tuple) else tuple(found) if isinstance(found, list) else (found, )

    @staticmethod
    def by_library(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The backbone's own outputs."""
        found = _with_maps(model.backbone)(images)
        return tuple(found) if isinstance(found, (tuple, list)) else (found, )


class ExportableClassifier(Exportable):
    """The scores of a classifier: probabilities that add up to one, or with several labels to an image one for each."""
    outputs = dict(scores='(batch, classes): probability of each class')

    def __init__(self, model: nn.Module):
        super().__init__(model)
        if not isinstance(model.head, (ClsHead, MultiLabelClsHead)):
            raise cannot_export(model.head)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, C, H, W) -> (B, classes)."""
        scores = self.model.head(self.model.extract_feat(images))
        return (scores.sigmoid() if isinstance(self.model.head, MultiLabelClsHead) else scores.softmax(1), )

    @staticmethod
    def by_library(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, classes), by mmpretrain."""
        return (torch.stack([sample.pred_score for sample in model.predict(images)]), )


class ExportableSegmenter(Exportable):
    """The class maps of a segmenter, at the size of its input, of which it sees the whole at once."""
    outputs = dict(logits='(batch, classes, height, width): logits of each pixel; the largest is its class')

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, C, H, W) -> (B, classes, H, W)."""
        logits = self.model.decode_head(self.model.extract_feat(images))
        return (F.interpolate(logits, images.shape[-2:], mode='bilinear', align_corners=self.model.align_corners), )

    @staticmethod
    def by_library(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, classes, H, W), by mmsegmentation."""
        return (model.encode_decode(images, [dict(img_shape=tuple(images.shape[-2:]))] * len(images)), )


def _with_maps(backbone: nn.Module) -> nn.Module:
    """A copy of a backbone, which gives maps if it is a DyViT."""
    backbone = copy.deepcopy(backbone)
    if isinstance(backbone, DyViT):
        backbone.out_type = 'featmap'
    return backbone


def channels_of(model: nn.Module) -> int:
    """Channels of a model's images, by its preprocessor's means."""
    mean = getattr(model.data_preprocessor, 'mean', None)
    return 3 if mean is None else mean.numel()


def cannot_export(module: nn.Module) -> UserError:
    """The error for a part that nothing here knows how to export."""
    return UserError(f'cannot export {type(module).__name__}: expected a classifier of mmpretrain, an EncoderDecoder of '
                     'mmsegmentation, or a MaskRCNN or FasterRCNN of mmdetection; --part backbone exports its backbone')
