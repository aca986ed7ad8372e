"""Whether a data set on disk is what the configs take it for: layout, counts, class ids, files that can be read.

What counts as official: ImageNet-1K (ILSVRC 2012), ADE20K's scene parsing benchmark (ADEChallengeData2016), COCO 2017.
"""
import os
import random
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from coma_mm.datasets.coco import CheckedCOCO
from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, is_folder, walk_files
from coma_mm.datasets.passed_over import EMPTY, OUTSIDE, THIN, why_left_out
from coma_mm.datasets.usage import REMEDIES, many
from coma_mm.errors import UserError, first_names
from coma_mm.files import check_folder
from coma_mm.processes import pool_map

from .look import Looked, look

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
        counts (list[tuple[str, int, int | None]]): What, how many there are, and how many there are officially.
        problems (list[str]): What stops a run or makes its results wrong, a line each.
        warnings (list[str]): What may well be meant, a line each.
        images (int): Images there are.
        read (int): Images that were read to their end.
        smallest (tuple[int, str] | None): Side in px and path of the read image whose shorter side is shortest.
    """
    counts: list[tuple[str, int, int | None]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: int = 0
    read: int = 0
    smallest: tuple[int, str] | None = None

    def problem(self, text: str) -> None:
        """Note a problem."""
        self.problems.append(text)

    def warn(self, text: str) -> None:
        """Note what may be meant."""
        self.warnings.append(text)

    def count(self, what: str, found: int, official: int | None = None) -> None:
        """Note a number."""
        self.counts.append((what, found, official))

    def note_read(self, sample: dict, found: Looked) -> None:
        """Note that an image was read."""
        self.read += 1
        if found.size and not found.problem and (self.smallest is None or min(found.size) < self.smallest[0]):
            self.smallest = min(found.size), sample['img_path']

    def unreadable(self, error: OSError) -> None:
        """Note a folder that cannot be read."""
        self.problem(f'cannot read the folder {error.filename}: {error.strerror}')


class Kind(NamedTuple):
    """A kind of data set.

    Args:
        title (str): What a person calls it.
        place (str): Where the configs look for it in DATA_ROOT.
        places (tuple[str]): Where else below a path it may be found, by the archives' own folders.
        needs (str): A folder in it without which nothing else is looked at.
        find (Callable): Looks at names and annotations, and gives what to read, see `look`.
        look (Callable): Reads one of those, in a process of its own.
    """
    title: str
    place: str
    places: tuple[str, ...]
    needs: str
    find: Callable[[str, Findings], list[dict]]
    look: Callable[[dict], Looked]


def check(kind: str, root: str, full: bool = False, workers: int = 1) -> Findings:
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
        samples.sort(key=lambda sample: sample['img_path'])
        samples = random.Random(0).sample(samples, min(SAMPLE, len(samples)))
    bad = []
    for sample, found in zip(samples, pool_map(kind.look, samples, workers if full else 1, 'reading', 32, unit='images',
                                               disable=len(samples) <= SAMPLE), strict=True):
        if found.problem:
            bad.append(found.problem)
        findings.note_read(sample, found)
    bad = gather_depths(sorted(bad))
    findings.problems += bad[:SHOWN]
    if len(bad) > SHOWN:
        findings.problem(f'… and {len(bad) - SHOWN} more images with problems like these')
    return findings


DEPTH = re.compile('cannot read the image (.*): it holds (.*?)(, and what is read .*)', re.DOTALL)
"""What is said of an image with more than 8 bits in grey or colour, see `why_not_8_bit`."""


def gather_depths(problems: Iterable[str]) -> list[str]:
    """Replace the lines about images of other depths by one for each kind: where one is so, most are.

    Args:
        problems (Iterable[str]): Lines on single images.

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


def settings(kind: str, root: str) -> list[str]:
    """What to set for the configs to find a data set.

    Args:
        kind (str): One of `KINDS`, or 'folder'.
        root (str): Its folder.

    Returns:
        list[str]: An environment variable with its value, if one does it, and the tools' option.
    """
    path, found = os.path.abspath(root), []
    if kind == 'folder':
        found.append(f'IMAGE_ROOT={shlex.quote(path)}')
    elif path.endswith(f'/{(place := KINDS[kind].place)}'):
        found.append(f'DATA_ROOT={shlex.quote(path.removesuffix(place).rstrip("/") or "/")}')
    return [*found, f'--data-root {shlex.quote(path)}']


def _names(names: Iterable, shown: int = 5) -> str:
    """The first few of some names, in order."""
    names = sorted(map(str, names))
    return ', '.join(names[:shown]) + (f', … ({len(names)} in all)' if len(names) > shown else '')


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _entries(folder: str, findings: Findings) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, without hidden ones, sorted."""
    names = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith('.'):
                    names[not is_folder(entry)].append(entry.name)
    except OSError as error:
        findings.unreadable(error)
    return sorted(names[0]), sorted(names[1])


def _find_imagenet(root: str, findings: Findings) -> list[dict]:
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
        samples += [dict(img_path=path) for path in found]
    train, val = classes.get('train'), classes.get('val')
    if train and len(train) != 1000:
        findings.warn(f'{len(train)} classes: the data set type ImageNet takes 1000 exactly; for others take CustomDataset, '
                      f'and model.head.num_classes={len(train)}')
    if train and val:
        for one, other in (('train', 'val'), ('val', 'train')):
            if missing := set(classes[one]) - set(classes[other]):
                findings.problem(f'{one} has classes that {other} has not, so that class ids differ: {_names(missing)}')
    return samples


def _check_classes(folder: str, images: dict[str, list[str]], loose: list[str], listed: str, findings: Findings) -> None:
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


def _find_ade20k(root: str, findings: Findings) -> list[dict]:
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
        samples += [dict(img_path=os.path.join(root, 'images', split, f'{name}.jpg'),
                         seg_map_path=os.path.join(root, 'annotations', split, f'{name}.png'))
                    for name in sorted(names['images'] & names['annotations'])]
    return samples


# The ids that COCO's 80 categories have: those in 1 to 90 that it uses.
_COCO_IDS = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


def _find_coco(root: str, findings: Findings) -> list[dict]:
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
            samples += [dict(img_path=os.path.join(folder, one['file_name']), width=one['width'], height=one['height'])
                        for one in coco.imgs.values() if one['file_name'] in files]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            findings.problem(f'{path} is not as COCO annotations are: {type(error).__name__} {error}')
    if len(set(map(tuple, categories.values()))) > 1:
        findings.problem('the categories of train2017 and val2017 differ in ids, names or order, so that class ids differ')
    if categories:
        _check_categories(next(iter(categories.values())), findings)
    return samples


def _read_coco(path: str, findings: Findings) -> CheckedCOCO | None:
    """Annotations that can be indexed; otherwise the reason is noted."""
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


def _check_coco(coco: CheckedCOCO, path: str, files: set[str], folder: str, findings: Findings) -> None:
    """What `CheckedCOCO` leaves to the libraries, which fail late, or in silence."""
    images, objects = coco.dataset['images'], coco.dataset['annotations']
    named = {one['file_name'] for one in images}
    if missing := named - files:
        findings.problem(f'images of {path} that are not in {folder}: {_names(missing)}')
    if extra := files - named:
        findings.warn(f'images in {folder} that {path} does not name are not used: {_names(extra)}')
    boxes = defaultdict(list)
    for one in objects:
        image = coco.imgs.get(one['image_id'])
        if reason := image and why_left_out(one, image, coco.cats):
            boxes[reason].append(f'{image["file_name"]} (annotation {one["id"]})')
    note_boxes(findings, path, len(objects), {reason: len(names) for reason, names in boxes.items()}, boxes)
    for text, wrong in (
        ('have no segmentation (polygons or run lengths), which masks are trained with',
         [one for one in objects if not has_mask(one)]),
        ('belong to no image in the file', [one for one in objects if one['image_id'] not in coco.imgs]),
    ):
        if wrong:
            findings.problem(f'{path}: {len(wrong)} of {len(objects)} objects {text}, e.g. annotation {wrong[0]["id"]}')
    if thin := boxes[THIN]:
        findings.warn(f'{path}: {many(len(thin), THIN)}, not used')


def note_boxes(findings: Findings, where: str, total: int, counts: Mapping[str, int],
               examples: Mapping[str, Sequence[str]]) -> None:
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


def has_mask(annotation: dict) -> bool:
    """Whether an annotation has run lengths, or a polygon of three points."""
    mask = annotation.get('segmentation')
    return bool(mask.get('counts')) if isinstance(mask, dict) else any(len(polygon) >= 6 for polygon in mask or ())


def _check_categories(categories: Sequence[tuple[int | str, str]], findings: Findings) -> None:
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


def find_folder(root: str, findings: Findings) -> list[str]:
    """The images in a folder and below it, sorted; their suffixes are counted."""
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
    if others := suffixes.total() - len(samples):
        findings.warn(f'{others} files with other suffixes are not read: '
                      f'{_names(f"*{one}" for one in suffixes if one not in IMAGE_SUFFIXES)}')
    return sorted(samples)


def _look_at_ade20k(sample: dict) -> Looked:
    """Look at an image and its map, whose values are the classes from 1 on."""
    found = look(sample, has_digest=False)
    if wrong := [value for value in found.values or () if value > 150]:
        return found._replace(problem=f'{sample["seg_map_path"]} has values {_names(wrong)}; expected 0 (nothing) and 1 to '
                              '150 (classes)')
    return found


LOOK = partial(look, has_digest=False)
KINDS = dict(
    imagenet=Kind('ImageNet-1K', 'imagenet', ('imagenet', 'ILSVRC/Data/CLS-LOC', 'Data/CLS-LOC'), 'train',
                  _find_imagenet, LOOK),
    ade20k=Kind('ADE20K', 'ade/ADEChallengeData2016', ('ade/ADEChallengeData2016', 'ADEChallengeData2016'), 'images',
                _find_ade20k, _look_at_ade20k),
    coco=Kind('COCO 2017', 'coco', ('coco', 'coco2017'), 'annotations', _find_coco, LOOK),
)
"""What `check` knows, by the name that `tools/check_data.py` takes."""
