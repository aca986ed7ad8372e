"""What the libraries' data sets pass over in silence, counted while they read their files: no file is read twice for it."""
import functools
import os
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from mmengine.dataset import BaseDataset

from .annotations import pipeline_steps


@dataclass
class PassedOver:
    """What a data set has read, and what it has left out; its attribute `passed_over`.

    Attributes:
        total (int): Objects in the file.
        seen (int): Those of them that belong to an image in the file.
        used (dict[int, int], optional): How many objects of each label are trained with, in all images that were kept;
            None if nobody has counted them.
        negatives (int): Images without such an object that were kept.
        objects (Counter): How many objects were left out, by the reason, in the singular.
        categories (Counter): How many were so because metainfo.classes lacks their category, by its name.
        images (Counter): How many images were left out, by the reason, in the singular.
        files (Counter): How many files were left out for their suffix, by it.
        examples (dict[str, list[str]]): By the reasons of `objects`: the first few of them, 'a.jpg (annotation 7)'.
    """
    total: int = 0
    seen: int = 0
    used: dict[int, int] | None = None
    negatives: int = 0
    objects: Counter = field(default_factory=Counter)
    categories: Counter = field(default_factory=Counter)
    images: Counter = field(default_factory=Counter)
    files: Counter = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)


AREA, THIN, OUTSIDE = 'object of area 0', 'object less than 1 px wide or high', 'object outside of the image'
EMPTY = 'object without width or height'
IGNORE, CROWD, OTHER = 'object marked ignore', 'crowd', 'object for another reason'
CATEGORY, ORPHAN = 'object whose category is no class', 'object whose image is not in the file'
POLYGONS, RUNS = 'object without a polygon of 3 points', 'object with a mask in run lengths (poly2mask=False)'
SMALL = 'object in images below min_size'
"""What is left out, in the singular: the keys of `PassedOver.objects`."""
EXAMPLES = 4
"""Objects of a reason that are named."""


def counts(dataset: Any) -> PassedOver:
    """What was passed over in a data set, to be read or added to."""
    return vars(dataset).setdefault('passed_over', PassedOver())


def count_in_detection() -> None:
    """Have mmdetection's `CocoDataset`, and those that inherit its methods, count; once is as good as twice."""
    from mmdet.datasets import CocoDataset
    _wrap(CocoDataset, 'parse_data_info', _count_objects)
    _wrap(CocoDataset, 'filter_data', _count_images)


def count_in_classification() -> None:
    """Have mmpretrain's data sets that walk through folders count; once is as good as twice."""
    from mmpretrain.datasets import CustomDataset
    _wrap(CustomDataset, 'is_valid_file', _count_files)


def _wrap(owner: type, name: str, wrapper: Callable[[Callable], Callable]) -> None:
    method = getattr(owner, name)
    if not hasattr(method, 'counts'):
        wrapped = functools.wraps(method)(wrapper(method))
        wrapped.counts = True
        setattr(owner, name, wrapped)


def _count_objects(parse: Callable) -> Callable:
    def counting(self: BaseDataset, raw: dict) -> dict:
        info, found, image = parse(self, raw), counts(self), raw['raw_img_info']
        if not found.seen:
            found.total = len(self.coco.dataset['annotations'])
        found.seen += len(raw['raw_ann_info'])
        if missing := len(raw['raw_ann_info']) - len(info['instances']):
            for annotation in raw['raw_ann_info']:
                if reason := why_left_out(annotation, image, self.cat_ids):
                    missing -= 1
                    found.objects[reason] += 1
                    named = found.examples.setdefault(reason, [])
                    if len(named) < EXAMPLES:
                        named.append(f'{image.get("file_name")} (annotation {annotation.get("id")})')
                    if reason == CATEGORY:
                        found.categories[self.coco.cats[annotation['category_id']]['name']] += 1
            found.objects[OTHER] += missing  # of a class that has reasons of its own
        return info

    return counting


def why_left_out(annotation: dict, image: dict, cat_ids: Collection[int]) -> str | None:
    """Why `CocoDataset.parse_data_info` leaves an object out, or None."""
    x, y, width, height = annotation['bbox']
    if annotation['category_id'] not in cat_ids:
        return CATEGORY
    if annotation.get('ignore', False):
        return IGNORE
    if width < 1 or height < 1:
        return EMPTY if width <= 0 or height <= 0 else THIN
    if min(x + width, image['width']) <= max(x, 0) or min(y + height, image['height']) <= max(y, 0):
        return OUTSIDE
    return AREA if annotation['area'] <= 0 else None


def _count_images(filter_data: Callable) -> Callable:
    def counting(self: BaseDataset) -> list[dict]:
        before, found = self.data_list, counts(self)
        kept = filter_data(self)
        found.objects[ORPHAN] = max(0, found.total - found.seen)
        if len(kept) < len(before):
            smallest = (self.filter_cfg or {}).get('min_size', 0)
            small = [info for info in before if min(info['width'], info['height']) < smallest]
            found.images[f'image below min_size={smallest} px'] = len(small)
            found.images['image without objects'] = len(before) - len(kept) - len(small)
            found.objects[SMALL] = sum(len(info['instances']) for info in small)
        if self._indices is None:  # else a part of them is chosen after this
            count_used(self, kept)
        return kept

    return counting


def count_used(dataset: BaseDataset, infos: list[dict]) -> None:
    """Count the objects that a data set of detection trains with.

    Args:
        dataset (BaseDataset): The data set.
        infos (list[dict]): Its samples, as they are before its pipeline.
    """
    found, labels = counts(dataset), Counter()
    step = next((step for step in pipeline_steps(dataset) if getattr(step, 'with_mask', False)), None)
    for info in infos:
        before = labels.total()
        for instance in info['instances']:
            mask = instance.get('mask') if step else None
            if instance.get('ignore_flag'):
                found.objects[CROWD] += 1
            elif isinstance(mask, list) and not any(len(one) >= 6 and len(one) % 2 == 0 for one in mask):
                found.objects[POLYGONS] += 1
            elif isinstance(mask, dict) and not getattr(step, 'poly2mask', True):
                found.objects[RUNS] += 1
            else:
                labels[instance.get('bbox_label', 0)] += 1
        found.negatives += labels.total() == before
    found.used = dict(labels)


def _count_files(is_valid_file: Callable) -> Callable:
    def counting(self: BaseDataset, filename: str) -> bool:
        valid = is_valid_file(self, filename)
        if not valid:
            counts(self).files[os.path.splitext(filename)[1].lower()] += 1
        return valid

    return counting
