"""A look at one image and its labels: what the file holds, and what a run makes of it."""
import hashlib
import io
import os
import struct
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

from coma_mm.datasets.annotations import READ_MAPS
from coma_mm.datasets.image_kinds import BANDS, BITS, FORMAT, PNG_BANDS
from coma_mm.datasets.loading import open_image, read_encoded, read_image
from coma_mm.errors import UserError
from coma_mm.prepare.new.label_values import read_mask

PILLOW_KINDS = {'1': (1, 1), 'L': (8, 1), 'P': (8, 1), 'LA': (8, 2), 'PA': (8, 2), 'RGBA': (8, 4), 'CMYK': (8, 4),
                'I;16': (16, 1), 'I;16B': (16, 1), 'I': (32, 1), 'F': (32, 1)}
"""Bits and bands of Pillow's modes; of any other 8 and 3."""


class Looked(NamedTuple):
    """What is known of a sample from its files.

    Args:
        size (tuple[int, int] | None): Width and height in px, as the image is viewed.
        depth (str): Bits and bands, e.g. '8 bits, 3 bands'; '' if that is not known.
        digest (bytes | None): Of the pixels: equal images have equal ones, whatever the files are.
        values (dict[int, int] | None): How many pixels of the map have each value.
        problem (str | None): Why it cannot be used.
    """
    size: tuple[int, int] | None = None
    depth: str = ''
    digest: bytes | None = None
    values: dict[int, int] | None = None
    problem: str | None = None


def look(sample: dict, has_digest: bool = True) -> Looked:
    """Read a sample's image and its map to their ends.

    Args:
        sample (dict): As in `DataSet.samples`.
        has_digest (bool): Whether its pixels are to be compared with those of others. Defaults to True.

    Returns:
        Looked: What is known.
    """
    found = Looked()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's, of odd metadata
            encoded = read_encoded(sample)
            found = Looked(depth=depth_of(encoded), size=_size_of(encoded))
            image = pixels_of(sample, encoded)
        height, width = image.shape[:2]
        if image.dtype != np.uint8 or image.ndim == 3 and image.shape[2] != 3:  # a config's own way of reading
            found = found._replace(depth=f'{found.depth or "read"} as {image.dtype}, {_bands(image.shape[2:])}')
        found = found._replace(size=(width, height), digest=_digest(image) if has_digest else None)
        if sizes := _other_size(sample, width, height):
            return found._replace(problem=sizes)
        if has_map(sample):
            values, counts = np.unique(map_of(sample, (height, width)), return_counts=True)
            found = found._replace(values=dict(zip(values.tolist(), counts.tolist(), strict=True)))
    except UserError as error:
        text = str(error)
        return found._replace(problem=text.rpartition('; ')[0] if text.startswith('cannot read the image') else text)
    except Exception as error:  # of a config's own steps, which raise anything
        text = ' '.join(str(error).split()) or type(error).__name__
        return found._replace(problem=f'{sample["img_path"]}: {text}')
    return found


def pixels_of(sample: dict, encoded: bytes | None = None) -> np.ndarray:
    """A sample's image as a run has it before it is changed: (H, W, 3), uint8, BGR, or whatever a config's own step gives.

    Args:
        sample (dict): As in `DataSet.samples`.
        encoded (bytes, optional): The file's content. Defaults to reading it.

    Returns:
        ndarray: (H, W, bands).

    Raises:
        UserError: If it cannot be read.
    """
    for step in sample.get('reading', ()):
        if type(step).__name__ not in (*READ_MAPS, 'MapClassIds'):
            results = step(dict(sample))
            if results and 'img' in results:
                return results['img']
    return read_image(sample['img_path'], encoded or read_encoded(sample))


def has_map(sample: dict) -> bool:
    """Whether a sample has a map that is read."""
    load = _step(sample, 'LoadAnnotations'.__eq__)
    return bool(sample.get('seg_map_path')) and ('reading' not in sample or bool(getattr(load, 'with_seg', False)))


def map_of(sample: dict, size: tuple[int, int]) -> np.ndarray:
    """A sample's map: the values in its file, or by a config's steps the ids that a run learns.

    Args:
        sample (dict): As in `DataSet.samples`, with a map.
        size (tuple[int, int]): Height and width of its image.

    Returns:
        ndarray: uint8, (H, W).

    Raises:
        UserError: If it cannot be read, or is no map of that size.
    """
    path = sample['seg_map_path']
    if load := _step(sample, 'LoadAnnotations'.__eq__):
        results = load(dict(sample, img_shape=size, ori_shape=size, seg_fields=[]))
        if change := _step(sample, 'MapClassIds'.__eq__):
            results = change(results)
        return results['gt_seg_map']
    values = read_mask(path)
    if values.shape[:2] != size:
        raise UserError(f'the mask {path} is of {values.shape[1]}×{values.shape[0]} px; expected {size[1]}×{size[0]}, as '
                        f'its image {sample["img_path"]}')
    return values.reshape(size)


def digest_of_file(sample: dict) -> bytes | None:
    """The digest of a sample's image file, None if it cannot be read; `look` says why."""
    try:
        return hashlib.blake2b(read_encoded(sample), digest_size=16).digest()
    except UserError:
        return None


def length_of_file(sample: dict) -> int | None:
    """How many bytes a sample's image file has, None if it is not there."""
    if 'shard' in sample:
        return sample['size']
    try:
        return os.stat(sample['img_path']).st_size
    except OSError:
        return None


def _digest(image: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((image.shape, image.dtype)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image))
    return digest.digest()


def depth_of(encoded: bytes) -> str:
    """The bits and bands of an image file by its header, e.g. '16 bits, 1 band'; '' if it is of no known kind.

    Args:
        encoded (bytes): The file's content.

    Returns:
        str: In words. What says transparency is a band, too.
    """
    try:
        if encoded.startswith(b'\x89PNG\r\n\x1a\n'):
            bits, color = struct.unpack_from('>BB', encoded, 24)
            return _depth(bits, PNG_BANDS[color])
        if encoded.startswith(tuple(PREFIXES)):
            file = io.BytesIO(encoded)
            tags = ImageFileDirectory_v2(file.read(16 if 43 in encoded[2:4] else 8))
            file.seek(tags.next)
            tags.load(file)
            form = {2: 'signed ', 3: 'float '}.get(tags.get(FORMAT, (1, ))[0], '')
            return _depth(max(tags.get(BITS, (1, ))), tags.get(BANDS, 1), form)
        with open_image(io.BytesIO(encoded)) as image:
            return _depth(*PILLOW_KINDS.get(image.mode, (8, 3)), 'float ' * (image.mode == 'F'))
    except Exception:  # a damaged header, which reading it will name
        return ''


def _depth(bits: int, bands: int, form: str = '') -> str:
    return f'{form}{bits} bit{"s" if bits > 1 else ""}, {_bands((bands, ))}'


def _bands(shape: tuple[int, ...]) -> str:
    bands = shape[0] if shape else 1
    return f'{bands} band{"s" if bands > 1 else ""}'


def _size_of(encoded: bytes) -> tuple[int, int] | None:
    """Width and height by the header, for an image that cannot be read to its end."""
    try:
        with open_image(io.BytesIO(encoded)) as image:
            return image.size
    except Exception:  # on broken data Pillow's decoders raise many types
        return None


def _other_size(sample: dict, width: int, height: int) -> str | None:
    noted = sample.get('width', width), sample.get('height', height)
    if noted == (width, height):
        return None
    return f'{sample["img_path"]} is of {width}×{height} px; its annotations are for {noted[0]}×{noted[1]}'


def _step(sample: dict, chosen: Callable[[str], bool]) -> Any:
    return next((step for step in sample.get('reading', ()) if chosen(type(step).__name__)), None)
