"""What a run uses of its data sets, and what it does not, in a line."""
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch.utils.data import Dataset

from coma_mm.errors import UserError

from . import passed_over
from .annotations import leaves, pipeline_steps
from .passed_over import PassedOver

SHOWN = 3
"""Names that a line has of many."""
ALMOST_NOTHING = 0.01
"""A smaller share of the objects is hardly what is meant to be used."""
REMEDIES = {
    passed_over.AREA: "write each object's area in px, for instance width × height of its bbox",
    passed_over.EMPTY: 'expected bbox=[x, y, width, height] in px, not the corners of the box',
    passed_over.THIN: 'expected bbox=[x, y, width, height] in px, not in shares of the image',
    passed_over.OUTSIDE: 'expected bbox=[x, y, width, height] in px from the upper left corner of the image',
    passed_over.IGNORE: 'remove ignore from what is to be learnt',
    passed_over.CATEGORY: "set metainfo.classes to the names of the file's categories",
    passed_over.ORPHAN: 'expected the id of an image as image_id, of the same type',
    passed_over.POLYGONS: 'expected segmentation=[[x, y, x, y, x, y, ...], ...]',
    passed_over.RUNS: 'leave poly2mask=True in LoadAnnotations',
    passed_over.CROWD: 'write iscrowd=0 for a single object',
    passed_over.SMALL: 'take a smaller filter_cfg.min_size',
}
"""What to do about objects that are left out, where no other is left."""
DELIBERATE = (passed_over.CATEGORY, passed_over.ORPHAN)
"""What most objects of a file may well be, if a part of it is wanted."""


@dataclass
class Usage:
    """What a run uses of a data set; of several that are one, their sum.

    Attributes:
        kind (str): 'detection', 'segmentation' or 'classification', or 'images' if there are no labels.
        images (int): Images that are used.
        samples (int): Samples of an epoch; not `images` where a wrapper repeats or chooses.
        classes (dict[str, int]): How many objects of each class are used, or in classification images; 0 in segmentation.
        negatives (int): Images of `images` without an object.
        objects (Counter): How many objects are not used, by what they are, in the singular: 'object of area 0'.
        examples (dict[str, list[str]]): The first few of them, by the same.
        categories (Counter): The names of the categories that are no class, and how many of `objects` they have.
        others (Counter): How many images, maps and files are not used, in the same way.
        missing (list[tuple[str, str]]): Images whose map is not there, each with the map's path.
        test_mode (bool): Whether it is for validation or testing.
        ann_files (list[str]): The annotation files.
    """
    kind: str = 'images'
    images: int = 0
    samples: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    negatives: int = 0
    objects: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    categories: Counter = field(default_factory=Counter)
    others: Counter = field(default_factory=Counter)
    missing: list[tuple[str, str]] = field(default_factory=list)
    test_mode: bool = False
    ann_files: list[str] = field(default_factory=list)

    @property
    def used(self) -> int:
        """How many objects are used, or in classification images."""
        return sum(self.classes.values())

    @property
    def line(self) -> str:
        """All of it, e.g. '950 images, 3 600 objects of 5 classes; not used: 36 objects of area 0, 12 crowds'."""
        line = many(self.images, 'image')
        if self.negatives and self.used:
            line += f' ({number(self.negatives)} without an object)'
        if self.kind == 'detection':
            line += f', {many(self.used, "object")}'
        if self.kind == 'segmentation':
            line += ' with maps'
        if self.classes and (self.used or self.kind == 'segmentation'):
            line += f' of {self._classes()}'
        if self.samples != self.images:
            line += f', {many(self.samples, "sample")} in an epoch'
        left = [many(count, what) + (f' ({shares(self.categories)})' if what == passed_over.CATEGORY else '')
                for what, count in [*self.objects.most_common(), *self.others.most_common()] if count]
        return line + (f'; not {"loaded" if self.test_mode else "used"}: {", ".join(left)}' if left else '')

    def _classes(self) -> str:
        """'5 classes', and which of them have nothing."""
        there = Counter(self.classes).most_common()
        absent = [name for name, count in there if not count] if self.kind != 'segmentation' else []
        line, notes = many(len(there) - len(absent), 'class'), []
        if absent:
            line = f'{number(len(there) - len(absent))} of {many(len(there), "class")}'
            notes.append(f'none of {listed(absent)}')
        if self.kind == 'classification' and len(there) - len(absent) > 1:
            notes.append(spread(self.classes))
        return line + (f' ({"; ".join(notes)})' if notes else '')

    @property
    def nothing(self) -> str | None:
        """That there is no object to learn from or to compare with, and what to do; None if there is one."""
        if self.kind != 'detection' or self.used:
            return None
        reason = next((reason for reason, count in self.objects.most_common() if count), None)
        remedy = 'expected annotations of objects' + self.test_mode * ', without which CocoMetric is -1'
        return f'{self.line} ({", ".join(self.ann_files)}): no object is left; {REMEDIES.get(reason, remedy)}'

    @property
    def almost_nothing(self) -> str | None:
        """That hardly any object is used, and what to do; None if there are enough, or a part is wanted."""
        left = Counter({what: count for what, count in self.objects.items() if what not in DELIBERATE})
        if self.kind != 'detection' or not self.used or self.used >= ALMOST_NOTHING * (self.used + left.total()):
            return None
        return (f'only {number(self.used)} of {many(self.used + left.total(), "object")} are used '
                f'({", ".join(self.ann_files)}); ' + REMEDIES.get(left.most_common(1)[0][0], 'check the annotations'))


def usage(dataset: Dataset) -> Usage:
    """What a run uses of a data set, and what it does not.

    Nothing is read but the samples' entries, and for segmentation the names in the folders of images and maps. What the
    libraries left out is known for data sets that were built after `config.read.register_libraries`.

    Args:
        dataset (Dataset): Of any library, wrapped or not.

    Returns:
        Usage: Counts, and the line that says them.
    """
    total = Usage(samples=_length(dataset))
    for leaf in leaves(dataset):
        total.images += _length(leaf)
        total.test_mode |= bool(getattr(leaf, 'test_mode', False))
        if not isinstance(leaf, BaseDataset) or not len(leaf):
            continue
        if getattr(leaf, 'ann_file', None):
            total.ann_files.append(str(leaf.ann_file))
        found, first = passed_over.counts(leaf), leaf.get_data_info(0)
        total.others += found.images
        total.others += Counter({_file(suffix): count for suffix, count in found.files.items()})
        if 'instances' in first:
            _add_objects(leaf, found, total)
        elif hasattr(leaf, 'seg_map_suffix') and first.get('seg_map_path'):
            _add_maps(leaf, total)
        elif first.get('gt_label') is not None:
            _add_labels(leaf, total)
    return total


def _length(dataset: Dataset) -> int:
    return len(dataset) if hasattr(dataset, '__len__') else 0


def _infos(leaf: BaseDataset) -> Iterable[dict]:
    return (leaf.get_data_info(index) for index in range(len(leaf)))


def _add_classes(leaf: BaseDataset, labels: dict[int, int], total: Usage) -> None:
    """Add the numbers of labels, by the names of their classes."""
    classes = dict(enumerate((leaf.metainfo or {}).get('classes') or ()))
    for label in sorted({*classes, *labels}):
        name = str(classes.get(label, label))
        total.classes[name] = total.classes.get(name, 0) + labels.get(label, 0)


def _add_objects(leaf: BaseDataset, found: PassedOver, total: Usage) -> None:
    total.kind = 'detection'
    if found.used is None:
        passed_over.count_used(leaf, _infos(leaf))
    total.objects += found.objects
    total.examples = {**found.examples, **total.examples}
    total.categories += found.categories
    total.negatives += found.negatives
    _add_classes(leaf, found.used, total)


def _add_labels(leaf: BaseDataset, total: Usage) -> None:
    total.kind = 'classification'
    labels = Counter()
    for info in _infos(leaf):
        labels.update(np.ravel(info['gt_label']).tolist())
    _add_classes(leaf, labels, total)


def _add_maps(leaf: BaseDataset, total: Usage) -> None:
    """Compare the names in the folders of the samples' images and maps with the samples."""
    total.kind = 'segmentation'
    _add_classes(leaf, {}, total)
    maps, images = {}, {}
    for info in _infos(leaf):
        for path, files in ((info.get('img_path'), images), (info.get('seg_map_path'), maps)):
            folder, name = os.path.split(path or '')
            if name:
                files.setdefault(folder, {})[name] = info['img_path']
    backend = (getattr(leaf, 'backend_args', None) or {}).get('backend')
    if backend not in (None, 'local') or any('://' in folder for folder in maps):
        return  # not on this machine
    there = {folder: _files(folder) for folder in {**images, **maps}}
    for folder, files in maps.items():
        absent = [(image, os.path.join(folder, name)) for name, image in files.items() if name not in there[folder]]
        total.missing += [(image, path) for image, path in absent if not os.path.exists(path)]
    if leaf.ann_file or getattr(leaf, '_indices', None) is not None:  # which choose some of the files
        return
    for folder, files in maps.items():
        total.others['map without an image'] += sum(
            name.endswith(leaf.seg_map_suffix) and name not in files for name in there[folder])
    for folder, files in images.items():
        for name in there[folder]:
            if name not in files and not (folder in maps and name.endswith(leaf.seg_map_suffix)):
                total.others[f'{_file(os.path.splitext(name)[1])} beside the images'] += 1


def _file(suffix: str) -> str:
    return f'file *{suffix}' if suffix else 'file without a suffix'


def _files(folder: str) -> set[str]:
    """The names of the files in a folder, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith('.') and not entry.is_dir()}
    except OSError:
        return set()


def tell(dataset: Dataset, split: str) -> None:
    """Log the line of a data set, once per job, and refuse one that nothing can be made of.

    Args:
        dataset (Dataset): Of any library, wrapped or not.
        split (str): What it is for: 'train', 'val' or 'test'.

    Raises:
        UserError: If nothing is left to train with, or an image has no map.
    """
    found = usage(dataset)
    if found.missing and _reads_maps(dataset):
        image, path = found.missing[0]
        raise UserError(f'{split}: no such file or folder: {path}, the map of {image}; '
                        f'{many(len(found.missing), "image")} of {number(found.images)} have none: add the maps, or remove '
                        'the images')
    if found.nothing and split == 'train':
        raise UserError(f'{split}: {found.nothing}')
    if is_main_process():
        if not found.nothing:
            print_log(f'{split}: {found.line}', logger='current')
        if warning := found.nothing or found.almost_nothing:
            print_log(f'{split}: {warning}', logger='current', level=logging.WARNING)


def _reads_maps(dataset: Dataset) -> bool:
    return all(any(getattr(step, 'with_seg', False) for step in pipeline_steps(leaf)) for leaf in leaves(dataset))


def number(value: int) -> str:
    """'3 600'."""
    return f'{value:,}'.replace(',', ' ')


def many(count: int, what: str) -> str:
    """'1 object of area 0', '36 objects of area 0'."""
    noun, _, rest = what.partition(' ')
    if count != 1:
        noun += 'es' if noun.endswith(('s', 'ch')) else 's'
    return f'{number(count)} {noun} {rest}'.rstrip()


def spread(found: dict[str, int]) -> str:
    """'20 of cow to 400 of cat': the class of the fewest and of the most, of those that are there; or '40 of each'."""
    there = Counter({name: count for name, count in found.items() if count}).most_common()
    (most, highest), (fewest, lowest) = there[0], there[-1]
    if lowest == highest:
        return f'{number(lowest)} of each'
    return f'{number(lowest)} of {fewest} to {number(highest)} of {most}'


def listed(found: Iterable) -> str:
    """The first few of some names, and how many more there are."""
    found = list(map(str, found))
    more = f' and {number(len(found) - SHOWN)} more' if len(found) > SHOWN + 1 else ''
    return ', '.join(found[:SHOWN] if more else found) + more


def shares(found: Counter) -> str:
    """'cat 8, dog 4'."""
    return listed(f'{name} {number(count)}' for name, count in found.most_common())
