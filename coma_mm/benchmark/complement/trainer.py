"""One run of the study: a course at a constant learning rate, from which a short decay branches off at each budget.

The course to a budget is the same whatever follows it (Hägele et al. 2024, arXiv 2405.18392), so a run of twice the budget
has that of the single one in it, to the last bit.
"""
import copy
import hashlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from coma_mm.errors import Stopped
from coma_mm.files import write_whole
from coma_mm.models import CoMA

from .arms import Arm, Scale, build, loss
from .draws import crop, draw_masks, order
from .images import Pack


class Segment(NamedTuple):
    """A part of a run.

    Args:
        begin (int): The updates made before it.
        end (int): The updates made at its end.
        fraction (float, optional): The budget that it decays to; None on the course itself.
    """
    begin: int
    end: int
    fraction: float | None


def plan(updates: int, fractions: Sequence[float], decay: float) -> list[Segment]:
    """The segments of a run.

    Args:
        updates (int): At the whole budget.
        fractions (Sequence[float]): Ascending shares of it at which the run is measured.
        decay (float): The share of each budget in which the learning rate falls.

    Returns:
        list[Segment]: The course up to a budget's decay, and the decay, in turn.
    """
    found, begin = [], 0
    for fraction in fractions:
        end = round(updates * fraction)
        start = end - round(updates * fraction * decay)
        found += [Segment(begin, start, None), Segment(start, end, fraction)]
        begin = start
    return found


class Trainer:
    """The state of a run, which goes on exactly where it was.

    Args:
        scale (Scale): The sizes.
        arm (Arm): What is trained.
        seed (int): Of the weights, the order, the crops and the masks.
        pack (Pack): The photographs.
        updates (int): At the whole budget.
        fractions (Sequence[float]): Shares of it at which the run is measured.
        device (str): Where everything is and runs. Defaults to 'cpu'.
        bf16 (bool, optional): Compute in bf16 where autocast says so. Defaults to doing so on a GPU.
    """

    def __init__(self, scale: Scale, arm: Arm, seed: int, pack: Pack, updates: int, fractions: Sequence[float],
                 device: str = 'cpu', bf16: bool | None = None):
        self.scale, self.arm, self.seed, self.device = scale, arm, seed, torch.device(device)
        self.bf16 = self.device.type == 'cuda' if bf16 is None else bf16
        self.model = self.build().to(self.device)
        self.images = pack.images[pack.train].to(self.device)
        self.updates, self.segments = updates, plan(updates, fractions, scale.decay)
        self.warmup = max(1, round(scale.warmup * updates))
        self.optimizer = _optimizer(self.model, scale)
        if isinstance(self.model, CoMA):
            self.model.follow(self.optimizer, torch.bfloat16 if self.bf16 else None)
        self.segment = self.step = 0
        self.seconds = 0.
        self.course = None  # what the course goes on from, while a decay is under way
        self._orders: dict[int, torch.Tensor] = {}

    def build(self) -> nn.Module:
        """Module: The model at the start, on the CPU."""
        return build(self.scale, self.arm, self.seed)

    @property
    def batch(self) -> int:
        """int: Images per update."""
        return self.scale.batch * self.arm.images

    def samples(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Epochs and indices of the images of an update, (B, ) each. A batch may end one epoch and begin the next."""
        n, begin = len(self.images), step * self.batch
        epochs = range(begin // n, (begin + self.batch - 1) // n + 1)
        for epoch in epochs:
            if epoch not in self._orders:
                self._orders[epoch] = order(self.seed, epoch, n, self.device)
        self._orders = {epoch: self._orders[epoch] for epoch in epochs}
        places = torch.arange(begin, begin + self.batch, device=self.device)
        return places // n, torch.cat(list(self._orders.values()))[places - epochs[0] * n]

    def inputs(self, step: int) -> tuple:
        """The normalised images, (B, 3, S, S), and the masks of an update."""
        epochs, ids = self.samples(step)
        pixels = crop(self.images[ids], self.seed, epochs, ids)
        masks = draw_masks(self.seed, epochs, ids, self.scale.patches, self.scale.keep(self.arm), self.arm.pair)
        return normalise(self.model, pixels), masks

    def loss(self, step: int) -> torch.Tensor:
        """Tensor: The loss of an update's batch, a scalar."""
        images, masks = self.inputs(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return loss(self.model, images, masks)

    def rate(self) -> float:
        """float: The learning rate of the next update."""
        lr, segment = self.scale.lr, self.segments[self.segment]
        if segment.fraction is not None:
            return lr * (segment.end - self.step) / (segment.end - segment.begin + 1)
        return lr * min(1., (self.step + 1) / self.warmup)

    def update(self) -> None:
        """Make an update."""
        for group in self.optimizer.param_groups:
            group['lr'] = self.rate()
        self.model.progress = min(1., self.step / self.updates)
        self.loss(self.step).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    @property
    def left(self) -> int:
        """int: Updates that are still to be made, those of each decay included."""
        ahead = self.segments[self.segment:]
        return sum(segment.end - segment.begin for segment in ahead) - (self.step - ahead[0].begin if ahead else 0)

    def run(self, measured: Callable[[float], None], path: Path, stops: Callable[[], bool] = lambda: False,
            saved: Callable[[], None] = lambda: None, every: float = 60.) -> None:
        """Go on to the end.

        Args:
            measured (Callable): Called with the fraction at each decay's end; what it does survives a stop.
            path (Path): The checkpoint: written every so often, read by `resume`.
            stops (Callable): Whether to stop now; asked after each update. Defaults to never.
            saved (Callable): Called after each checkpoint between them. Defaults to nothing.
            every (float): Seconds between checkpoints. Defaults to 60.

        Raises:
            Stopped: If it was to stop; all is saved.
        """
        last = time.monotonic()
        while self.segment < len(self.segments):
            segment = self.segments[self.segment]
            if segment.fraction is not None and self.course is None:
                self.course = copy.deepcopy(self._state())
            while self.step < segment.end:
                begun = time.monotonic()
                self.update()
                self.seconds += time.monotonic() - begun
                if stop := stops() or time.monotonic() > last + every:
                    self.save(path)
                    last = time.monotonic()
                    saved()
                if stop and stops():
                    raise Stopped(f'stopped at update {self.step}; {path} has all of it')
            if segment.fraction is not None:
                measured(segment.fraction)
                self._restore(self.course)
                self.course, self.step = None, segment.begin
            self.segment += 1
            self.save(path)
            last = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return dict(model=self.model.state_dict(), optimizer=self.optimizer.state_dict())

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole."""
        content = io.BytesIO()
        place = dict(course=self.course, step=self.step, segment=self.segment, seconds=self.seconds)
        torch.save(dict(self._state(), **place), content)
        write_whole(path, content.getbuffer())

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self._restore(state)
        self.course, self.step, self.segment, self.seconds = (state[key] for key in ('course', 'step', 'segment', 'seconds'))

    def digest(self) -> str:
        """str: SHA-256 of the weights."""
        found = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            found.update(name.encode() + tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()


def normalise(model: CoMA, images: torch.Tensor) -> torch.Tensor:
    """RGB in 0 to 255 as the model takes them."""
    return (images - model.data_preprocessor.mean) / model.data_preprocessor.std


def _optimizer(model: nn.Module, scale: Scale) -> torch.optim.Optimizer:
    """AdamW with MAE's settings; biases and norms do not decay."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [dict(params=matrices, weight_decay=scale.weight_decay), dict(params=others, weight_decay=0.)]
    return torch.optim.AdamW(groups, lr=scale.lr, betas=(0.9, 0.95), fused=True)
