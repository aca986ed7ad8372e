"""The photographs of the study, uint8 in memory: those trained on, those that probes fit and test, those held out."""
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from coma_mm.errors import UserError
from coma_mm.progress import track

FIT_PER_CLASS = 80


@dataclass
class Pack:
    """Images in the order of their names.

    Args:
        images (Tensor): uint8 RGB, (n, 3, S, S).
        labels (Tensor): Class ids, int64, (n, ).
        train (Tensor): Indices of the train split, which is pre-trained on without labels.
        fit (Tensor): Indices of those train images that probes are fitted on.
        held_out (Tensor): Indices of the val split, which no pre-training sees.
        digest (str): SHA-256 of the images and labels.
    """
    images: torch.Tensor
    labels: torch.Tensor
    train: torch.Tensor
    fit: torch.Tensor
    held_out: torch.Tensor
    digest: str

    @property
    def test(self) -> torch.Tensor:
        """Tensor: What probes are tested on: all but `fit`."""
        chosen = torch.ones(len(self.labels), dtype=torch.bool)
        chosen[self.fit] = False
        return chosen.nonzero()[:, 0]


def read_pack(path: str | Path, fit_per_class: int = FIT_PER_CLASS) -> Pack:
    """Read train/CLASS/* and val/CLASS/*, of a folder or a zip file; a picture that is there twice is left out, both times.

    Args:
        path (str | Path): The folder or the zip file, in which they may lie one folder deep.
        fit_per_class (int): Train images of each class that probes are fitted on, the first ones of a fixed random order.
            Defaults to 80.

    Returns:
        Pack: The images.

    Raises:
        UserError: There are no such images, they differ in size, or a class has too few.
    """
    names, pictures = [], []
    for name, content in track(sorted(_files(Path(path))), 'Reading photographs', transient=True):
        names.append(name)
        pictures.append(np.asarray(Image.open(io.BytesIO(content)).convert('RGB')))
    if len({picture.shape for picture in pictures}) != 1:
        raise UserError(f'{path}: expected images of one size in train/CLASS and val/CLASS, and found '
                        f'{len({picture.shape for picture in pictures})} sizes in {len(pictures)} images; give --data the '
                        'pack tiny-imagenet-100, its folder or its zip file')
    prints = [picture.tobytes() for picture in pictures]
    count = {}
    for one in prints:
        count[one] = count.get(one, 0) + 1
    single = [i for i, one in enumerate(prints) if count[one] == 1]
    splits = np.array([names[i].split('/')[0] for i in single])
    classes, labels = np.unique([names[i].split('/')[1] for i in single], return_inverse=True)
    images = torch.from_numpy(np.stack([pictures[i] for i in single])).permute(0, 3, 1, 2).contiguous()
    draw, fit = np.random.default_rng(0), []
    for label, name in enumerate(classes):
        own = np.flatnonzero((labels == label) & (splits == 'train'))
        if len(own) <= fit_per_class:
            raise UserError(f'{path}: the class {name} has {len(own)} train images of its own; expected more than '
                            f'{fit_per_class}, which probes are fitted on')
        fit += draw.permutation(own)[:fit_per_class].tolist()
    digest = hashlib.sha256(images.numpy().tobytes() + labels.tobytes()).hexdigest()
    return Pack(images, torch.from_numpy(labels.astype(np.int64)), *(torch.from_numpy(np.flatnonzero(splits == split))
                if split else torch.tensor(sorted(fit)) for split in ('train', '', 'val')), digest)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """SPLIT/CLASS/FILE and the content of each image."""
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as pack:
            entries = [(name, pack.read(name)) for name in pack.namelist()]
    elif path.is_dir():
        entries = [(one.as_posix(), one.read_bytes()) for one in path.rglob('*') if one.is_file()]
    else:
        raise UserError(f'{path}: expected the pack tiny-imagenet-100, its folder or its zip file; see --data')
    for name, content in entries:
        parts = name.split('/')[-3:]
        if len(parts) == 3 and parts[0] in ('train', 'val') and parts[2].lower().endswith(('.jpeg', '.jpg', '.png')):
            yield '/'.join(parts), content
