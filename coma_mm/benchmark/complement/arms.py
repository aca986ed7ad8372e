"""What is compared: the arms of the study, its two scales, and how many operations an update of each arm takes."""
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from coma_mm.benchmark.counting.counting import Operations
from coma_mm.models import CoMA

from .draws import Masks


@dataclass(frozen=True)
class Arm:
    """One way to pre-train.

    Args:
        title (str): What a person reads.
        complement (str): Of `CoMA`. Defaults to 'none', which is MAE.
        pair (str): Of `PatchMask`. Defaults to 'complementary'.
        images (int): Factor on the scale's images per update. Defaults to 1.
        budget (float): Factor on the operations. Defaults to 1.
        seen (float): The share of an image's patches that the first branch sees. Defaults to a half.
    """
    title: str
    complement: str = 'none'
    pair: str = 'complementary'
    images: int = 1
    budget: float = 1.
    seen: float = 0.5


ARMS = {
    'A': Arm('MAE, 50 %, twice the updates'),
    'A2': Arm('MAE, 50 %, twice the images per update', images=2),
    'B': Arm('two independent masks, both trained', 'full', 'independent'),
    'C': Arm('two complementary masks, both trained', 'full'),
    'D': Arm('full, 60 % and 40 %', 'full', seen=0.4),
    'E': Arm('decoder, 60 % and 40 %', 'decoder', seen=0.4),
    'F': Arm('frozen, 60 % and 40 %', 'frozen', seen=0.4),
    'L': Arm('latent targets beside pixels, 50 %', 'latent'),
    'P': Arm('A with twice the budget', budget=2),
}


@dataclass(frozen=True)
class Scale:
    """How large the study is.

    Args:
        arms (tuple[str]): Which are run.
        arch (dict): Of DyViT.
        decoder (dict): Of ViTDecoder: embed_dims, depth, num_heads.
        batch (int): Images per update.
        updates (int): Of arms with two branches, at the whole budget; of A twice as many.
        lr (float): Of AdamW, after the warm-up, before the decay; the same for all arms.
        stages (tuple[int]): What the decoder sees. Defaults to all four, the paper's.
        norm_pix (bool): Of the target. Defaults to True, MAE's.
        warmup (float): The share of the whole budget in which the learning rate rises. Defaults to 0.04.
        decay (float): The share of each budget in which the learning rate falls to 0. Defaults to 0.2.
        fractions (tuple[float]): Budgets at which a run is measured.
        patch_size, size (int): Sides in px. Default to 16 and 64.
        weight_decay (float): Defaults to 0.05, MAE's.
    """
    arms: tuple[str, ...]
    arch: dict = field(hash=False)
    decoder: dict = field(hash=False)
    batch: int
    updates: int
    lr: float
    stages: tuple[int, ...] = (0, 1, 2, 3)
    norm_pix: bool = True
    warmup: float = 0.04
    decay: float = 0.2
    fractions: tuple[float, ...] = (0.125, 0.25, 0.5, 1.)
    patch_size: int = 16
    size: int = 64
    weight_decay: float = 0.05

    @property
    def patches(self) -> int:
        """int: Of an image."""
        return (self.size // self.patch_size)**2

    def keep(self, arm: Arm) -> int:
        """int: Patches that an arm's first branch sees."""
        return round(self.patches * arm.seen)

    def settings(self) -> dict[str, Any]:
        """dict: All but the arms, as JSON has it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
                if key != 'arms'}

    def encoder(self, stages: tuple[int, ...], out_type: str) -> dict[str, Any]:
        """dict: The config of the encoder with these outputs."""
        return dict(type='DyViT', arch=self.arch, patch_size=self.patch_size, out_indices=stages, out_type=out_type)

    def model(self, arm: Arm) -> dict[str, Any]:
        """dict: The config of an arm's model."""
        return dict(type='CoMA', complement=arm.complement, backbone=self.encoder(self.stages, 'raw'),
                    neck=dict(type='MultiScaleFusion'), decoder=dict(type='ViTDecoder', **self.decoder),
                    head=dict(type='PixelHead', norm_pix=self.norm_pix))

    def longer(self, factor: float) -> 'Scale':
        """The scale with that many times the updates."""
        return replace(self, updates=round(self.updates * factor))


SCALES = {
    'cpu': Scale(('A', 'B', 'C', 'L', 'P'), dict(dims=(24, 48, 96, 192), depths=(1, 1, 4, 1), num_heads=(1, 2, 3, 6)),
                 dict(embed_dims=96, depth=1, num_heads=3), batch=64, updates=1560, lr=1e-3, stages=(3,)),
    'gpu': Scale(tuple(ARMS), dict(dims=(64, 128, 256, 512), depths=(1, 1, 6, 2), num_heads=(2, 4, 8, 16)),
                 dict(embed_dims=256, depth=2, num_heads=8), batch=256, updates=16000, lr=1e-3, stages=(3,)),
}


def build(scale: Scale, arm: Arm, seed: int) -> CoMA:
    """An arm's model with the initial weights of a seed, which arms with the same layers have in common, on the CPU."""
    with initialising(seed):
        model = MODELS.build(scale.model(arm))
        model.init_weights()
    return model.train()


@contextmanager
def initialising(seed: int) -> Iterator[None]:
    """While it is entered, models are built with the weights of a seed, without a line about each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        logger.setLevel(level)


def loss(model: CoMA, images: torch.Tensor, masks: Masks) -> torch.Tensor:
    """The loss of a batch, a scalar."""
    ids_keep, ids_rest, *second = masks
    return model.loss(images, ids_keep, ids_rest, **dict(zip(('second_keep', 'second_rest'), second, strict=True))
                      if second[0] is not None else {})['loss']


@cache
def operations(scale: Scale, arm: Arm) -> int:
    """MACs of an image in an arm's update, forward and backward, attention's products and all branches included."""
    model = build(scale, arm, 0)
    ids = torch.arange(scale.patches)[None]
    kept = scale.keep(arm)
    second = (ids[:, kept:], ids[:, :kept]) if arm.pair == 'independent' else (None, None)
    with Operations(model.state_dict(keep_vars=True).values()) as counted:
        loss(model, torch.zeros(1, 3, scale.size, scale.size), Masks(ids[:, :kept], ids[:, kept:], *second)).backward()
    return counted.macs()['attention']


def updates(scale: Scale, arm: Arm) -> int:
    """How many updates an arm makes in its budget: that of B at the scale, times the arm's factor, in operations."""
    ours, budget = (operations(scale, one) for one in (arm, ARMS['B']))
    return round(scale.updates * arm.budget * budget / (ours * arm.images))
