"""What annotation files must not say: names of files outside of the data set, or of none, and objects without a mask."""
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import Dataset

from coma_mm.config_tree import walk
from coma_mm.errors import UserError, first_names

READ_IMAGES = ('LoadImage', 'LoadImageFromFile', 'LoadRandomResizedCrop')
"""Steps of pipelines that read the file of a sample's `img_path`; others may take it for the key of a database."""
READ_MAPS = ('LoadAnnotations', 'LoadPanopticAnnotations')
"""Steps that read the file of a sample's `seg_map_path`, if they are `with_seg`."""


def leaves(dataset: Dataset) -> list[Dataset]:
    """The data sets inside wrappers."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        return [dataset]
    return [leaf for one in inner for leaf in leaves(one)]


def pipeline_steps(dataset: Dataset) -> Iterator[Any]:
    """The steps of a data set's pipeline, those of test-time augmentation too."""
    def steps(pipeline: Any) -> Iterator[Any]:
        for step in getattr(pipeline, 'transforms', ()):
            yield step
            yield from steps(step)
            for part in getattr(step, 'subroutines', ()):
                yield from steps(part)

    return steps(getattr(dataset, 'pipeline', None))


def check_class_lists(cfg: Any) -> None:
    """Check that no `classes` in the config of a data set is the name of a single class, which would count as its letters.

    Args:
        cfg (dict): The config, with data sets at any depth. A text that is the path of a file with names is right.

    Raises:
        UserError: Saying how a list of one name is written.
    """
    for one in walk(cfg):
        classes = one.get('classes')
        if isinstance(classes, str) and '://' not in classes and not os.path.exists(os.path.expanduser(classes)):
            raise UserError(f'classes={classes!r} in the config of a data set is a text, and no file with names; expected a '
                            f'list: write classes=({classes!r}, ) with the comma')


def missing_files(paths: Iterable[str]) -> list[str]:
    """Those files that are not there. A folder is listed once, which is faster than to ask for each of its files.

    Args:
        paths (Iterable[str]): Of files.

    Returns:
        list[str]: Of the paths, in their order, each once.
    """
    folders = defaultdict(set)
    for path in paths:
        folder, name = os.path.split(path)
        folders[folder].add((name, path))
    doubtful = set()
    for folder, names in folders.items():
        try:
            with os.scandir(folder or '.') as entries:
                there = {entry.name for entry in entries if not entry.is_symlink()}
        except OSError:
            there = set()
        doubtful.update(path for name, path in names if name not in there)
    # A link may lead nowhere, and another system may write names otherwise than it was asked for.
    gone = {path for path in doubtful if not os.path.exists(path)}
    return list(dict.fromkeys(path for path in paths if path in gone)) if gone else []


def _read_paths(dataset: Dataset) -> tuple[str, ...]:
    """Which of a sample's paths its pipeline reads, from files of this machine."""
    steps = list(pipeline_steps(dataset))
    backends = [getattr(one, key, None) for one in (dataset, *steps) for key in ('backend_args', 'file_client_args')]
    if any(args and args.get('backend') not in ('local', 'disk') for args in backends):
        return ()
    images = any(type(step).__name__ in READ_IMAGES and not getattr(step, 'ignore_empty', False) for step in steps)
    maps = any(type(step).__name__ in READ_MAPS and getattr(step, 'with_seg', False) for step in steps)
    return ('img_path', ) * images + ('seg_map_path', ) * maps


def check_annotations(dataset: Dataset, training: bool = False) -> None:
    """Check, in one pass, that no annotation file names a file outside of its data set, e.g. `../../x.png` or `/etc/passwd`.

    The data set's folders are its `data_root` and its `data_prefix`; without either, the working directory. Names are
    compared as they are written: a link inside a data set may lead anywhere. Data sets without an annotation file list
    their own folders and are not looked at, except for the maps that their images' names stand for. The files that the
    pipeline reads must be there. In training, every object of a data set whose masks are loaded must have one.

    Args:
        dataset (Dataset): Of any library, wrapped or not.
        training (bool): Whether it is for training. Defaults to False.

    Raises:
        UserError: Naming the annotation file and the entry.
    """
    for leaf in leaves(dataset):
        read = _read_paths(leaf)
        if not getattr(leaf, 'ann_file', None):
            if 'seg_map_path' in read and hasattr(leaf, 'get_data_info'):
                infos = (leaf.get_data_info(index) for index in range(len(leaf)))
                _check_files(leaf, [info.get('seg_map_path') for info in infos])
            continue
        prefix = getattr(leaf, 'data_prefix', None)
        roots = [getattr(leaf, 'data_root', None), *(prefix.values() if isinstance(prefix, dict) else [prefix])]
        roots = [root for root in roots if root] or ['.']
        inside = tuple(os.path.join(os.path.abspath(root), '') for root in roots)
        files = []
        masks = training and any(getattr(step, 'with_mask', False) for step in pipeline_steps(leaf))
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            files += [info.get(key) for key in read]
            if masks and any('mask' not in instance for instance in info.get('instances', ())):
                raise UserError(f'{leaf.ann_file}: an object in {info.get("img_path", f"image {index}")} has no '
                                'segmentation; expected polygons or RLE for every object, as masks are trained')
            for key, path in info.items():
                if key.endswith('_path') and isinstance(path, str) and not os.path.abspath(path).startswith(inside):
                    raise UserError(f'{leaf.ann_file}: the {key} {path!r} of sample {index} is outside of the data set; '
                                    f'expected files in {" or ".join(dict.fromkeys(roots))} (data_root and data_prefix)')
        _check_files(leaf, files)


def _check_files(dataset: Dataset, paths: Iterable[str | None]) -> None:
    paths = [path for path in paths if isinstance(path, str) and '://' not in path]
    if missing := missing_files(paths):
        count = f' ({len(missing)} of the {len(paths)} files of {getattr(dataset, "ann_file", None) or "the data set"})'
        raise UserError(f'no such file or folder: {first_names(missing)}{count if len(missing) > 1 else ""}; check '
                        'data_root, ann_file and data_prefix in the config')
