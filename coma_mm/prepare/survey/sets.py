"""People's data in one form, whatever it was: samples as mmengine's data sets have them, and the names of the classes."""
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import DefaultScope

from coma_mm.config.data_roots import check_data_roots
from coma_mm.config.read import register_libraries
from coma_mm.datasets.annotations import READ_MAPS, check_class_lists, leaves, missing_files, pipeline_steps
from coma_mm.datasets.loading import use_load_image
from coma_mm.datasets.seeding import SeededDataset
from coma_mm.datasets.usage import Usage, listed, many, usage
from coma_mm.errors import MissingFileError, UserError, first_names
from coma_mm.files import check_folder
from coma_mm.prepare.check import Findings, find_folder
from coma_mm.prepare.new.detection import folder_of, open_coco
from coma_mm.prepare.new.draft import VALIDATION
from coma_mm.prepare.new.segmentation import TRAINING, find_pairs, find_parts

SPLITS = {**dict.fromkeys(TRAINING, 'train'), **dict.fromkeys(VALIDATION, 'val'), 'test': 'test'}
"""What folders of splits are called, and for what they are."""


@dataclass
class DataSet:
    """A data set, for a run or to be one.

    Attributes:
        name (str): 'train', say, or the name of a file.
        samples (list[dict]): As mmengine's: img_path, and seg_map_path, gt_label or instances where there are such. Those of
            a config also have `reading`: the steps of its pipeline that read images and labels.
        usage (Usage): What there is of each class, and what a run passes over.
        path (str): The file or folder that it is from.
        split (str): 'train', 'val' or 'test', if it is for one of these.
        names (list[str] | None): Of the classes of maps, in the order of their values or ids.
        ignore (list[int] | None): Values of maps that are said to be no class.
    """
    name: str
    samples: list[dict]
    usage: Usage
    path: str = ''
    split: str = ''
    names: list[str] | None = None
    ignore: list[int] | None = None

    @property
    def kind(self) -> str:
        """'detection', 'segmentation', 'classification' or 'images'."""
        return self.usage.kind

    @property
    def classes(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        return list(self.usage.classes)

    def place(self, label: int) -> int:
        """Where a label's class is in `classes`: labels without names have gaps."""
        names = self.usage.classes
        return list(names).index(str(label)) if all(map(str.isdecimal, names)) and str(label) in names else label

    def short(self, path: str) -> str:
        """A path as it is called inside the data set."""
        return os.path.relpath(path, self.path) if os.path.isdir(self.path) else os.path.basename(path)


def coco_sets(paths: Sequence[str], images: str | None, findings: Findings) -> list[DataSet]:
    """Read COCO files as mmdetection does, but for images without an object, which are kept.

    Args:
        paths (Sequence[str]): The files.
        images (str, optional): The folder of the images. Defaults to that of each file.
        findings (Findings): Takes what is wrong.

    Returns:
        list[DataSet]: One for each file.

    Raises:
        UserError: If there is no such file or folder, or a file is not as COCO's are.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise MissingFileError(f'no file {path}; expected COCO annotations, or a folder of COCO 2017')
    if images and not os.path.isdir(images):
        raise MissingFileError(f'--images {images}: no such folder')
    register_libraries('mmdet')
    above = os.path.dirname(os.path.commonprefix([os.path.join(os.path.dirname(path), '') for path in paths]))
    sets = [_coco_set(path, os.path.relpath(path, above or '.'), images or os.path.dirname(path) or '.', findings)
            for path in paths]
    names = {one.name: one.classes for one in sets}
    if len({tuple(sorted(classes)) for classes in names.values()}) > 1:
        every = set().union(*names.values())
        missing = '; '.join(f'{path} has no {first_names(sorted(every - set(classes)))}' for path, classes in names.items()
                            if every - set(classes))
        findings.warn(f'the files differ in their categories: {missing}')
    return sets


def _coco_set(path: str, name: str, images: str, findings: Findings) -> DataSet:
    coco = open_coco(path)
    try:
        folder = folder_of([one['file_name'] for one in coco.dataset['images']], images, path)
    except UserError as error:
        findings.problem(str(error))
        folder = images
    with redirect_stdout(io.StringIO()):  # pycocotools tells how far it is
        masks = any(one.get('segmentation') for one in coco.dataset['annotations'])
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = CocoDataset(
                ann_file=os.path.abspath(path), data_prefix=dict(img=''), lazy_init=True, serialize_data=False,
                metainfo=dict(classes=[one['name'] for one in coco.dataset['categories']]),
                pipeline=[dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)])
        dataset.COCOAPI = lambda _: coco  # large files take long to read
        dataset.full_init()
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    for sample in samples:
        sample['img_path'] = os.path.join(folder, sample['img_path'])
    gone = set(missing_files([one['img_path'] for one in samples]))
    return DataSet(name, [one for one in samples if one['img_path'] not in gone], usage(dataset), folder)


def segmentation_sets(images: str, masks: str, names: Sequence[str] | None, ignore: Sequence[int] | None,
                      findings: Findings) -> list[DataSet]:
    """Find the images and masks of a segmentation.

    Args:
        images (str): The folder of the images, perhaps with folders of training and validation.
        masks (str): The folder of the masks, with the same ones.
        names (Sequence[str], optional): Of the classes, in the order of their values.
        ignore (Sequence[int], optional): Values that are no class.
        findings (Findings): Takes what is wrong.

    Returns:
        list[DataSet]: One, or one for each folder.

    Raises:
        UserError: If there is no such folder, or no image or mask in it.
    """
    options = 'IMAGES', 'MASKS'
    parts = find_parts(images, masks, options)
    sets = []
    for split, folders in parts.items():
        missing: list[str] = []
        pairs = find_pairs(*folders, missing, options)
        if missing:
            findings.problem(f'{len(missing)} of {len(missing) + len(pairs.images)} images in {folders[0]} have no mask in '
                             f'{folders[1]}: {first_names(missing)}')
        if pairs.alone > 0:
            findings.warn(f'{many(pairs.alone, "mask")} in {folders[1]} without an image in {folders[0]}')
        samples = [dict(img_path=image, seg_map_path=mask) for image, mask in zip(pairs.images, pairs.masks, strict=True)]
        found = Usage('segmentation', len(samples), len(samples))
        sets.append(DataSet(split if len(parts) > 1 else images, samples, found, folders[0],
                            split=split if len(parts) > 1 else '', names=names and list(names),
                            ignore=ignore and list(ignore)))
    return sets


def folder_sets(paths: Sequence[str], findings: Findings) -> list[DataSet]:
    """Find images in folders; the folders in these may be classes.

    Args:
        paths (Sequence[str]): The folders. Of a single one, folders in it that are called train, val or test are sets.
        findings (Findings): Takes what is wrong.

    Returns:
        list[DataSet]: One for each folder.

    Raises:
        UserError: If there is no such folder.
    """
    sets = []
    for path in paths:
        check_folder(path, 'a folder of images')
        found, there = find_folder(path, findings), {}
        for image in found:
            first, rest = os.path.relpath(image, path).partition(os.sep)[::2]
            split = SPLITS.get(first, '') if rest and len(paths) == 1 else ''
            there.setdefault((split, os.path.join(path, first) if split else path), []).append(image)
        if {split for split, _ in there} <= {'', 'train'}:
            there = {('', path): found}
        order = ('train', 'val', 'test', '')
        sets += [_folder_set(split or path, folder, images, split, findings) for (split, folder), images in sorted(
            there.items(), key=lambda one: order.index(one[0][0]))]
    with_classes = [one for one in sets if one.kind == 'classification']
    for first, other in zip(with_classes, with_classes[1:], strict=False):
        if different := sorted(set(first.classes) ^ set(other.classes)):
            findings.warn(f'{first.path} and {other.path} differ in their folders ({first_names(different)}): if they are '
                          'classes, class ids differ')
    return sets


def _folder_set(name: str, folder: str, images: list[str], split: str, findings: Findings) -> DataSet:
    places = [os.path.relpath(image, folder).partition(os.sep) for image in images]
    folders = sorted({first for first, rest, _ in places if rest})
    samples = [dict(img_path=image) for image in images]
    if len(folders) < 2 or any(not rest for _, rest, _ in places):
        return DataSet(name, samples, Usage('images', len(images), len(images)), folder, split=split)
    counts = Counter(first for first, _, _ in places)
    numbers = {first: number for number, first in enumerate(folders)}
    for sample, (first, _, _) in zip(samples, places, strict=True):
        sample['gt_label'] = numbers[first]
    empty = sorted({entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith('.')}
                   - set(folders))
    if empty:
        findings.warn(f'no image in {listed(os.path.join(folder, one) for one in empty)}: as a folder of a class each would '
                      'shift class ids')
    return DataSet(name, samples, Usage('classification', len(images), len(images), {one: counts[one] for one in folders}),
                   folder, split=split)


def config_sets(cfg: Config, findings: Findings) -> list[DataSet]:
    """Build the data sets of a config as a run does.

    Args:
        cfg (Config): From `read_config`.
        findings (Findings): Takes what cannot be looked at.

    Returns:
        list[DataSet]: Of training, validation and testing, as far as they differ.

    Raises:
        UserError: If it has none, or a file is missing or damaged.
    """
    loaders = {split: cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')}
    loaders = {split: loader for split, loader in loaders.items() if loader and loader.get('dataset')}
    if not loaders:
        raise UserError(f'{cfg.filename} has no data set: neither train_dataloader nor val_dataloader nor test_dataloader')
    check_data_roots(cfg, list(loaders))
    sets = []
    for split, loader in loaders.items():
        if split == 'test' and loader['dataset'] == (loaders.get('val') or {}).get('dataset'):
            continue
        check_class_lists(loader['dataset'])
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')), redirect_stdout(io.StringIO()):
            dataset = SeededDataset(use_load_image(loader['dataset']))
        samples, all_samples = [], 0
        for leaf in leaves(dataset):
            steps, number = _reading(leaf), len(leaf) if hasattr(leaf, '__len__') else 0
            infos = [leaf.get_data_info(index) for index in range(number)] if hasattr(leaf, 'get_data_info') else []
            all_samples += number
            samples += [dict(info, reading=steps) for info in infos if '://' not in (info.get('img_path') or '://')]
        if len(samples) < all_samples:
            findings.warn(f'{split}: {many(all_samples - len(samples), "sample")} without a file on this machine '
                          'are not looked at')
        found = usage(dataset)
        without = {path for _, path in found.missing}  # which is said once
        samples = [one for one in samples if one.get('seg_map_path') not in without]
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(one['img_path'])) for one in samples] or [''])
        sets.append(DataSet(split, samples, found, folder, split, list(found.classes) or None))
    return sets


def _reading(dataset: Any) -> list[Callable]:
    """The steps of a pipeline that read images and labels, and that give labels other numbers."""
    kept = {}
    for step in pipeline_steps(dataset):
        name = type(step).__name__
        if name in (*READ_MAPS, 'MapClassIds') or name.startswith('Load') and name != 'LoadRandomResizedCrop':
            kept.setdefault(name, step)
    return list(kept.values())
