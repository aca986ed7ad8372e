"""What annotation files must not say: names of files outside of the data set, and objects without a mask."""
import os

from torch.utils.data import Dataset

from coma_mm.errors import UserError


def leaves(dataset: Dataset) -> list[Dataset]:
    """The data sets inside wrappers."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        return [dataset]
    return [leaf for one in inner for leaf in leaves(one)]


def check_annotations(dataset: Dataset, training: bool = False) -> None:
    """Check, in one pass, that no annotation file names a file outside of its data set, e.g. `../../x.png` or `/etc/passwd`.

    The data set's folders are its `data_root` and its `data_prefix`; without either, the working directory. Names are
    compared as they are written: a link inside a data set may lead anywhere. Data sets without an annotation file list
    their own folders and are not looked at. In training, every object of a data set whose masks are loaded must have one.

    Args:
        dataset (Dataset): Of any library, wrapped or not.
        training (bool): Whether it is for training. Defaults to False.

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
        steps = getattr(getattr(leaf, 'pipeline', None), 'transforms', ())
        masks = training and any(getattr(step, 'with_mask', False) for step in steps)
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            if masks and any('mask' not in instance for instance in info.get('instances', ())):
                raise UserError(f'{leaf.ann_file}: an object in {info.get("img_path", f"image {index}")} has no '
                                'segmentation; expected polygons or RLE for every object, as masks are trained')
            for key, path in info.items():
                if key.endswith('_path') and isinstance(path, str) and not os.path.abspath(path).startswith(inside):
                    raise UserError(f'{leaf.ann_file}: the {key} {path!r} of sample {index} is outside of the data set; '
                                    f'expected files in {" or ".join(dict.fromkeys(roots))} (data_root and data_prefix)')
