"""The images of the study in memory: photographs, and scenes that it draws itself."""
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import InterpolationMode, resize

from coma_mm.benchmark.complement.images import Pack, read_pack
from coma_mm.locks import locked
from coma_mm.prepare.shapes import write_shapes

FIT_PER_CLASS, MORE_TESTS, SEEN = 40, 2000, 1000
"""Photographs: those of a class that probes are fitted on, further train images that test them, and those of `Data.seen`."""
SCENES = dict(unlabelled=3000, train=1000, val=1000, test=1000)
NONE = torch.arange(0)


@dataclass
class Data:
    """Images for three purposes.

    Args:
        train (Pack): What is pre-trained on: all of it is `train`.
        probes (Pack): `fit` and `test` of the probes, and `held_out`, of which no pre-training sees any.
        seen (Pack): Some of those that are pre-trained on, as `held_out`.
    """
    train: Pack
    probes: Pack
    seen: Pack

    def counts(self) -> dict[str, int | str]:
        """dict: How many there are, and what they are."""
        return dict(pretraining=len(self.train.train), fit=len(self.probes.fit), test=len(self.probes.test),
                    held_out=len(self.probes.held_out), digest=self.train.digest)


def photographs(path: str | Path, size: int = 64) -> Data:
    """The pack tiny-imagenet-100, resized where its 64 px are not `size`; see `read_pack`."""
    pack = read_pack(path, FIT_PER_CLASS)
    if pack.images.shape[-1] != size:
        pack = replace(pack, images=resize(pack.images, [size, size], InterpolationMode.BICUBIC))
    others = torch.ones(len(pack.labels), dtype=torch.bool)
    others[torch.cat([pack.fit, pack.held_out])] = False
    others = others.nonzero()[:, 0]
    others = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(0))]
    return _data(pack, pack.train, pack.fit, others[:MORE_TESTS], pack.held_out)


def scenes(folder: str | Path, size: int) -> Data:
    """CoMA-Shapes of the easy level, which are drawn there if they are not there: the unlabelled scenes for pre-training."""
    folder = Path(folder)
    with locked(folder, folder.with_suffix('.lock'), wait=True):
        write_shapes(folder, SCENES, size, level='easy', progress=False)
    files = [sorted(folder.glob('unlabelled/*.jpg')),
             *(sorted(folder.glob(f'imagenet/{split}/*/*.jpg')) for split in ('train', 'test', 'val'))]
    names = sorted({path.parent.name for path in files[1]})
    labels = [0 if i == 0 else names.index(path.parent.name) for i, part in enumerate(files) for path in part]
    images = np.stack([np.asarray(Image.open(path).convert('RGB')) for part in files for path in part])
    pack = Pack(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels), NONE, NONE, NONE,
                f'easy scenes, {size} px, seed 0')
    return _data(pack, *torch.arange(len(labels)).split([len(part) for part in files]))


def _data(pack: Pack, train: torch.Tensor, fit: torch.Tensor, test: torch.Tensor, held_out: torch.Tensor) -> Data:
    """Parts of images by their indices; probes are tested on those that are held out as well."""
    def part(*ids: torch.Tensor, fitted: int = 0, held: int = 0, trained: bool = False) -> Pack:
        chosen = torch.cat(ids)
        all_of_it = torch.arange(len(chosen))
        return Pack(pack.images[chosen], pack.labels[chosen], all_of_it if trained else NONE, all_of_it[:fitted],
                    all_of_it[len(chosen) - held:], pack.digest)

    return Data(part(train, trained=True), part(fit, test, held_out, fitted=len(fit), held=len(held_out)),
                part(train[::max(1, len(train) // SEEN)], held=len(train[::max(1, len(train) // SEEN)])))
