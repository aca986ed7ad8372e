"""What a run is measured by: probes of every stage, reconstruction of held-out images, and the rank of the features."""
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.evaluation.features import Features
from coma_mm.evaluation.knn import knn_accuracy
from coma_mm.evaluation.stages import rank_me
from coma_mm.models import CoMA

from .arms import Scale
from .draws import draw_masks
from .images import Pack
from .trainer import normalise

PENALTIES = tuple(10.**power for power in range(-1, 5))
NEIGHBOURS = 20
MASKS_PER_IMAGE = 4


@torch.no_grad()
def measure(model: CoMA, scale: Scale, pack: Pack, batch: int = 200) -> dict[str, Any]:
    """All measures of a model.

    Args:
        model (CoMA): Is left as it is.
        scale (Scale): Its sizes.
        pack (Pack): The photographs.
        batch (int): Images at a time. Defaults to 200.

    Returns:
        dict: 'linear' and 'knn' (top-1 in per cent) and 'rankme', a number for each stage; 'reconstruction', of held-out
        images.
    """
    found = dict(linear=[], knn=[], rankme=[])
    classes = int(pack.labels.max()) + 1
    for values in stage_features(model, scale, pack, batch):
        labels = pack.labels.to(values.device)
        fit, test = (Features(values[ids], labels[ids]) for ids in (pack.fit, pack.test))
        found['linear'].append(ridge_accuracy(fit, test, classes))
        found['rankme'].append(rank_me(values))
        k = min(NEIGHBOURS, len(fit.labels))
        found['knn'].append(knn_accuracy(fit, test, classes, (k, ), chunk=2000, quiet=True)[k]['top1'])
    return dict(found, reconstruction=reconstruction(model, scale, pack, batch))


def all_stages(weights: dict[str, torch.Tensor], scale: Scale, out_type: str) -> nn.Module:
    """The backbone with those weights and the outputs of all stages, see DyViT's `out_type`, on the CPU, to evaluate."""
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.random.fork_rng(devices=[]):
        backbone = MODELS.build(scale.encoder((0, 1, 2, 3), out_type))
    backbone.load_state_dict(weights, strict=False)
    backbone.eval()  # mmpretrain's give nothing back
    return backbone


def stage_features(model: CoMA, scale: Scale, pack: Pack, batch: int = 200) -> list[torch.Tensor]:
    """The mean over positions of each stage's output for all images whole, float32, (n, C) for each stage.

    A stage that the decoder does not see has a norm that was not trained, which scales every channel alike.
    """
    device = next(model.parameters()).device
    backbone = all_stages(model.backbone.state_dict(), scale, 'avg_featmap').to(device)
    parts = []
    for images in pack.images.split(batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
            # Of a run that diverged: zeros, which tell nothing apart.
            parts.append([one.float().nan_to_num(0, 0, 0) for one in backbone(normalise(model, images.to(device).float()))])
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]


def ridge_accuracy(fit: Features, test: Features, classes: int) -> float:
    """Top-1 in per cent of `ridge_classes`."""
    return 100 * (ridge_classes(fit, test.values, classes) == test.labels).double().mean().item()


def ridge_classes(fit: Features, values: torch.Tensor, classes: int) -> torch.Tensor:
    """What a linear classifier says: ridge regression of standardised features on the classes, in closed form.

    The penalty is the one of `PENALTIES` with the best leave-one-out accuracy on the features that it is fitted on.

    Args:
        fit (Features): What it is fitted on.
        values (Tensor): Features to classify, (n, C).
        classes (int): Their number.

    Returns:
        Tensor: Class ids, int64, (n, ).
    """
    x, y = fit.values.double(), F.one_hot(fit.labels, classes).double()
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, offset = (x - mean) / std, y.mean(0)
    spectrum, vectors = torch.linalg.eigh(x.T @ x)
    rotated, target = x @ vectors, vectors.T @ (x.T @ (y - offset))
    best, weight = -1, None
    for penalty in PENALTIES:
        coefficients = target / (spectrum + penalty)[:, None]
        # Leaving an image out changes its residual by this factor (Hastie et al., The Elements of Statistical Learning).
        leverage = (rotated.square() / (spectrum + penalty)).sum(1, keepdim=True) + 1 / len(x)
        without = y - (y - offset - rotated @ coefficients) / (1 - leverage)
        right = int((without.argmax(1) == fit.labels).sum())
        if right > best:
            best, weight = right, vectors @ coefficients
    return ((values.double() - mean) / std @ weight + offset).argmax(1)


def reconstruction(model: CoMA, scale: Scale, pack: Pack, batch: int = 200) -> float:
    """The mean squared error over hidden patches of held-out images, with masks of 50 % that are the same for all arms."""
    device, total = next(model.parameters()).device, 0.
    ids = pack.held_out.to(device).repeat(MASKS_PER_IMAGE)
    numbers = torch.arange(MASKS_PER_IMAGE, device=device).repeat_interleave(len(pack.held_out))
    for number, image in zip(numbers.split(batch), ids.split(batch), strict=True):
        images = normalise(model, pack.images[image.cpu()].to(device).float())
        keep, rest, *_ = draw_masks(0, number, image, scale.patches, scale.patches // 2)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
            predicted = model.reconstruct(images, keep, ids=rest)
        total += float(model.head.patch_errors(predicted, images, rest).mean(1).sum())
    return total / len(ids)
