"""Where a config's data sets are: another folder in the place of theirs, and an early look whether they are there."""
import inspect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from coma_mm.config_tree import data_sets, walk
from coma_mm.datasets.image_folder import image_suffixes, walk_files
from coma_mm.datasets.packed_images import INDEX
from coma_mm.errors import MissingFileError, UserError

SPLITS = ('train', 'val', 'test')


def use_data_root(cfg: Config, data_root: str | None) -> None:
    """`--data-root`: move the data sets, and what evaluators read of them, to another folder, in place.

    Replaced are `data_root` of the data sets, wrapped ones too, and every path in data sets and evaluators that begins
    with it.

    Args:
        cfg (Config): The config.
        data_root (str | None): The folder; None leaves all as it is.

    Raises:
        UserError: If the data sets have no `data_root`, or several.
    """
    if not data_root:
        return
    roots = sorted({
        dataset['data_root'].rstrip('/')
        for split in SPLITS for dataset in data_sets(cfg.get(f'{split}_dataloader')) if dataset.get('data_root')
    })
    if not roots:
        raise UserError('--data-root: no data set of the config has a data_root to replace; set their paths by '
                        '--cfg-options')
    if len(roots) > 1:
        raise UserError(f'--data-root replaces one folder, but the data sets of the config are in {" and ".join(roots)}; '
                        'set each by --cfg-options, e.g. train_dataloader.dataset.data_root=PATH')
    for split in SPLITS:
        for key in ('dataloader', 'evaluator'):
            for place in walk(cfg.get(f'{split}_{key}')):
                _move(place, roots[0], data_root.rstrip('/'))


def _move(place: dict[str, Any], old: str, new: str) -> None:
    """Replace the beginning of the paths in a dict."""
    for key, value in place.items():
        if isinstance(value, str) and (value.startswith(f'{old}/') or (key == 'data_root' and value == old)):
            place[key] = new + value[len(old):]


def check_data_roots(cfg: Config, splits: Sequence[str]) -> None:
    """See, before anything is built, whether the files that data sets and evaluators will read are there.

    Looks at the config and, below the paths that it names, for a first file. Types of data sets that it does not know,
    and data that are not on a local disk, pass.

    Args:
        cfg (Config): From `read_config`.
        splits (Sequence[str]): Which of 'train', 'val' and 'test' to look for.

    Raises:
        UserError: Naming the first path that is missing, or below which there is nothing, and what was expected there.
    """
    with DATASETS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        for split in splits:
            for dataset in data_sets(cfg.get(f'{split}_dataloader')):
                kind = dataset.get('type')
                kind = kind if inspect.isclass(kind) else registry.get(kind) if isinstance(kind, str) else None
                root = dataset.get('data_root') or ''
                for path, expected, is_there in _expected(kind, dataset) if _is_local(dataset, root) else ():
                    path = os.path.join(root, path).rstrip('/')
                    if not is_there(os.path.expanduser(path)):
                        raise _missing(kind.__name__, path, expected)
            evaluators = cfg.get(f'{split}_evaluator')
            for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
                path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
                if path and _is_local(evaluator, path) and not os.path.exists(path):
                    raise _missing(f'{split}_evaluator', path, 'an annotation file')


def _missing(reader: str, path: str, expected: str) -> MissingFileError:
    if not os.path.exists(path):
        state = 'does not exist'
    elif not os.path.isdir(path):
        state = 'is not a folder'
    elif not os.access(path, os.R_OK | os.X_OK):
        state = 'may not be read'
    else:
        state = 'holds no such files' if _has_files(path) else 'holds no file'
    expected = expected.format(path)
    return MissingFileError(f'{reader}: {path} {state}; expected {expected}; set data_root in the config, or --data-root '
                            'PATH')


def _is_local(cfg: dict, path: str) -> bool:
    """Whether what a config names is surely read from a disk."""
    backend = (cfg.get('backend_args') or cfg.get('file_client_args') or {}).get('backend', 'local')
    return backend in ('local', 'disk', 'LocalBackend') and not re.match(r'\w\w+:', path)  # s3://…, http://…


def _expected(kind: type | None, dataset: dict) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
    """Path below the data root, words for what is expected there ({}: the path), and how to see it."""
    ann_file, prefix = dataset.get('ann_file'), dataset.get('data_prefix') or {}
    prefix = {'img_path': prefix} if isinstance(prefix, str) else prefix
    # mmengine's way of putting paths together; a class that has another one may do anything with them.
    if getattr(kind, '_join_prefix', None) is not BaseDataset._join_prefix:
        return
    if ann_file and isinstance(ann_file, str):
        yield ann_file, 'an annotation file', os.path.exists
    # Subclasses which read their list as the parent does are known too. Compared by name: not all libraries are imported.
    reader = kind.load_data_list
    reader = f'{reader.__module__}:{reader.__qualname__}'
    images = 'images in it or in folders below it'
    if reader == 'coma_mm.datasets.image_folder:ImageFolder.load_data_list':
        suffixes = image_suffixes(dataset.get('suffixes'), dataset.get('pipeline') or ())
        yield prefix.get('img_path', ''), f'{images} (*{suffixes[0]}, …)', partial(_has_files, suffixes=suffixes)
    elif reader == 'coma_mm.datasets.packed_images:PackedImages.load_data_list':
        yield os.path.join(prefix.get('img_path', ''), INDEX), 'a pack by tools/pack_dataset.py', os.path.isfile
    elif reader == 'mmpretrain.datasets.custom:CustomDataset.load_data_list' and not ann_file:
        split = dataset.get('split', '')
        folder = prefix.get('img_path') or split
        listed = split and os.path.exists(os.path.join(dataset.get('data_root') or '', 'meta', f'{split}.txt'))
        if listed or split == 'test' or not dataset.get('with_label', True):
            yield folder, images, _has_files
        else:
            yield folder, 'folders of classes with images in them, {}/<class>/*.JPEG', _has_files_in_folders
    elif reader == 'mmseg.datasets.basesegdataset:BaseSegDataset.load_data_list':
        for key, what in (('img_path', images), ('seg_map_path', 'segmentation maps in it or in folders below it')):
            if prefix.get(key):
                yield prefix[key], what, _has_files
    elif reader == 'mmdet.datasets.coco:CocoDataset.load_data_list' and prefix.get('img'):
        yield prefix['img'], images, _has_files


def _has_files(folder: str, suffixes: str | tuple[str, ...] = '') -> bool:
    """Whether there is a file with one of the suffixes in a folder or below it."""
    return any(path.lower().endswith(suffixes) for path in walk_files(folder))


def _has_files_in_folders(folder: str) -> bool:
    """Whether there are files below a folder, other than directly in it."""
    return any(os.path.dirname(path) != folder for path in walk_files(folder))
