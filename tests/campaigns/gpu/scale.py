"""How large the parts of `make gpu` are."""
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RUNS = '.runs'
"""Folder of the runs that are made, hidden from `benchmark collect`."""


@dataclass(frozen=True)
class Scale:
    """All that the parts take from the command line, and how large they are.

    Args:
        device (str): 'cuda', or 'cpu' to try it.
        out (str): Folder for everything.
        images (str | None): Folder of JPEGs for the data path; None: some are drawn.
        arch (str): Of the models that are timed.
        size (int): Side of their images in pre-training, px.
        batches (tuple[int, ...]): Images of a step of pre-training, the most telling first.
        inference (tuple[int, ...]): Sides of the images in dense inference, px.
        dense (tuple[int, int]): Sides of the images in UperNet and Mask R-CNN, px.
        repeats (int): Timings of each contestant.
        steps (int): Steps that make one timing.
        drawn (int): JPEGs that are drawn.
        pictures (int): How many they, or those in `images`, are made by links.
        shapes (int): Images of CoMA-Shapes to train tiny models on.
        updates (int): Of the runs whose losses are compared.
        seconds (int): Of training from JPEGs.
        workers (int): Processes that load in the measurements of the data path.
        together (int): Parts and runs that measure no time, side by side.
    """
    device: str
    out: str
    images: str | None
    arch: str
    size: int
    batches: tuple[int, ...]
    inference: tuple[int, ...]
    dense: tuple[int, int]
    repeats: int
    steps: int
    drawn: int
    pictures: int
    shapes: int
    updates: int
    seconds: int
    workers: int
    together: int

    def path(self, *names: str) -> Path:
        """A path in the folder for everything."""
        return Path(self.out, *names)

    def as_text(self) -> str:
        """For `from_text`, in another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> 'Scale':
        """From `as_text`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()})


def scale(device: str, out: str | Path, images: str | None = None) -> Scale:
    """What one card is worth, or as little as shows on a CPU that the parts run."""
    cores = len(os.sched_getaffinity(0))
    if device == 'cuda':
        return Scale(device, str(out), images, arch='base', size=224, batches=(512, 256, 128), inference=(224, 512, 1024),
                     dense=(512, 768), repeats=4, steps=5, drawn=96, pictures=64_000, shapes=400, updates=500, seconds=35,
                     workers=max(1, cores - 1), together=6)
    return Scale(device, str(out), images, arch='tiny', size=64, batches=(4, 2), inference=(64, ), dense=(64, 64), repeats=1,
                 steps=1, drawn=3, pictures=120, shapes=16, updates=4, seconds=8, workers=1, together=1)
