"""Whether a data set on disk is what the configs take it for: layout, counts, class ids, files that can be read.

What counts as official: ImageNet-1K (ILSVRC 2012), ADE20K's scene parsing benchmark (ADEChallengeData2016), COCO 2017.
"""
import os
import random
import re
import shlex
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from coma_mm.datasets.coco import CheckedCOCO
from coma_mm.datasets.encoded import open_image
from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, is_folder, walk_files
from coma_mm.datasets.loading import read_image
from coma_mm.datasets.maps import map_problem
from coma_mm.datasets.passed_over import EMPTY, OUTSIDE, THIN, why_left_out
from coma_mm.datasets.usage import REMEDIES, many
from coma_mm.errors import UserError, first_names
from coma_mm.files import check_folder, open_regular
from coma_mm.processes import pool_map

SAMPLE = 100
"""Images that are read where not all are."""
SHOWN = 100
"""Problems of one kind that are listed, of more only the number."""

FEW_EMPTY = 1e-4
"""A smaller share of boxes without width or height is a warning alone: COCO 2017 itself has two."""


@dataclass
class Findings:
    """What `check` found.

    Attributes:
        counts (list[tuple]): What, how many there are, and how many there are officially, or None.
        problems (list[str]): What stops a run or makes its results wrong, a line each.
        warnings (list[str]): What may well be meant, a line each.
        images (int): Images there are.
        read (int): Images that were read to their end.
        smallest (tuple | None): (side, path) of the read image whose shorter side, in px, is shortest.
    """
    counts: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    images: int = 0
    read: int = 0
    smallest: tuple | None = None

    def problem(self, text):
        """Note a problem."""
        self.problems.append(text)

    def warn(self, text):
        """Note what may be meant."""
        self.warnings.append(text)

    def count(self, what, found, official=None):
        """Note a number."""
        self.counts.append((what, found, official))

    def unreadable(self, error):
        """Note a folder that cannot be read."""
        self.problem(f'cannot read the folder {error.filename}: {error.strerror}')


class Kind(NamedTuple):
    """A kind of data set.

    Args:
        title (str): What a person calls it.
        place (str): Where the configs look for it in DATA_ROOT.
        places (tuple[str]): Where else below a path it may be found, by the archives' own folders.
        needs (str): A folder in it without which nothing else is looked at.
        find (Callable): Looks at names and annotations: (root, findings) -> what to read, a list.
        look (Callable): Reads one of those, in a process of its own: -> path, shorter side or None, problem or None.
    """
    title: str
    place: str
    places: tuple
    needs: str
    find: Callable
    look: Callable


def check(kind, root, full=False, workers=1):
    """Check a data set.

    Args:
        kind (str): One of `KINDS`.
        root (str): Its folder.
        full (bool): Read all images instead of `SAMPLE`, chosen at random with a fixed seed. Defaults to False.
        workers (int): Processes that read. Defaults to 1.

    Returns:
        Findings: In words and numbers.

    Raises:
        UserError: There is no such folder.
    """
    check_folder(root, f'the folder of {KINDS[kind].title}')
    kind, findings = KINDS[kind], Findings()
    if not os.path.isdir(os.path.join(root, kind.needs)):
        findings.problem(f'no folder {kind.needs} in {root}')
        for place in kind.places:
            if os.path.isdir(os.path.join(root, place, kind.needs)):
                findings.problem(f'there is one in {os.path.join(root, place)}: give that path')
        return findings
    samples = kind.find(root, findings)
    if any(official and found != official for _, found, official in findings.counts):
        findings.warn('not the official numbers: a subset, another data set, or one that is not unpacked to its end')
    findings.images = len(samples)
    if not full:
        samples = random.Random(0).sample(sorted(samples), min(SAMPLE, len(samples)))
    bad = []
    for path, side, problem in pool_map(kind.look, samples, workers if full else 1, 'reading', 32, unit='images',
                                        disable=len(samples) <= SAMPLE):
        findings.read += 1
        if problem:
            bad.append(problem)
        if side and (findings.smallest is None or side < findings.smallest[0]):
            findings.smallest = side, path
    bad = gather_depths(sorted(bad))
    findings.problems += bad[:SHOWN]
    if len(bad) > SHOWN:
        findings.problem(f'… and {len(bad) - SHOWN} more images with problems like these')
    return findings


DEPTH = re.compile('cannot read the image (.*): it holds (.*?)(, and what is read .*)', re.DOTALL)
"""What is said of an image with more than 8 bits in grey or colour, see `why_not_8_bit`."""


def gather_depths(problems):
    """Replace the lines about images of other depths by one for each kind: where one is so, most are.

    Args:
        problems (Sequence[str]): Lines on single images.

    Returns:
        list[str]: The others as they are, and those lines behind them.
    """
    rest, deep = [], defaultdict(list)
    for problem in problems:
        if match := DEPTH.fullmatch(problem):
            deep[re.sub(r' from \S+ to \S+|\d+ (?=pages)', '', match[2])].append((problem, match))
        else:
            rest.append(problem)
    for found in deep.values():
        first, match = found[0]
        names = first_names(one[1] for _, one in found)
        rest.append(first if len(found) == 1 else
                    f'cannot read {many(len(found), "image")} ({names}): the first holds {match[2]}{match[3]}')
    return rest


def settings(kind, root):
    """What to set for the configs to find a data set.

    Args:
        kind (str): One of `KINDS`.
        root (str): Its folder.

    Returns:
        list[str]: An environment variable with its value, if one does it, and the tools' option.
    """
    place, path, found = KINDS[kind].place, os.path.abspath(root), []
    if kind == 'folder':
        found.append(f'IMAGE_ROOT={shlex.quote(path)}')
    elif path.endswith(f'/{place}'):
        found.append(f'DATA_ROOT={shlex.quote(path.removesuffix(place).rstrip("/") or "/")}')
    return [*found, f'--data-root {shlex.quote(path)}']


def _names(names, shown=5):
    """str: The first few of some names, in order."""
    names = sorted(map(str, names))
    return ', '.join(names[:shown]) + (f', … ({len(names)} in all)' if len(names) > shown else '')


def _is_image(path):
    return path.lower().endswith(IMAGE_SUFFIXES)


def _entries(folder, findings):
    """tuple[list, list]: Names of the folders and of the files in a folder, without hidden ones, sorted."""
    names = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith('.'):
                    names[not is_folder(entry)].append(entry.name)
    except OSError as error:
        findings.unreadable(error)
    return sorted(names[0]), sorted(names[1])


def _find_imagenet(root, findings):
    samples, classes = [], {}
    for split, official in (('train', 1_281_167), ('val', 50_000)):
        folder = os.path.join(root, split)
        if not os.path.isdir(folder):
            findings.problem(f'no folder {split} in {root}; expected {split}/<class>/*.JPEG')
            continue
        classes[split], loose = _entries(folder, findings)
        images = {name: list(filter(_is_image, walk_files(os.path.join(folder, name), findings.unreadable)))
                  for name in classes[split]}
        found = [os.path.join(folder, name) for name in loose if _is_image(name)]
        found += [path for paths in images.values() for path in paths]
        findings.count(f'{split} classes', len(images), 1000)
        findings.count(f'{split} images', len(found), official)
        _check_classes(folder, images, loose, os.path.join(root, 'meta', f'{split}.txt'), findings)
        samples += found
    train, val = classes.get('train'), classes.get('val')
    if train and len(train) != 1000:
        findings.warn(f'{len(train)} classes: the data set type ImageNet takes 1000 exactly; for others take CustomDataset, '
                      f'and model.head.num_classes={len(train)}')
    if train and val:
        for one, other in (('train', 'val'), ('val', 'train')):
            if missing := set(classes[one]) - set(classes[other]):
                findings.problem(f'{one} has classes that {other} has not, so that class ids differ: {_names(missing)}')
    return samples


def _check_classes(folder, images, loose, listed, findings):
    """The folders of ImageNet's classes: `images` by folder, `loose` files beside the folders."""
    packed = [name for name in loose if name.endswith(('.tar', '.gz', '.zip'))]
    if packed:
        findings.problem(f'archives in {folder} are not unpacked: {_names(packed)}; see docs/data.md')
    flat = sum(map(_is_image, loose))
    if os.path.isfile(listed):
        findings.warn(f'there is {listed}: mmpretrain takes images and labels from that list, not from folders')
    elif flat:
        findings.problem(f'{flat} images lie in {folder} itself; expected {folder}/<class>/*.JPEG, as the folders are the '
                         'labels: sort them into folders of classes (docs/data.md, "Validation images")')
    if empty := [name for name, paths in images.items() if not paths]:
        findings.problem(f'folders in {folder} without any image: {_names(empty)}')
    wordnet = {name for name in images if re.fullmatch(r'n\d{8}', name)}
    if wordnet and len(wordnet) < len(images):
        findings.problem(f'folders in {folder} that are no class of ImageNet (n01440764, …): '
                         f'{_names(images.keys() - wordnet)}; each counts as a class and shifts the ids of others: '
                         'remove them')


def _find_ade20k(root, findings):
    samples = []
    for split, official in (('training', 20_210), ('validation', 2_000)):
        names = {}
        for part, suffix in (('images', '.jpg'), ('annotations', '.png')):
            folder = os.path.join(root, part, split)
            if not os.path.isdir(folder):
                findings.problem(f'no folder {part}/{split} in {root}; expected {part}/{split}/*{suffix}')
            files = list(walk_files(folder, findings.unreadable)) if os.path.isdir(folder) else []
            names[part] = {os.path.relpath(path, folder)[:-len(suffix)] for path in files if path.endswith(suffix)}
            findings.count(f'{split} {part}', len(names[part]), official)
            if others := [path for path in files if not path.endswith(suffix)]:
                findings.warn(f'files in {folder} that do not end in {suffix} are not read: {_names(others, 3)}')
        if missing := names['images'] - names['annotations']:
            findings.problem(f'images in images/{split} without a map in annotations/{split}: {_names(missing)}')
        if extra := names['annotations'] - names['images']:
            findings.problem(f'maps in annotations/{split} without an image in images/{split}: {_names(extra)}')
        samples += [tuple(os.path.join(root, part, split, name + suffix)
                          for part, suffix in (('images', '.jpg'), ('annotations', '.png')))
                    for name in sorted(names['images'] & names['annotations'])]
    return samples


# The ids that COCO's 80 categories have: those in 1 to 90 that it uses.
_COCO_IDS = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


def _find_coco(root, findings):
    samples, categories = [], {}
    for split, images, objects in (('train2017', 118_287, 860_001), ('val2017', 5_000, 36_781)):
        folder, path = os.path.join(root, split), os.path.join(root, 'annotations', f'instances_{split}.json')
        if not os.path.isdir(folder):
            findings.problem(f'no folder {split} in {root}; expected {split}/*.jpg')
        files = {os.path.relpath(one, folder) for one in walk_files(folder, findings.unreadable)
                 if _is_image(one)} if os.path.isdir(folder) else set()
        findings.count(f'{split} images', len(files), images)
        coco = _read_coco(path, findings)
        if coco is None:
            continue
        findings.count(f'{split} objects', len(coco.dataset['annotations']), objects)
        findings.count(f'{split} categories', len(coco.cats), 80)
        categories[split] = [(one['id'], str(one.get('name'))) for one in coco.dataset['categories']]
        try:
            _check_coco(coco, path, files, folder, findings)
            samples += [(os.path.join(folder, one['file_name']), one['width'], one['height'])
                        for one in coco.imgs.values() if one['file_name'] in files]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            findings.problem(f'{path} is not as COCO annotations are: {type(error).__name__} {error}')
    if len(set(map(tuple, categories.values()))) > 1:
        findings.problem('the categories of train2017 and val2017 differ in ids, names or order, so that class ids differ')
    if categories:
        _check_categories(next(iter(categories.values())), findings)
    return samples


def _read_coco(path, findings):
    """CheckedCOCO | None: Annotations that can be indexed; otherwise the reason is noted."""
    if not os.path.isfile(path):
        findings.problem(f'no file {path}; expected COCO annotations of objects')
        return None
    try:
        return CheckedCOCO(path)
    except UserError as error:
        findings.problem(str(error))
    except OSError as error:
        findings.problem(f'cannot read {path}: {error.strerror}')
    except Exception as error:  # JSON of any other shape
        findings.problem(f'{path} is not as COCO annotations are: {type(error).__name__} {error}')
    return None


def _check_coco(coco, path, files, folder, findings):
    """What `CheckedCOCO` leaves to the libraries, which fail late, or in silence."""
    images, objects = coco.dataset['images'], coco.dataset['annotations']
    named = {one['file_name'] for one in images}
    if missing := named - files:
        findings.problem(f'images of {path} that are not in {folder}: {_names(missing)}')
    if extra := files - named:
        findings.warn(f'images in {folder} that {path} does not name are not used: {_names(extra)}')
    boxes = defaultdict(list)
    for one in objects:
        if image := coco.imgs.get(one['image_id']):
            boxes[why_left_out(one, image, coco.cats)].append(f'{image["file_name"]} (annotation {one["id"]})')
    note_boxes(findings, path, len(objects), {reason: len(names) for reason, names in boxes.items()}, boxes)
    for text, wrong in (
        ('have no segmentation (polygons or run lengths), which masks are trained with',
         [one for one in objects if not _has_mask(one)]),
        ('belong to no image in the file', [one for one in objects if one['image_id'] not in coco.imgs]),
    ):
        if wrong:
            findings.problem(f'{path}: {len(wrong)} of {len(objects)} objects {text}, e.g. annotation {wrong[0]["id"]}')
    if thin := boxes[THIN]:
        findings.warn(f'{path}: {many(len(thin), THIN)}, not used')


def note_boxes(findings, where, total, counts, examples):
    """Note boxes that nobody can mean, and that the libraries pass over in silence.

    Args:
        findings (Findings): Takes them.
        where (str): What they are in.
        total (int): How many objects there are.
        counts (Mapping[str, int]): How many objects are left out, by `passed_over`'s reasons.
        examples (Mapping[str, Sequence[str]]): The first ones, by the same.
    """
    for reason in (EMPTY, OUTSIDE):
        if count := counts.get(reason):
            text = f'{where}: {many(count, reason)}, not used: {first_names(examples[reason])}; {REMEDIES[reason]}'
            (findings.warn if reason == EMPTY and count < FEW_EMPTY * total else findings.problem)(text)


def _has_mask(annotation):
    """bool: Whether an annotation has run lengths, or a polygon of three points."""
    mask = annotation.get('segmentation')
    return bool(mask.get('counts')) if isinstance(mask, dict) else any(len(polygon) >= 6 for polygon in mask or ())


def _check_categories(categories, findings):
    """Compare with the names that mmdet's CocoDataset looks for, in its order."""
    from mmdet.datasets import CocoDataset
    ids, names = zip(*categories, strict=True) if categories else ((), ())
    official = CocoDataset.METAINFO['classes']
    if set(names) != set(official):
        findings.warn(f'{len(names)} categories that are not COCO\'s 80: {_names(names)}; set metainfo.classes of the data '
                      f'sets to their names, and num_classes={len(names)}')
    elif names != official:
        findings.problem('the categories are COCO\'s in another order: a model would learn other class ids than COCO\'s')
    elif list(ids) != _COCO_IDS:
        findings.warn('the categories have other ids than COCO\'s; its own files count from 1 to 90, with gaps')


def find_folder(root, findings):
    suffixes, samples = Counter(), []
    for path in walk_files(root, findings.unreadable):
        suffixes[os.path.splitext(path)[1].lower()] += 1
        if _is_image(path):
            samples.append(path)
    for suffix, number in suffixes.most_common():
        if suffix in IMAGE_SUFFIXES:
            findings.count(f'images *{suffix}', number)
    if not samples:
        findings.problem(f'no image in {root}; expected files that end in {", ".join(IMAGE_SUFFIXES)}')
    if others := sum(suffixes.values()) - len(samples):
        findings.warn(f'{others} files with other suffixes are not read: '
                      f'{_names(f"*{one}" for one in suffixes if one not in IMAGE_SUFFIXES)}')
    return sorted(samples)


def _look(path, compare=None):
    """tuple[str, int | None, str | None]: An image's path, shorter side and problem; `compare` finds one by its size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's, of odd metadata
            height, width = read_image(path).shape[:2]
    except UserError as error:
        return path, None, str(error).rpartition('; ')[0]
    return path, min(height, width), compare and compare(width, height)


def _look_at_pair(paths):
    """The same for an image with its segmentation map."""
    return _look(paths[0], partial(_map_problem, *paths))


def _map_problem(image, seg_map, width, height):
    """str | None: What is wrong with a segmentation map."""
    try:
        with open_regular(seg_map) as file, open_image(file) as image_file:
            values = np.asarray(image_file)
    except Exception as error:  # on broken data Pillow's decoders raise many types
        return f'cannot read the map {seg_map}: {error}'
    if problem := map_problem(values):
        return f'{seg_map} {problem}'
    if values.shape != (height, width):
        return f'{seg_map} is of {values.shape[1]}×{values.shape[0]} px; expected {width}×{height}, as its image {image}'
    wrong = np.unique(values[values > 150])
    return f'{seg_map} has values {_names(wrong)}; expected 0 (nothing) and 1 to 150 (classes)' if len(wrong) else None


def _look_at_size(sample):
    """The same for an image of which annotations know the size."""
    path, *noted = sample

    def compare(*size):
        return None if [*size] == noted else (f'{path} is of {size[0]}×{size[1]} px; its annotations are for '
                                              f'{noted[0]}×{noted[1]}')

    return _look(path, compare)


KINDS = dict(
    imagenet=Kind('ImageNet-1K', 'imagenet', ('imagenet', 'ILSVRC/Data/CLS-LOC', 'Data/CLS-LOC'), 'train',
                  _find_imagenet, _look),
    ade20k=Kind('ADE20K', 'ade/ADEChallengeData2016', ('ade/ADEChallengeData2016', 'ADEChallengeData2016'), 'images',
                _find_ade20k, _look_at_pair),
    coco=Kind('COCO 2017', 'coco', ('coco', 'coco2017'), 'annotations', _find_coco, _look_at_size),
    folder=Kind('images', '', (), '', find_folder, _look),
)
"""What `check` knows, by the name that `tools/check_data.py` takes."""
