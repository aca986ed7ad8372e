"""COCO annotations that are checked while they are read, and whose labels follow the names of the classes."""
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmdet.evaluation.metrics import coco_metric

from coma_mm.errors import UserError, first_names, nearest
from coma_mm.files import open_regular

MAX_SIDE = 100_000
"""More pixels than an image has on a side; a mask of so many, or of a polygon beyond, would take all memory."""


def use_names() -> None:
    """Have mmdet's `CocoDataset` and `CocoMetric` read with the classes of this module."""
    CocoDataset.COCOAPI = CheckedCOCO
    coco_metric.COCO, coco_metric.COCOeval, coco_metric.COCOevalMP = NamedCOCO, NamedCOCOeval, NamedCOCOevalMP


class CategoryIds(list):
    """The ids of the categories of some classes, in the order of the classes, and what else the file has.

    Attributes:
        path (str): The file.
        objects (dict[str, int]): The number of objects of each category of the file, by its name.
    """

    def __init__(self, ids: Iterable[int | str], path: str, objects: Mapping[str, int]):
        super().__init__(ids)
        self.path, self.objects = path, dict(objects)


class NamedCOCO(COCO):
    """mmdet's reader, where the n-th class has the label n whatever the order of the categories in the file.

    mmdet's own gives labels in the order of the file: they differ between files of one data set, and from the names.

    Args:
        annotation_file (str): The JSON file.
    """

    def __init__(self, annotation_file: str):
        self.annotation_file = annotation_file
        super().__init__(annotation_file)
        for annotation in self.dataset.get('annotations', ()):
            annotation.setdefault('iscrowd', 0)  # which pycocotools looks up, and files of single objects leave out

    def get_cat_ids(self, cat_names: Sequence[str] = (), sup_names: Sequence[str] = (),
                    cat_ids: Sequence[int | str] = ()) -> list[int | str]:
        """The ids of categories; for names one for each, in their order.

        A class that is not in the file gets an id that no category has, so the labels of the others stay theirs.
        """
        if not len(cat_names) or len(sup_names) or len(cat_ids):
            return super().get_cat_ids(cat_names, sup_names, cat_ids)
        by_name = {category['name']: category['id'] for category in self.dataset['categories']}
        are_texts = any(isinstance(one, str) for one in by_name.values())
        ids = []
        for number, name in enumerate(cat_names, 1):
            if name not in by_name:
                free = next(n for n in range(-number, -10**9, -1) if n not in self.cats)
                by_name[name] = f'{free}' if are_texts else free
                self.cats[by_name[name]] = dict(id=by_name[name], name=name)
            ids.append(by_name[name])
        counts = Counter(annotation['category_id'] for annotation in self.dataset.get('annotations', ()))
        objects = {category['name']: counts[category['id']] for category in self.dataset['categories']}
        return CategoryIds(ids, self.annotation_file, objects)


class _InOrder:
    """Results by category in the order of the categories that were asked for; pycocotools sorts them by their ids."""

    def evaluate(self) -> None:
        """Evaluate, and remember the order."""
        self._asked = list(self.params.catIds)
        super().evaluate()

    def accumulate(self, p: Any = None) -> None:
        """Accumulate, and put the results into the order."""
        super().accumulate(p)
        if self.params.useCats:
            place = {one: number for number, one in enumerate(self.params.catIds)}
            order = [place[one] for one in self._asked]
            for key, axis in (('precision', 2), ('scores', 2), ('recall', 1)):
                self.eval[key] = self.eval[key].take(order, axis)


class NamedCOCOeval(_InOrder, COCOeval):
    """pycocotools' evaluation, with results in the order of the classes."""


class NamedCOCOevalMP(_InOrder, COCOevalMP):
    """mmdet's evaluation in several processes, with results in the order of the classes."""


class CheckedCOCO(NamedCOCO):
    """mmdet's reader of COCO annotations, which names what is missing or out of range instead of passing over it.

    Args:
        annotation_file (str): The JSON file.

    Raises:
        UserError: The file is not JSON; a list (but that of annotations), an id or a box is missing or there twice; a
            category is not in the file's list of categories; a number is none; a mask is not of its image's size.
    """

    def __init__(self, annotation_file: str):
        try:
            open_regular(annotation_file).close()  # the parent would wait for a pipe
        except PermissionError as error:
            raise UserError(f'cannot read {annotation_file}: {error.strerror}; expected COCO annotations') from error
        try:
            super().__init__(annotation_file)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UserError(f'{annotation_file} is damaged, or not a JSON file ({error}); expected COCO '
                            'annotations') from error
        except AssertionError as error:  # the parent's, of what is not a dict
            raise UserError(f'{annotation_file} holds no dict; expected COCO annotations') from error

    def get_cat_ids(self, cat_names: Sequence[str] = (), sup_names: Sequence[str] = (),
                    cat_ids: Sequence[int | str] = ()) -> list[int | str]:
        """The ids of categories; for names one for each, in their order.

        Raises:
            UserError: If the file has objects, and none of them is of any of the names.
        """
        found = super().get_cat_ids(cat_names, sup_names, cat_ids)
        objects = getattr(found, 'objects', {})
        if any(objects.values()) and not any(name in objects for name in cat_names):
            whose = "COCO's own 80 classes" if list(cat_names) == list(CocoDataset.METAINFO['classes']) else 'the classes'
            raise UserError(f'CocoDataset finds no sample of {whose} {first_names(cat_names)} in {self.annotation_file}, '
                            f'whose objects are of {first_names(objects)}; set metainfo=dict(classes=...) of the data set '
                            f'to the names in the file, and num_classes={len(objects)} of the heads')
        return found

    def createIndex(self) -> None:
        """Check, and index as the parent does."""
        if 'annotations' not in self.dataset and not nearest('annotations', self.dataset):
            self.dataset['annotations'] = []  # of a test whose objects are kept secret, as COCO's test-dev
        for key in ('images', 'annotations', 'categories'):
            entries = self.dataset.get(key)
            if not isinstance(entries, list):
                raise UserError(f'{self.annotation_file} has no list {key!r}; expected COCO annotations, with images, '
                                'annotations and categories')
            seen = set()
            for number, entry in enumerate(entries):
                _make_ids_whole(entry)
                if not isinstance(entry, dict) or type(entry.get('id')) not in (int, str):
                    said = f'the id {entry["id"]!r}' if isinstance(entry, dict) and 'id' in entry else 'no id'
                    raise UserError(f'{self.annotation_file}: {key}[{number}] has {said}; expected a dict with a whole '
                                    'number or a text as id')
                if entry['id'] in seen:
                    raise UserError(f'{self.annotation_file}: two {key} have the id {entry["id"]!r}; expected one')
                seen.add(entry['id'])
        self._check_categories()
        for image in self.dataset['images']:
            self._check_image(image)
        sizes = {image['id']: [image['height'], image['width']] for image in self.dataset['images']}
        categories = {category['id'] for category in self.dataset['categories']}
        for annotation in self.dataset['annotations']:
            self._check_annotation(annotation, categories, sizes)
        super().createIndex()

    def _check_categories(self) -> None:
        names = [category.get('name') for category in self.dataset['categories']]
        for name in names:
            if not isinstance(name, str) or names.count(name) > 1:
                raise UserError(f'{self.annotation_file}: a category has the name {name!r}; expected texts that differ')

    def _check_image(self, image: dict[str, Any]) -> None:
        where = f'{self.annotation_file}: image {image["id"]!r}'
        if not isinstance(image.get('file_name'), str) or not image['file_name'].strip('\0'):
            raise UserError(f'{where} has file_name {image.get("file_name")!r}; expected the name of a file')
        for key in ('width', 'height'):
            if type(image.get(key)) not in (int, float) or not 0 < image[key] < MAX_SIDE:
                raise UserError(f'{where} has {key} {image.get(key)!r}; expected a number of pixels')

    def _check_annotation(self, annotation: dict[str, Any], categories: set, sizes: Mapping[int | str, list[int]]) -> None:
        where = f'{self.annotation_file}: annotation {annotation["id"]!r} of image {annotation.get("image_id", "?")!r}'
        if type(annotation.get('image_id')) not in (int, str):
            raise UserError(f'{where}: expected the id of an image as image_id, a whole number or a text')
        bbox = annotation.get('bbox')
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise UserError(f'{where} has no bbox; expected [x, y, width, height] in px')
        if not _are_pixels(bbox):
            raise UserError(f'{where} has bbox {bbox}; expected [x, y, width, height] in px')
        if annotation.get('category_id') not in categories:
            raise UserError(f'{where} has category_id {annotation.get("category_id")}; expected one of the '
                            f'{len(categories)} ids in its categories')
        if type(annotation.get('area')) not in (int, float) or not math.isfinite(annotation['area']):
            raise UserError(f'{where} has area {annotation.get("area")!r}; expected a number of pixels, for instance '
                            'width × height of its bbox')
        if annotation.get('iscrowd', 0) not in (0, 1):
            raise UserError(f'{where} has iscrowd {annotation["iscrowd"]!r}; expected 0 or 1')
        mask = annotation.get('segmentation')
        if mask and not _is_mask(mask, sizes.get(annotation['image_id'])):
            raise UserError(f'{where} has a segmentation that is none; expected polygons [[x, y, x, y, ...], ...] or RLE '
                            "dict(size=[height, width], counts=...) of the image's size")


def _make_ids_whole(entry: Any) -> None:
    """Make whole numbers of ids like 1.0, in place: pandas writes a column of whole numbers with a gap in it so."""
    for key in ('id', 'image_id', 'category_id') if isinstance(entry, dict) else ():
        if isinstance(entry.get(key), float) and entry[key].is_integer():
            entry[key] = int(entry[key])


def _are_pixels(values: Sequence) -> bool:
    """Whether all values are coordinates of pixels; in the sum shows what is not finite or no number."""
    try:
        return math.isfinite(sum(values)) and min(values, default=0) > -MAX_SIDE and max(values, default=0) < MAX_SIDE
    except (TypeError, OverflowError):
        return False


def _is_mask(mask: Any, size: list[int] | None) -> bool:
    """Whether it is polygons, or RLE of an image's size ([height, width], or None if it is not known)."""
    if isinstance(mask, list):
        return all(isinstance(polygon, list) and _are_pixels(polygon) for polygon in mask)
    if not isinstance(mask, dict) or size and mask.get('size') != size:
        return False
    counts = mask.get('counts')
    if isinstance(counts, list):
        return all(type(count) is int and count >= 0 for count in counts) and sum(counts) == math.prod(size or [0])
    return isinstance(counts, str)
