"""Any folder of images as a data set for pre-training."""
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from coma_mm.errors import MissingFileError, UserError, choice

from .annotations import pipeline_steps
from .passed_over import counts

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.gif')

BAND_SUFFIXES = (*IMAGE_SUFFIXES, '.npy', '.npz', '.dcm', '.dicom', '.avif', '.heic', '.heif')
"""With `bands` in the pipeline."""


def walk_files(folder: str, on_error: Callable[[OSError], None] | None = None) -> Iterator[str]:
    """Paths of the files in a folder and the folders below it, in no certain order; hidden ones are left out.

    Links are followed, except from a folder into itself. Nothing is read of the files, not even their status, and the
    first one comes before the folder is read to its end: folders of millions are fine.

    Args:
        folder (str): Where to start.
        on_error (Callable, optional): Called with the error for each folder that cannot be read. Defaults to passing
            over it.
    """
    todo = [(folder, frozenset())]
    while todo:
        folder, above = todo.pop()
        try:
            status = os.stat(folder)
            here = status.st_dev, status.st_ino
            if here in above:
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith('.'):
                        continue
                    if is_folder(entry):
                        todo.append((entry.path, above | {here}))
                    elif entry.is_file(follow_symlinks=False) or entry.is_symlink():  # no pipe, no device
                        yield entry.path
        except OSError as error:
            if on_error:
                on_error(error)


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # e.g. a link to itself
        return False


def image_suffixes(suffixes: Sequence[str] | None, pipeline: Sequence[dict | Callable]) -> tuple[str, ...]:
    """Those that an `ImageFolder` looks for; see its arguments."""
    if suffixes is None:
        has_bands = any((step if isinstance(step, Mapping) else vars(step)).get('bands') is not None
                        for step in pipeline if hasattr(step, '__dict__') or isinstance(step, Mapping))
        suffixes = BAND_SUFFIXES if has_bands else IMAGE_SUFFIXES
    return tuple(suffix.lower() for suffix in suffixes)


def suffixes_read(dataset: Dataset) -> tuple[str, ...]:
    """The suffixes of the image files that a data set's pipeline reads, or that the data set itself looks for."""
    return image_suffixes(getattr(dataset, 'suffixes', None), list(pipeline_steps(dataset)))


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images in a folder and the folders below it: no labels, no class folders, no annotation file.

    A file is an image if its suffix says so, in any case; hidden files and folders are left out. Samples are
    `dict(img_path=...)`, sorted by path, so the order is the same on every machine.

    Args:
        data_root (str): The folder.
        pipeline (Sequence): The transforms. Defaults to ().
        part (str): 'all'; or with every `holdout`-th image, in sorted order, held out for validation: 'train' for
            the others, 'val' for those. Defaults to 'all'.
        holdout (int): See `part`. Defaults to 20.
        suffixes (Sequence[str], optional): Suffixes of image files. Defaults to `IMAGE_SUFFIXES`, or to `BAND_SUFFIXES` if
            a step of the pipeline has `bands`.
        **kwargs: Further arguments of mmengine's `BaseDataset`, e.g. `indices`.

    Raises:
        UserError: If `data_root` is missing, is not a folder, or holds no image.
    """

    def __init__(self, data_root: str, pipeline: Sequence[dict | Callable] = (), part: str = 'all', holdout: int = 20,
                 suffixes: Sequence[str] | None = None, **kwargs: Any):
        self.part, self.holdout = choice('ImageFolder: part', part, ('all', 'train', 'val')), holdout
        self.suffixes = image_suffixes(suffixes, pipeline)
        super().__init__(data_root=data_root, pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict]:
        """One `dict(img_path=...)` per image, sorted."""
        root = os.path.normpath(self.data_prefix['img_path'])
        if not os.path.isdir(root):
            there = os.path.exists(root)
            what = 'is not a folder' if there else 'does not exist'
            kind = UserError if there else MissingFileError
            raise kind(f'data_root {root} {what}; expected a folder with images in it or in folders below it')
        paths, others = [], counts(self).files
        for path in walk_files(root):
            if path.lower().endswith(self.suffixes):
                paths.append(path)
            else:
                others[os.path.splitext(path)[1].lower()] += 1
        if not paths:
            raise UserError(f'no image in data_root {root} ({others.total()} other files in it and below); expected files '
                            f'that end in {", ".join(self.suffixes)}')
        return [dict(img_path=path) for path in self.select(sorted(paths))]

    def select(self, images: list) -> list:
        """Those of a sorted list of images that are in `part`."""
        if self.part == 'val':
            images = images[::self.holdout]
        elif self.part == 'train':
            images = [image for i, image in enumerate(images) if i % self.holdout]
            if not images:
                raise UserError(f'data_root {self.data_prefix["img_path"]} holds a single image, which is held out for '
                                'validation; expected more')
        return images
