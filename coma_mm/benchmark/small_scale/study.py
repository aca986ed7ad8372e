"""The runs of the study: each arm with each seed, measured along its training; a run that is stopped goes on."""
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from coma_mm.benchmark.complement.arms import build, operations
from coma_mm.benchmark.complement.downstream import fine_tune
from coma_mm.benchmark.complement.measures import measure, reconstruction
from coma_mm.benchmark.complement.study import Job, Study
from coma_mm.benchmark.complement.trainer import Trainer
from coma_mm.errors import choice
from coma_mm.locks import locked

from .arms import ARMS, FINE_TUNING, GROUPS, SCALES, SEEDS, SmallArm, SmallScale
from .images import Data, photographs, scenes


class SmallStudy(Study):
    """The study in a folder.

    Args:
        data (str | Path): The photographs, see `read_pack`.
        folder (str | Path): Where runs are, and the scenes, which are drawn there.
        out (str | Path): The file of facts.
        only (Sequence[str]): Names of arms and groups that are run. Defaults to all.
        arms (dict[str, SmallArm], optional): Defaults to `ARMS`.
        seeds (Sequence[int]): Defaults to `SEEDS`.
    """

    def __init__(self, data: str | Path, folder: str | Path, out: str | Path, only: Sequence[str] = (),
                 arms: dict[str, SmallArm] | None = None, seeds: Sequence[int] = SEEDS):
        super().__init__('pretraining', data, folder, out, scale=SCALES['photographs'])
        self.arms, self.seeds = arms or ARMS, seeds
        for name in only:
            choice('--only', name, (*GROUPS, 'scratch', *self.arms))
        self.only = set(only)
        self._data: dict[tuple[str, int], Data] = {}

    def phases(self, decisions: dict[str, Any]) -> Iterator[list[Job]]:
        """All runs, group by group and seed by seed."""
        yield [Job(group, name, seed, 1.) for group in GROUPS for seed in self.seeds for name, arm in self.arms.items()
               if arm.group == group and (not self.only or self.only & {name, group})]

    def _decide(self) -> dict[str, Any]:
        return {}  # nothing depends on results

    def images(self, arm: SmallArm) -> Data:
        """Data: Those of an arm, read at first use."""
        size = arm.scale.size
        if (arm.data, size) not in self._data:
            self._data[arm.data, size] = (photographs(self.data, size) if arm.data == 'photographs'
                                          else scenes(self.folder.parent / f'scenes-{size}', size))
        return self._data[arm.data, size]

    def trainer(self, job: Job) -> Trainer:
        """Trainer: Of a run, at its start."""
        arm = self.arms[job.arm]
        scale = arm.scale
        return Trainer(scale, arm, job.seed, self.images(arm).train, scale.updates, scale.fractions, self.device)

    @torch.no_grad()
    def measure(self, trainer: Trainer) -> dict[str, Any]:
        """All measures of a run as it is now.

        Returns:
            dict: Those of `measure`; 'seen', the error on images that are trained on; while the leak in the stem is open
            'closed', the error on held-out images when it is closed; 'stage_weights', if they are learned; 'finetuned',
            top-1 in per cent of a classifier, where the arm is fine-tuned; and 'seconds' that measuring took.

        Raises:
            Stopped: If it was to stop while fine-tuning.
        """
        begun, model, data, arm = time.monotonic(), trainer.model, self.images(trainer.arm), trainer.arm
        found = measure(model, trainer.scale, data.probes)
        found['seen'] = reconstruction(model, trainer.scale, data.seen)
        if not getattr(model.backbone, 'mask_before_stem', True):
            model.backbone.mask_before_stem = True
            found['closed'] = reconstruction(model, trainer.scale, data.probes)
            model.backbone.mask_before_stem = False
        if model.neck.stage_weights is not None:
            found['stage_weights'] = model.neck.stage_weights.tolist()
        if trainer.step / trainer.updates in arm.finetuned:
            with torch.enable_grad():
                found['finetuned'] = fine_tune(model, trainer.scale, data.probes, trainer.seed, stops=self.stops,
                                               **FINE_TUNING[arm.data])
        return dict(found, seconds=time.monotonic() - begun)

    def settings(self, job: Job) -> dict[str, Any]:
        """dict: What a run's numbers depend on."""
        arm = self.arms[job.arm]
        return dict(scale=arm.scale.settings(), arm=job.arm, complement=arm.complement, seen=arm.seen, seed=job.seed,
                    finetuned=dict(FINE_TUNING[arm.data], at=arm.finetuned) if arm.finetuned else None,
                    images=self.images(arm).counts(), macs_per_image=operations(arm.scale, arm), device=self.device)

    def described(self) -> dict[str, Any]:
        """dict: What is compared."""
        return dict(arms={
            name: dict(title=arm.title, group=arm.group, updates=round(arm.scale.updates * arm.budget), lr=arm.scale.lr,
                       images_per_update=arm.scale.batch, macs_per_image=operations(arm.scale, arm),
                       parameters=parameters(arm.scale, arm))
            for name, arm in self.arms.items()})

    def write_facts(self) -> None:
        """Write this part of the file of facts."""
        with write_together(self.out):
            super().write_facts()


def write_together(out: Path) -> AbstractContextManager[None]:
    """While it is entered, no other process writes any part of a file of facts."""
    return locked(out.parent, out.with_suffix('.lock'), wait=True)


@cache
def parameters(scale: SmallScale, arm: SmallArm) -> int:
    """int: Of the encoder."""
    return sum(parameter.numel() for parameter in build(scale, arm, 0).backbone.parameters())
