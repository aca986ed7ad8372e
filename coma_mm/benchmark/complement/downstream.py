"""What a model is worth in use: its encoder fine-tuned with labels, and read by a linear classifier of places."""
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coma_mm.errors import Stopped
from coma_mm.evaluation.features import Features
from coma_mm.models import CoMA
from coma_mm.prepare.shape_scenes import LEVELS, render_scene

from .arms import Scale
from .draws import crop, order
from .images import Pack
from .measures import all_stages, ridge_classes
from .trainer import normalise

EPOCHS, LR, BATCH, AREA, WARMUP = 12, 1e-3, 64, (0.35, 1.), 0.05
LEVEL, SCENES = 'easy', 1000
"""The scenes of CoMA-Shapes whose places are classified: as many to fit as to test."""
SETTINGS = dict(epochs=EPOCHS, lr=LR, batch=BATCH, area=list(AREA), warmup=WARMUP, level=LEVEL, scenes=SCENES)


def measure_downstream(model: CoMA, scale: Scale, pack: Pack, seed: int,
                       stops: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Both measures.

    Args:
        model (CoMA): Is left as it is.
        scale (Scale): Its sizes.
        pack (Pack): The photographs.
        seed (int): Of the fine-tuning.
        stops (Callable): Whether to stop now. Defaults to never.

    Returns:
        dict: 'finetuned', top-1 in per cent on `pack.test`; 'dense', mIoU in per cent for each stage.

    Raises:
        Stopped: If it was to stop; it begins anew the next time.
    """
    dense = [places_miou(fit, test) for fit, test in zip(*(
        maps(model, scale, split) for split in ('train', 'test')), strict=True)]
    return dict(finetuned=fine_tune(model, scale, pack, seed, stops=stops), dense=dense)


class Classifier(nn.Module):
    """A linear layer on the means of all stages side by side, as in the small recipes.

    Args:
        model (CoMA): Its encoder is copied.
        scale (Scale): Its sizes.
        classes (int): Their number.
        seed (int): Of the linear layer.
    """

    def __init__(self, model: CoMA, scale: Scale, classes: int, seed: int):
        super().__init__()
        self.data_preprocessor = model.data_preprocessor
        self.backbone = all_stages(model.backbone.state_dict(), scale, 'avg_featmap')
        self.head = nn.Linear(sum(self.backbone.out_channels), classes)
        nn.init.normal_(self.head.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """RGB in 0 to 255, (B, 3, S, S) -> scores, (B, classes)."""
        return self.head(torch.cat(self.backbone(normalise(self, images)), 1))


def fine_tune(model: CoMA, scale: Scale, pack: Pack, seed: int, epochs: int = EPOCHS, lr: float = LR,
              batch: int = BATCH, stops: Callable[[], bool] = lambda: False) -> float:
    """Train the encoder and a classifier on `pack.fit`, and test them on `pack.test`.

    AdamW with a weight decay of 0.05, a short warm-up and a cosine to 0, labels smoothed by 0.1; crops of 35 to 100 % of the
    area, mirrored or not.

    Args:
        model (CoMA): Is left as it is.
        scale (Scale): Its sizes.
        pack (Pack): The photographs.
        seed (int): Of the linear layer, the order and the crops.
        epochs (int): Over the images. Defaults to `EPOCHS`.
        lr (float): The highest learning rate. Defaults to `LR`.
        batch (int): Images per update. Defaults to `BATCH`.
        stops (Callable): Whether to stop now. Defaults to never.

    Returns:
        float: Top-1 in per cent.

    Raises:
        Stopped: If it was to stop.
    """
    device = next(model.parameters()).device
    images, labels = pack.images[pack.fit].to(device), pack.labels[pack.fit].to(device)
    tuned = Classifier(model, scale, int(pack.labels.max()) + 1, seed).to(device).train()
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=lr, weight_decay=0.05, fused=True)
    per_epoch = len(images) // batch
    steps = epochs * per_epoch
    for step in range(steps):
        if stops():
            raise Stopped(f'stopped at step {step} of {steps} of a fine-tuning, which begins anew the next time')
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            places = order(seed, epoch, len(images), device)
        ids = places[place * batch:(place + 1) * batch]
        pixels = crop(images[ids], seed, torch.full_like(ids, epoch), ids, AREA)
        for group in optimizer.param_groups:
            group['lr'] = lr * min((step + 1) / (WARMUP * steps), (1 + math.cos(math.pi * step / steps)) / 2)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
            F.cross_entropy(tuned(pixels), labels[ids], label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.eval()
    with torch.no_grad():
        said = torch.cat([tuned(part.to(device).float()).argmax(1).cpu() for part in pack.images[pack.test].split(200)])
    return 100 * (said == pack.labels[pack.test]).double().mean().item()


@cache
def scenes(split: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes and their classes, uint8 (n, 3, S, S) and int64 (n, S, S), 0 being the background."""
    drawn = [render_scene(0, split, index, size, LEVEL) for index in range(SCENES)]
    return (torch.from_numpy(np.stack([one.image for one in drawn])).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(np.stack([one.semantic for one in drawn])).long())


@torch.no_grad()
def maps(model: CoMA, scale: Scale, split: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every stage's features of the scenes, float32 (n, C, h, w), with the scenes' classes, (n, S, S)."""
    device = next(model.parameters()).device
    backbone = all_stages(model.backbone.state_dict(), scale, 'featmap').to(device)
    images, classes = scenes(split, scale.size)
    parts = [[one.float().nan_to_num(0, 0, 0).cpu() for one in backbone(normalise(model, part.to(device).float()))]
             for part in images.split(200)]
    return [(torch.cat(stage), classes) for stage in zip(*parts, strict=True)]


def places_miou(fit: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor]) -> float:
    """mIoU in per cent of a linear classifier of a map's places, of every pixel.

    A place learns the class that most of its pixels have, and gives its own to all of them.

    Args:
        fit (tuple[Tensor, Tensor]): Features (n, C, h, w) and classes of pixels (n, S, S).
        test (tuple[Tensor, Tensor]): The same of other scenes.
    """
    (values, pixels), (asked, truth) = fit, test
    classes = len(LEVELS[LEVEL].palette) + 1
    n, _, h, w = values.shape
    share = F.adaptive_avg_pool2d(F.one_hot(pixels, classes).permute(0, 3, 1, 2).float(), (h, w)).argmax(1)
    learnt = Features(values.permute(0, 2, 3, 1).flatten(0, 2), share.flatten())
    said = ridge_classes(learnt, asked.permute(0, 2, 3, 1).flatten(0, 2), classes).view(-1, 1, h, w)
    said = F.interpolate(said.double(), truth.shape[1:]).long()[:, 0]
    counts = torch.bincount((truth * classes + said).flatten(), minlength=classes**2).view(classes, classes)
    both = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - both
    return 100 * (both / union.clamp_min(1)).double()[union > 0].mean().item()
