"""Whether all files and settings of a run have the same classes in the same order."""
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torch.utils.data import Dataset

from coma_mm.errors import UserError, first_names, nearest

from .parts import Parts, Split, warn

ALIKE = 0.75
"""How alike two names are of which one is taken for the other, misspelt; 'disc' and 'disk' are just so."""


def check_class_names(parts: Parts) -> None:
    """Compare the names of the classes in the config, in annotation files and in folders.

    Args:
        parts (Parts): Of the run.

    Raises:
        UserError: If a class would be learnt or counted as another.
    """
    for split in parts.splits:
        _check_files(split)
        for metric in split.metrics_of('CocoMetric'):
            _check_evaluator(split, metric)
    for split in parts.evaluated if parts.trained_on else ():
        if split.classes:
            _check_places('the checkpoint', parts.trained_on, split)
    for split in parts.evaluated if parts.train else ():
        _check_folders(parts.train, split)
        _check_order(parts.train, split)


def _check_files(split: Split) -> None:
    """The categories of COCO files and `metainfo.classes`."""
    found = {name for one in split.coco() for name in one.cat_ids.objects}
    for one in split.coco():
        _check_categories(split, one.metainfo['classes'], one.cat_ids.objects, one.ann_file, found)


def _check_categories(split: Split, classes: Sequence[str], objects: Mapping[str, int], path: str,
                      found: Iterable[str]) -> None:
    """Compare classes with the categories of a file, whose objects are counted; `found` are those of all its split's files.

    A class that no file has is no error, unless a category is spelt like it, or objects to train on are left out beside it.
    """
    where = f'metainfo.classes of {split.loader}'
    others = [name for name in objects if name not in classes]
    left_out = {name: objects[name] for name in others if objects[name]}
    training = split.name == 'train'
    missing = [name for name in classes if name not in (found if training else objects)]
    for name in missing:
        close = nearest(name, [one for one in others if _numbers(one) == _numbers(name)], cutoff=ALIKE)
        if close and name not in found or training and left_out:
            raise UserError(f'{where} has {name!r}, and {path} has no such category, but {first_names(others)}' +
                            (f': is it {close!r}? set the name as the file has it' if close else
                             '; expected each class that is trained in a file, so leave it out of metainfo.classes and '
                             'num_classes, or take the file that has it'))
    if missing:
        effect = 'no object' if training else f'{split.evaluator} counts no object'
        warn(f'{path} has no category {first_names(missing)} of {where}: {effect} of '
             f'{"it" if len(missing) == 1 else "these"}' + ' is trained' * training)
    if left_out:
        warn(f'{path}: {sum(left_out.values())} objects of {first_names(left_out)} are left out, since {where} does not '
             'name their categories')


def _numbers(name: str) -> list[str]:
    """The numbers in a name: 'class_1' is not 'class_2' misspelt."""
    return re.findall(r'\d+', name)


def _check_evaluator(split: Split, metric) -> None:
    """The file that `CocoMetric` compares with, and those of the data set."""
    api, datasets = getattr(metric, '_coco_api', None), split.coco()
    if api is None or not datasets or len(datasets) < len(split.datasets):
        return
    path = getattr(api, 'annotation_file', f'the file of {split.evaluator}')
    files = ' and '.join(one.ann_file for one in datasets)
    same = len(datasets) == 1 and os.path.realpath(path) == os.path.realpath(datasets[0].ann_file)
    classes = datasets[0].metainfo['classes']
    objects = getattr(api.get_cat_ids(classes), 'objects', None)
    if not same and objects:
        _check_categories(Split(split.name, []), classes, objects, path, objects)
    used = dict(_images(datasets))
    set_it = f'set ann_file of {split.evaluator} to that of {split.loader}'
    if absent := [one for one in used if one not in api.imgs]:
        raise UserError(f'{len(absent)} of {len(used)} images of {files} ({split.loader}) are not in {path} '
                        f'({split.evaluator}), e.g. {used[absent[0]]} with id {absent[0]!r}; {set_it}')
    for one, name in used.items():
        other = os.path.basename(str(api.imgs[one].get('file_name')))
        if not same and other != name:
            raise UserError(f'the image with id {one!r} is {name} in {files} ({split.loader}) and {other} in {path} '
                            f'({split.evaluator}); {set_it}')
    if unused := len(api.imgs) - len(used):
        line = (f'{path} ({split.evaluator}) has {len(api.imgs)} images, and {unused} of them are not in the data of '
                f'{split.loader}: all their objects would count as missed')
        if not same:
            raise UserError(f'{line}; {set_it}')
        warn(f'{line}; leave indices and filter_cfg out of its dataset')


def _images(datasets: Iterable[Dataset]) -> Iterable[tuple[int | str, str]]:
    """Id and file name of each image."""
    for one in datasets:
        for index in range(len(one)):
            info = one.get_data_info(index)
            yield info['img_id'], os.path.basename(info['img_path'])


def _check_folders(train: Split, split: Split) -> None:
    """The folders of classes that data sets have found; each numbers its own."""
    expected, found = (getattr(one.datasets[0], 'folder_to_idx', None) for one in (train, split))
    if not expected or not found:
        return
    places = ' and '.join(f'{one.datasets[0].img_prefix} ({one.loader})' for one in (train, split))
    lacking, more = ([name for name in one if name not in other] for one, other in ((expected, found), (found, expected)))
    if any(expected.get(name) != label for name, label in found.items()):
        differ = [f'{text} {first_names(names)}' for text, names in (('only the first has', lacking),
                                                                   ('only the second has', more)) if names]
        raise UserError(f'the class folders of {places} differ, and labels count them, sorted: {", ".join(differ)}; make '
                        'the same folders in both (they may be empty)')
    if lacking:
        warn(f'of the class folders of {places} only the first has {first_names(lacking)}: no image of these is evaluated')


def _check_order(train: Split, split: Split) -> None:
    """The names of two data sets."""
    expected, found = train.classes, split.classes
    # Those that were compared as folders; not where a list of names stands for them.
    in_folders = all(set(one.classes or ()) <= set(getattr(one.datasets[0], 'folder_to_idx', ())) for one in (train, split))
    if not expected or not found or expected == found or in_folders:
        return
    _check_places(f'metainfo.classes of {train.loader}', expected, split)
    where = [f'metainfo.classes of {one.loader} ({first_names(one.classes)})' for one in (train, split)]
    if len(expected) != len(found):
        raise UserError(f'{where[0]} has {len(expected)} names and {where[1]} has {len(found)}; set the same list for both')
    warn(f'{where[0]} and {where[1]} have different names; labels are compared by their place')


def _check_places(where: str, expected: Sequence[str], split: Split) -> None:
    """Raise a UserError if a class that a model is trained on has another label in a data set to evaluate."""
    twice = [name for names in (expected, split.classes) for name, count in Counter(names).items() if count > 1]
    places = {name: label for label, name in enumerate(expected) if name not in twice}  # ImageNet has two cranes
    for label, name in enumerate(split.classes):
        if places.get(name, label) != label:
            kind = 'the class folders' if getattr(split.datasets[0], 'folder_to_idx', None) else 'metainfo.classes'
            found = f'{kind} of {split.loader} ({first_names(split.classes)})'
            raise UserError(f'{where} ({first_names(expected)}) and {found} have {name!r} at different places, '
                            f'{places[name]} and {label}, so its label would mean another class; take the same classes in '
                            'the same order')
