"""Images that tools/pack_dataset.py packed into a few large files, as a data set.

A pack is a folder: tar files (`shard-00000.tar`, ...), beside each the list of its images with the bytes where they are
(`shard-00000.json`), and `pack.json`, which is written last.
"""
import json
import os
import re
import zlib
from typing import Any

from mmengine.registry import DATASETS

from coma_mm.errors import UserError
from coma_mm.files import read_regular

from .image_folder import ImageFolder

INDEX = 'pack.json'
VERSION = 1


def read_index(folder: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read what a pack holds; nothing in it can name a file outside of the folder.

    Args:
        folder (str): The pack.

    Returns:
        tuple[dict, list[dict]]: The content of `INDEX`, and the images in order: `name` (relative, with /), `shard` (a
        number), `offset`, `size` (both in bytes) and `crc32`.

    Raises:
        UserError: If it is no pack, an unfinished or a damaged one.
    """
    index = _read_json(folder, INDEX)
    try:
        if index['version'] != VERSION:
            raise UserError(f'{os.path.join(folder, INDEX)} is of version {index["version"]}; expected {VERSION}: pack the '
                            'images again')
        images = []
        for number, shard in enumerate(index['shards']):
            size = os.path.getsize(os.path.join(folder, shard_name(number)))
            if size != shard['bytes']:
                raise UserError(f'{os.path.join(folder, shard_name(number))} has {size} bytes, and its pack says '
                                f'{shard["bytes"]}; copy the pack anew')
            listed = _read_json(folder, shard_name(number, 'json'), shard['crc32'])['images']
            for name, offset, length, crc32 in listed:
                if not _is_inside(name):
                    raise ValueError(f'the name {name!r} leads out of the pack')
                if not 0 <= offset < offset + length <= size:
                    raise ValueError(f'the place of {name!r} is not in its file')
                images.append(dict(name=name, shard=number, offset=int(offset), size=int(length), crc32=int(crc32)))
        if len(images) != index['images']:
            raise ValueError(f'it says {index["images"]} images and lists {len(images)}')
        index['classes'] = [str(name) for name in index['classes']]
    except FileNotFoundError as error:
        raise UserError(f'{error.filename} is missing from the pack {folder}; copy the pack anew') from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'the index of the pack {folder} is damaged: {type(error).__name__} {error}; copy or pack it '
                        'anew') from None
    return index, images


def shard_name(number: int, suffix: str = 'tar') -> str:
    """Name of a file of a pack."""
    return f'shard-{number:05d}.{suffix}'


def _read_json(folder: str, name: str, crc32: int | None = None) -> Any:
    path = os.path.join(folder, name)
    try:
        content = read_regular(path)
        if crc32 is not None and zlib.crc32(content) != crc32:
            raise ValueError('it was altered since it was written')
        return json.loads(content)
    except FileNotFoundError:
        raise UserError(f'{folder} is no pack, or an unfinished one: it has no {name}; expected a folder written by '
                        'tools/pack_dataset.py') from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'cannot read {path}: {error}; copy or pack it anew') from None


def _is_inside(name: str) -> bool:
    return not name.startswith('/') and not re.search(r'(^|/)\.\.(/|$)|\\|\0', name)


@DATASETS.register_module()
class PackedImages(ImageFolder):
    """A pack of images, read with random access: the samples of the `ImageFolder` that was packed, in the same order.

    Args:
        data_root (str): The pack.
        with_label (bool): Samples have a `gt_label`: the number of their folder of the first level among those folders,
            sorted, as in ImageNet's layout. Defaults to False.
        **kwargs: Further arguments of `ImageFolder`, e.g. `pipeline` and `part`.

    Raises:
        UserError: If `data_root` is no whole pack, or there is an image outside of folders `with_label`.
    """

    def __init__(self, data_root: str, with_label: bool = False, **kwargs: Any):
        self.with_label = with_label
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples, with paths as if the pack's folder were the one that was packed."""
        self.folder = os.path.normpath(self.data_prefix['img_path'])
        index, images = read_index(self.folder)
        if self.with_label:
            labels = {name: label for label, name in enumerate(index['classes'])}
            self._metainfo['classes'] = tuple(labels)
            for image in images:
                image['gt_label'] = labels.get(image['name'].partition('/')[0])
                if image['gt_label'] is None:
                    raise UserError(f'with_label=True needs images in folders of classes, and {image["name"]} of the pack '
                                    f'{self.folder} is in none')
        return self.select(images)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Where the sample's image is."""
        info = super().get_data_info(idx)
        info['img_path'] = os.path.join(self.folder, info.pop('name'))
        info['shard'] = os.path.join(self.folder, shard_name(info['shard']))
        return info
