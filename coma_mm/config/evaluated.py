"""Which images a config's data loader evaluates on, and whether they are all of the data set."""
import os
from pathlib import Path
from typing import Any

from coma_mm.config_tree import data_sets, type_name


def images_named(loader: Any) -> str:
    """Which images a data loader reads, below the root of the data: 'images/validation', 'instances_val.json, indices=6'.

    Args:
        loader (dict): Of a config, built or only read; anything else names none.

    Returns:
        str: The annotation file, or else the folder, the split, or the root's own name; and what of it is taken, if not all.
    """
    if not isinstance(loader, dict):
        return ''
    batches = loader.get('num_batch_per_epoch')
    names = [_named(one) for one in data_sets(loader.get('dataset'))]
    return ' + '.join(names) + (f', num_batch_per_epoch={batches}' if batches is not None else '')


def is_part(loader: Any) -> bool:
    """Whether a data loader reads a part of its data set: the first so many, some of them, or so many batches."""
    return isinstance(loader, dict) and (loader.get('num_batch_per_epoch') is not None or any(
        one.get('indices') is not None for one in data_sets(loader.get('dataset'))))


def _named(dataset: dict) -> str:
    prefix = dataset.get('data_prefix')
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path', prefix.get('img'))
    root = str(dataset.get('data_root') or '')
    found = (dataset.get('ann_file'), prefix, dataset.get('split'), dataset.get('part'))
    name = next((one for one in found if isinstance(one, str) and one), Path(root).name or type_name(dataset))
    if os.path.isabs(name) or root and name.startswith(root):
        name = os.path.relpath(name, root) if root and name.startswith(root) else os.path.join(*Path(name).parts[-2:])
    indices = dataset.get('indices')
    if indices is not None:
        indices = indices if isinstance(indices, int) else f'{len(indices)} of them' if isinstance(indices, list) else 'some'
    return os.path.normpath(name) + ('' if indices is None else f', indices={indices}')
