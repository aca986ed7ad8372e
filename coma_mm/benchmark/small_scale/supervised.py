"""Classifiers from scratch on the easy scenes: does DyViT learn from few images what others learn, at its best rate?

Each model has its learning rate chosen among the same values on seed 0, by the validation split; that rate's runs with three
seeds are told on the test split.
"""
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.benchmark.complement.arms import Arm, initialising
from coma_mm.benchmark.complement.draws import crop
from coma_mm.benchmark.complement.images import Pack
from coma_mm.benchmark.complement.study import Job, Study
from coma_mm.benchmark.complement.trainer import Trainer

from .arms import SEEDS, SmallScale
from .images import Data, scenes
from .study import write_together

NAME = 'scratch'
RATES = (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)
DIMS, DEPTHS, HEADS = (32, 64, 128, 256), (1, 1, 3, 1), (1, 2, 4, 8)
SCALE = SmallScale((), {}, {}, batch=8, updates=1500, lr=0., fractions=(0.25, 0.5, 1.), warmup=1 / 12, decay=0.5)
"""12 epochs of 1000 images; at each budget the rate falls over its second half."""


def _dyvit(windows: str) -> dict[str, Any]:
    return dict(type='DyViT', arch=dict(dims=DIMS, depths=DEPTHS, num_heads=HEADS), patch_size=16, pos_scale=0.25,
                windows=windows, out_indices=(0, 1, 2, 3))


MODELS_COMPARED = {
    'resnet': ("mmpretrain's ResNet-18, 24 to 192 channels", dict(
        type='ResNet', depth=18, stem_channels=24, base_channels=24, out_indices=(0, 1, 2, 3))),
    'swin': ("mmpretrain's Swin, as wide and deep as DyViT", dict(
        type='SwinTransformer', arch=dict(embed_dims=DIMS[0], depths=DEPTHS, num_heads=HEADS), img_size=64, window_size=4,
        drop_path_rate=0., out_indices=(0, 1, 2, 3), pad_small_map=True)),
    'dyvit': ("DyViT, `windows='default'`", _dyvit('default')),
    'dyvit-plain': ("DyViT, `windows='plain'`", _dyvit('plain')),
    'dyvit-eq8': ("DyViT, `windows='eq8'`", _dyvit('eq8')),
}
"""By name: what a person reads, and the config of the backbone, whose four maps are averaged and laid side by side."""


class Classifier(nn.Module):
    """A linear layer on the means of all stages.

    Args:
        backbone (dict): Its config.
        channels (int): Of all stages together.
        classes (int): Their number. Defaults to 5.
    """

    def __init__(self, backbone: dict[str, Any], channels: int, classes: int = 5):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.backbone.init_weights()
        self.fc = nn.Linear(channels, classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images as `normalised` gives them, (B, 3, S, S) -> scores, (B, classes)."""
        return self.fc(torch.cat([stage.mean((2, 3)) for stage in self.backbone(images)], 1))


def classifier(model: str, seed: int) -> Classifier:
    """A model with the initial weights of a seed."""
    backbone = MODELS_COMPARED[model][1]
    with initialising(seed):
        return Classifier(backbone, 360 if model == 'resnet' else sum(DIMS)).train()


def normalised(images: torch.Tensor) -> torch.Tensor:
    """RGB in 0 to 255 with ImageNet's moments."""
    mean, std = (images.new_tensor(one).view(-1, 1, 1) for one in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    return (images - mean) / std


class SupervisedTrainer(Trainer):
    """A run, which is trained on the images that probes are fitted on, in mild crops, half of them mirrored.

    Args:
        scale (SmallScale): Sizes and the learning rate.
        model (str): One of `MODELS_COMPARED`.
        seed (int): Of the weights, the order and the crops.
        data (Data): The scenes.
    """

    def __init__(self, scale: SmallScale, model: str, seed: int, data: Data):
        probes = data.probes
        self.name, self.labels = model, probes.labels[probes.fit]
        pack = Pack(probes.images, probes.labels, probes.fit, probes.fit, probes.held_out, probes.digest)
        super().__init__(scale, Arm(model), seed, pack, scale.updates, scale.fractions)

    def build(self) -> nn.Module:
        """Module: The model at the start."""
        return classifier(self.name, self.seed)

    def loss(self, step: int) -> torch.Tensor:
        """Tensor: The cross entropy of an update's batch."""
        epochs, ids = self.samples(step)
        pixels = crop(self.images[ids], self.seed, epochs, ids, (0.8, 1.), 1.1)
        return F.cross_entropy(self.model(normalised(pixels)), self.labels[ids])


@torch.no_grad()
def top1(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int = 200) -> float:
    """Top-1 in per cent; the model is left in the mode that it was in."""
    training = model.training
    model.eval()
    right = sum(int((model(normalised(some.float())).argmax(1) == of).sum())
                for some, of in zip(images.split(batch), labels.split(batch), strict=True))
    model.train(training)
    return 100 * right / len(labels)


class SupervisedStudy(Study):
    """The comparison in a folder.

    Args:
        folder (str | Path): Where runs are, and the scenes, which are drawn there.
        out (str | Path): The file of facts.
        models (Sequence[str]): Those compared. Defaults to all.
        seeds (Sequence[int]): Of the runs on the test split; the first one chooses the rate. Defaults to `SEEDS`.
        rates (Sequence[float]): Learning rates to choose from. Defaults to `RATES`.
        scale (SmallScale): Sizes. Defaults to `SCALE`.
    """

    def __init__(self, folder: str | Path, out: str | Path, models: Sequence[str] = tuple(MODELS_COMPARED),
                 seeds: Sequence[int] = SEEDS, rates: Sequence[float] = RATES, scale: SmallScale = SCALE):
        super().__init__(NAME, '', folder, out, scale=scale)
        self.models, self.seeds, self.rates = models, seeds, rates
        self._scenes: Data | None = None

    @property
    def scenes(self) -> Data:
        """Data: The scenes, read at first use."""
        size = self.scale.size
        self._scenes = self._scenes or scenes(self.folder.parent / f'scenes-{size}', size)
        return self._scenes

    def phases(self, decisions: dict[str, Any]) -> Iterator[list[Job]]:
        """Every rate with the first seed, then the chosen ones with the others."""
        yield [Job('rates', f'{model}@{rate:g}', self.seeds[0], 1.) for model in self.models for rate in self.rates]
        yield [Job('test', f'{model}@{decisions[model]:g}', seed, 1.) for seed in self.seeds[1:] for model in self.models]

    def _decide(self) -> dict[str, Any]:
        """The rate of each model whose runs are complete: the one, and of equal ones the lowest, that validation prefers."""
        results, found = self.results(), {}
        for model in self.models:
            runs = [results.get(Job('rates', f'{model}@{rate:g}', self.seeds[0], 1.).name) for rate in self.rates]
            if all(runs):
                found[model] = max(zip(self.rates, runs, strict=True), key=lambda pair: pair[1]['points']['1']['val'])[0]
        return found

    def _settings(self, job: Job) -> tuple[str, SmallScale]:
        model, rate = job.arm.split('@')
        return model, replace(self.scale, lr=float(rate))

    def trainer(self, job: Job) -> Trainer:
        """Trainer: Of a run, at its start."""
        model, scale = self._settings(job)
        return SupervisedTrainer(scale, model, job.seed, self.scenes)

    def measure(self, trainer: Trainer) -> dict[str, Any]:
        """dict: Top-1 in per cent on both splits, 'val' and 'test', and the seconds that it took."""
        begun, probes = time.monotonic(), self.scenes.probes
        test = probes.test[:len(probes.test) - len(probes.held_out)]  # those held out, the val split, are the last ones
        val, test = (top1(trainer.model, probes.images[ids], probes.labels[ids]) for ids in (probes.held_out, test))
        return dict(val=val, test=test, seconds=time.monotonic() - begun)

    def settings(self, job: Job) -> dict[str, Any]:
        """dict: What a run's numbers depend on."""
        model, scale = self._settings(job)
        return dict(scale=scale.settings(), arm=job.arm, model=model, lr=scale.lr, backbone=MODELS_COMPARED[model][1],
                    seed=job.seed, images=self.scenes.counts())

    def described(self) -> dict[str, Any]:
        """dict: What is compared, and the rates that are chosen."""
        return dict(rates=self.rates, chosen=self._decide(), models={
            model: dict(title=MODELS_COMPARED[model][0],
                        parameters=sum(parameter.numel() for parameter in classifier(model, 0).parameters()))
            for model in self.models})

    def write_facts(self) -> None:
        """Write this part of the file of facts."""
        with write_together(self.out):
            super().write_facts()
