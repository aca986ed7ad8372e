"""File names in annotations that lead out of the data set."""
import os

from coma_mm.errors import UserError


def leaves(dataset):
    """list: The data sets inside wrappers."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        return [dataset]
    return [leaf for one in inner for leaf in leaves(one)]


def check_paths(dataset):
    """Check that no annotation file names a file outside of its data set, e.g. `../../x.png` or `/etc/passwd`.

    The data set's folders are its `data_root` and its `data_prefix`; without either, the working directory. Names are
    compared as they are written: a link inside a data set may lead anywhere. Data sets without an annotation file list
    their own folders and are not looked at.

    Args:
        dataset (Dataset): Of any library, wrapped or not.

    Raises:
        UserError: Naming the annotation file and the entry.
    """
    for leaf in leaves(dataset):
        if not getattr(leaf, 'ann_file', None):
            continue
        prefix = getattr(leaf, 'data_prefix', None)
        roots = [getattr(leaf, 'data_root', None), *(prefix.values() if isinstance(prefix, dict) else [prefix])]
        roots = [root for root in roots if root] or ['.']
        inside = tuple(os.path.join(os.path.abspath(root), '') for root in roots)
        for index in range(len(leaf)):
            for key, path in leaf.get_data_info(index).items():
                if key.endswith('_path') and isinstance(path, str) and not os.path.abspath(path).startswith(inside):
                    raise UserError(f'{leaf.ann_file}: the {key} {path!r} of sample {index} is outside of the data set; '
                                    f'expected files in {" or ".join(dict.fromkeys(roots))} (data_root and data_prefix)')
