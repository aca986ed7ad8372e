"""What there is in people's data sets, and what is wrong with it."""
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from coma_mm.datasets.usage import many, number
from coma_mm.errors import UserError, first_names
from coma_mm.prepare.check import DEPTH, Findings, gather_depths, note_boxes
from coma_mm.prepare.look import Looked, digest_of_file, length_of_file, look
from coma_mm.prepare.new.label_values import NO_CLASS, Labels, find_labels
from coma_mm.processes import pool_map

from .sets import DataSet

LOOKED = 1000
"""Images of each data set that are read without `full`."""
FEW = 50
"""Images that are read in this process: to start others takes as long."""
MOST, FEWEST = 10, 5
"""Classes of the most and of the fewest objects that a terminal shows; a page has all of them."""
ALIKE = 10
"""Problems that differ in names and numbers alone, of which all are listed; of more only the number."""
LEAK = .01
"""A smaller share of images for validation that are trained on hardly changes a score."""
SMALL, MEDIUM = 32**2, 96**2
"""Areas in px below which COCO calls an object small, and medium."""


@dataclass
class Class:
    """What there is of a class.

    Attributes:
        name (str): The class.
        objects (int): Objects, or in classification images; in segmentation pixels of the images that were read.
        images (int): Images that have some of it.
        share (float): Of all objects, images or pixels.
    """
    name: str
    objects: int
    images: int
    share: float


@dataclass
class Surveyed:
    """A data set and what was found in it.

    Attributes:
        data (DataSet): The data set.
        looked (dict[int, Looked]): What is known of the samples that were read, by their index.
        labels (Labels, optional): Which values of the maps are classes.
    """
    data: DataSet
    looked: dict[int, Looked]
    labels: Labels | None = None

    @cached_property
    def sizes(self) -> Counter:
        """How many images there are of each width and height, in px."""
        return Counter(one.size for one in self.looked.values() if one.size)

    @cached_property
    def depths(self) -> Counter:
        """How many images there are of each depth, in words."""
        return Counter(one.depth for one in self.looked.values() if one.depth)

    @cached_property
    def values(self) -> Counter:
        """How many pixels of the maps have each value."""
        return sum((Counter(one.values) for one in self.looked.values() if one.values), Counter())

    @cached_property
    def classes(self) -> list[Class]:
        """The classes, in the order of their labels; of values that are none the last one, 'no class'."""
        if self.data.kind == 'segmentation':
            return self._classes_of_maps()
        counts = self.data.usage.classes
        images = Counter(label for sample in self.data.samples for label in labels_of(sample))
        images = Counter({self.data.place(label): count for label, count in images.items()})
        total = sum(counts.values()) or 1
        return [Class(name, count, images[label], count / total) for label, (name, count) in enumerate(counts.items())]

    def _classes_of_maps(self) -> list[Class]:
        total = self.values.total() or 1
        images = Counter(value for one in self.looked.values() for value in one.values or ())
        found = [Class(name, self.values[value], images[value], self.values[value] / total)
                 for value, name in self.class_of.items()]
        if rest := [value for value in self.values if value not in self.class_of]:
            count = sum(self.values[value] for value in rest)
            found.append(Class('no class', count, sum(any(value in rest for value in one.values or ())
                                                      for one in self.looked.values()), count / total))
        return found

    @property
    def class_of(self) -> dict[int, str]:
        """The names of the classes by the values in the maps."""
        if self.labels:
            return dict(zip(self.labels.values, self.labels.names, strict=True))
        return dict(enumerate(self.data.names or ()))

    @cached_property
    def empty(self) -> list[int]:
        """The samples without an object, or of a map without a pixel of a class (of those that were read)."""
        if self.data.kind == 'detection':
            return [index for index, sample in enumerate(self.data.samples) if not labels_of(sample)]
        known = set(self.class_of)
        return [index for index, one in self.looked.items() if one.values and not known & set(one.values)]


def labels_of(sample: dict) -> list[int]:
    """The labels of a sample's objects, or of the image; each once."""
    if 'instances' in sample:
        return sorted({one['bbox_label'] for one in sample['instances'] if not one.get('ignore_flag')})
    label = sample.get('gt_label')
    return [] if label is None else np.ravel(label).tolist()


@dataclass
class Survey(Findings):
    """What `survey` found, beyond `Findings`.

    Attributes:
        sets (list[Surveyed]): The data sets.
        copies (list[list[tuple[int, int]]]): Samples with equal images: the numbers of their set and in it.
    """
    sets: list[Surveyed] = field(default_factory=list)
    copies: list[list[tuple[int, int]]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What there is in each data set, for a terminal."""
        for one in self.sets:
            yield f'{one.data.name}: {one.data.usage.line}'
            for name, text in self.facts(one).items():
                yield f'  {name:21} {text}'
            yield from _class_lines(one)

    def facts(self, one: Surveyed) -> dict[str, str]:
        """The sizes, depths and the like of a data set, in words by their names."""
        facts = {}
        if one.sizes:
            sides = sorted(min(size) for size in one.sizes.elements())
            usual = ', '.join(f'{width}×{height} ({number(count)})' for (width, height), count in one.sizes.most_common(3))
            often = f'most often {usual} px; ' * (one.sizes.most_common(1)[0][1] > 1)
            facts['sizes'] = f'{usual} px' if len(one.sizes) < 4 else (
                f'{number(len(one.sizes))} of them, {often}shorter sides {sides[0]} to {sides[-1]}, median '
                f'{sides[len(sides) // 2]} px')
        if one.depths:
            facts['depth'] = '; '.join(f'{depth} ({number(count)})' for depth, count in one.depths.most_common())
        if one.data.kind == 'segmentation' and one.values:
            facts['values of maps'] = _ranges(one.values)
        areas = [area(found) for sample in one.data.samples for found in sample.get('instances', ())
                 if not found.get('ignore_flag')]
        if areas:
            small, medium = sum(one < SMALL for one in areas), sum(SMALL <= one < MEDIUM for one in areas)
            facts['boxes'] = (f'{number(small)} small (below 32² px), {number(medium)} medium, '
                              f'{number(len(areas) - small - medium)} large (from 96² px); '
                              f'{len(areas) / len(one.data.samples):.1f} in an image')
        if one.empty:
            what = 'an object' if one.data.kind == 'detection' else 'a pixel of a class'
            facts[f'without {what}'] = self.names((one, index) for index in one.empty)
        return facts

    def names(self, found: Iterable[tuple[Surveyed, int]]) -> str:
        """How many images, and the first few of them."""
        found = list(found)
        return f'{many(len(found), "image")}: {first_names(name_of(*one) for one in found)}'


def name_of(one: Surveyed, index: int) -> str:
    """What a sample's image is called in its data set."""
    return one.data.short(one.data.samples[index]['img_path'])


def share(value: float) -> str:
    """'31 %', '0.4 %'."""
    return f'{100 * value:.3g} %' if value >= .0001 or not value else '<0.01 %'


def _ranges(values: Iterable[int]) -> str:
    """'0 to 18, 255'."""
    values = sorted(values)
    firsts = [value for value in values if value - 1 not in values]
    lasts = [value for value in values if value + 1 not in values]
    return ', '.join(f'{first} to {last}' if last > first + 1 else f'{first}, {last}' if last > first else f'{first}'
                     for first, last in zip(firsts, lasts, strict=True))


def area(instance: dict) -> float:
    """Of an object's box, in px."""
    left, top, right, bottom = instance['bbox']
    return (right - left) * (bottom - top)


def _class_lines(one: Surveyed) -> Iterator[str]:
    classes = sorted(one.classes, key=lambda found: -found.objects)
    width, between = max([len(found.name) for found in classes] + [20]), len(classes) - MOST - FEWEST
    if between > 0 and classes[0].objects == classes[-1].objects:
        yield f'    {number(classes[0].objects)} of each class'
        return
    for place, found in enumerate(classes):
        if between > 1 and MOST <= place < len(classes) - FEWEST:
            if place == MOST:
                yield f'    … {between} classes between'
            continue
        where = '' if one.data.kind == 'classification' else f' in {many(found.images, "image")}'
        what = share(found.share) if one.data.kind == 'segmentation' else number(found.objects)
        yield f'    {found.name:{min(width, 40)}}{what:>9}{where}'


def survey(sets: Sequence[DataSet], findings: Findings, full: bool = False, workers: int = 1) -> Survey:
    """Read images and maps, compare them, and note what is wrong.

    Args:
        sets (Sequence[DataSet]): The data sets.
        findings (Findings): What is known already.
        full (bool): Read all images instead of `LOOKED` of each set, chosen by a seed. Defaults to False.
        workers (int): Processes that read. Defaults to 1.

    Returns:
        Survey: In words and numbers.
    """
    found = Survey(**vars(findings))
    bad = defaultdict(list)
    for data in sets:
        found.images += len(data.samples)
        chosen = range(len(data.samples))
        if not full:
            chosen = sorted(random.Random(0).sample(chosen, min(LOOKED, len(chosen))))
        samples = [{key: value for key, value in data.samples[index].items() if key != 'instances'} for index in chosen]
        looked = {}
        for index, one in zip(chosen, pool_map(
                look, samples, workers if len(samples) > FEW else 1, f'reading {data.name}', 16, unit='images',
                disable=len(samples) <= FEW), strict=True):
            looked[index] = one
            found.note_read(data.samples[index], one)
            if one.problem:
                bad[_kind_of(one.problem, data.samples[index])].append(one.problem)
        found.sets.append(Surveyed(data, looked))
    for texts in map(gather_depths, map(sorted, map(set, bad.values()))):
        found.problems += texts[:ALIKE]
        if len(texts) > ALIKE:
            found.problem(f'… and {number(len(texts) - ALIKE)} more like these')
    _note_labels(found)
    for one in found.sets:
        _note_usage(found, one)
    found.copies = _copies(found, workers)
    _note_copies(found)
    return found


def _kind_of(problem: str, sample: dict) -> str:
    """A problem without the names of files and the numbers in it; all depths are of one kind, see `gather_depths`."""
    if DEPTH.fullmatch(problem):
        return 'depth'
    for key in ('img_path', 'seg_map_path'):
        problem = problem.replace(sample.get(key) or '\0', '')
    return re.sub(r'\d+', '', problem)


def _note_labels(found: Survey) -> None:
    """Decide which values of masks are classes, alike in all sets, as `coma-mm new` does."""
    raw = [one for one in found.sets if one.data.kind == 'segmentation' and not one.data.usage.classes]
    values = sum((one.values for one in raw), Counter())
    if not values:
        return
    names, ignore = raw[0].data.names, raw[0].data.ignore
    try:
        labels = find_labels(values, names, ignore)
        found.warnings += labels.notes
    except UserError as error:
        found.problem(str(error))
        kept = sorted(set(values) - {NO_CLASS, *(ignore or ())})
        labels = Labels([f'class {value}' for value in kept], kept, [])
    for one in raw:
        one.labels = labels


def _note_usage(found: Survey, one: Surveyed) -> None:
    """What a data set's own counts say."""
    data, used = one.data, one.data.usage
    if used.missing:
        image, path = used.missing[0]
        found.problem(f'{data.name}: {number(len(used.missing))} of {many(used.images, "image")} '
                      f'{"has" if len(used.missing) == 1 else "have"} no map, e.g. {image}: no file {path}')
    if used.nothing:
        (found.problem if data.split in ('', 'train') else found.warn)(used.nothing)
    elif used.almost_nothing:
        found.warn(used.almost_nothing)
    else:
        note_boxes(found, data.name, used.used + used.objects.total(), used.objects, used.examples)
    if data.kind == 'detection' and used.used and (absent := [name for name, count in used.classes.items() if not count]):
        found.warn(f'{data.name}: no object is of {first_names(absent)}')
    if data.kind == 'segmentation' and used.classes:  # by a config's rules
        if beyond := sorted(value for value in one.values if value not in one.class_of and value != NO_CLASS):
            found.problem(f'{data.name}: the maps have the ids {first_names(map(str, beyond))}, and there are '
                          f'{len(one.class_of)} classes (0 to {len(one.class_of) - 1}); 255 is ignored')
        if one.values and not set(one.values) & set(one.class_of):
            found.problem(f'{data.name}: no pixel of {len(one.looked)} maps has a class; check reduce_zero_label and '
                          'MapClassIds of the pipeline')


def _copies(found: Survey, workers: int) -> list[list[tuple[int, int]]]:
    """Groups of samples with equal images; by their pixels if all were read, else by their files."""
    groups = defaultdict(list)
    places = [(number, index) for number, one in enumerate(found.sets) for index in range(len(one.data.samples))]
    if found.read == found.images:
        for number_, index in places:
            if digest := found.sets[number_].looked[index].digest:
                groups[digest].append((number_, index))
        return [group for group in groups.values() if len(group) > 1]
    samples = {place: {key: value for key, value in found.sets[place[0]].data.samples[place[1]].items()
                       if key in ('img_path', 'shard', 'offset', 'size', 'crc32')} for place in places}
    for place, sample in samples.items():  # files of another length differ
        groups[length_of_file(sample)].append(place)
    alike = [place for length, group in groups.items() if length is not None and len(group) > 1 for place in group]
    groups.clear()
    for place, digest in zip(alike, pool_map(
            digest_of_file, [samples[place] for place in alike], workers if len(alike) > FEW else 1, 'comparing', 64,
            unit='images', disable=len(alike) <= FEW), strict=True):
        if digest:
            groups[digest].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _note_copies(found: Survey) -> None:
    """Copies within a set, those with other labels, and images of one set in another."""
    inside, labels, between = defaultdict(list), defaultdict(list), defaultdict(list)
    for group in found.copies:
        by_set = defaultdict(list)
        for place, index in group:
            by_set[place].append(index)
        for place, indices in by_set.items():
            one = found.sets[place]
            if len({os.path.realpath(one.data.samples[index]['img_path']) for index in indices}) > 1:
                inside[place].append(indices)
                if one.data.kind == 'classification' and len({
                        tuple(labels_of(one.data.samples[index])) for index in indices}) > 1:
                    labels[place].append(indices)
        numbers = sorted(by_set)
        for first in numbers:
            for other in numbers[numbers.index(first) + 1:]:
                between[first, other].append((by_set[first], by_set[other]))
    for (first, other), pairs in between.items():
        one, two = found.sets[first], found.sets[other]
        if {one.data.split, two.data.split} == {'val', 'test'}:
            continue  # nothing is learnt from either
        count = sum(len(others) for _, others in pairs)
        examples = (name_of(one, here[0]) if name_of(one, here[0]) == name_of(two, there[0]) else
                    f'{name_of(one, here[0])} = {name_of(two, there[0])}' for here, there in pairs)
        text = (f'{many(count, "image")} of {two.data.name} ({share(count / len(two.data.samples))}) '
                f'{"is" if count == 1 else "are"} in {one.data.name}, too: {first_names(examples)}')
        if one.data.split == 'train' and count >= LEAK * len(two.data.samples):
            found.problem(f'{text}; remove them from one of the two, as scores would say how well images are remembered')
        else:
            found.warn(text)
    for place, groups in inside.items():
        one = found.sets[place]
        extra = sum(len(indices) - 1 for indices in groups)
        examples = (' = '.join(name_of(one, index) for index in indices[:2]) for indices in groups)
        found.warn(f'{one.data.name}: {many(extra, "image")} {"is a copy" if extra == 1 else "are copies"} of another: '
                   f'{first_names(examples)}')
        if clashing := labels[place]:
            examples = (' = '.join(name_of(one, index) for index in indices[:2]) for indices in clashing)
            found.warn(f'{one.data.name}: {many(len(clashing), "image")} {"is" if len(clashing) == 1 else "are"} in folders '
                       f'of different classes: {first_names(examples)}')
