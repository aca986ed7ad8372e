"""How a checkpoint is used, as plain data in it, and reading that from a file of anybody's."""
import json
from collections.abc import Collection
from typing import Any

from mmengine.registry import TASK_UTILS, TRANSFORMS

from coma_mm.config.read import SCOPES, register_libraries
from coma_mm.config.registered import check_registered
from coma_mm.config_tree import walk
from coma_mm.datasets.bands import Bands
from coma_mm.errors import UserError, printable

KEY = 'coma_mm_use'
"""Where a description is, as JSON: in a checkpoint's `meta`, and in the metadata of a `.safetensors` file."""
VERSION = 1
TASKS = ('classification', 'segmentation', 'detection', 'pretraining')
MOST_LETTERS = 2**22
"""Of a description's JSON; those of a thousand classes and of the largest models have some ten thousand."""
MOST_CLASSES = 100_000
_KEYS = dict(task=str, scope=str, model=dict, pipeline=(list, type(None)), classes=(list, type(None)),
             palette=(list, type(None)), tta=(dict, type(None)), bands=(dict, type(None)))


def encode(value: Any) -> Any:
    """Nested dicts, lists and tuples as JSON has them: a tuple, which some of the libraries' classes insist on, is {'tuple':
    [...]}.

    Raises:
        TypeError: If something in it is no plain value.
    """
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError('a key that is no text')
        return {key: encode(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return dict(tuple=[encode(one) for one in value])
    if isinstance(value, list):
        return [encode(one) for one in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f'a {type(value).__name__}, which is no plain value')


def decode(value: Any) -> Any:
    """The way back from `encode`."""
    if isinstance(value, dict):
        if value.keys() == {'tuple'} and isinstance(value['tuple'], list):
            return tuple(map(decode, value['tuple']))
        return {key: decode(one) for key, one in value.items()}
    return list(map(decode, value)) if isinstance(value, list) else value


def read_description(meta: dict[str, Any], path: str) -> dict[str, Any]:
    """What a checkpoint says of its use, checked: its types are of the libraries' registries, and nothing else is named.

    Nothing in it is run, imported, fetched or opened. The libraries that it is for are imported, which are known by name.

    Args:
        meta (dict): The checkpoint's, from `load_weights_only`.
        path (str): The checkpoint, for messages.

    Returns:
        dict: As `describe` made it, but decoded: 'task', 'scope', 'model', 'pipeline', 'classes', 'palette', 'tta' and
            'bands'.

    Raises:
        UserError: If it has none, or one that is not to be used.
    """
    text = meta.get(KEY)
    if text is None:
        raise UserError(f'{path} does not say how it is used, as checkpoints of other programs and of older versions do '
                        'not; pass --config CONFIG, the config that it was trained with')
    if not isinstance(text, str) or len(text) > MOST_LETTERS:
        raise _refused(path, f'expected a text of {MOST_LETTERS} letters at most')
    try:
        found = decode(json.loads(text))
    except (ValueError, RecursionError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else f'no JSON: {error}'
        raise _refused(path, reason) from error
    return check_description(found, path)


def check_description(found: Any, path: str) -> dict[str, Any]:
    """Check a description, whoever wrote it.

    Args:
        found (dict): Decoded.
        path (str): What it is of, for messages.

    Returns:
        dict: A copy with all keys, and without what loads weights.

    Raises:
        UserError: Naming what there may not be.
    """
    if not isinstance(found, dict) or type(found.get('version')) is not int:
        raise _refused(path, 'expected a dict with a version')
    if found['version'] != VERSION:
        raise _refused(path, f'it is of version {found["version"]}, and this coma_mm reads version {VERSION}; update it')
    found = {key: found.get(key) for key in _KEYS}
    for key, kinds in _KEYS.items():
        if not isinstance(found[key], kinds):
            raise _refused(path, f'{key} is {found[key]!r}')
    _one_of(path, 'task', found['task'], TASKS)
    _one_of(path, 'scope', found['scope'], SCOPES)
    _check_classes(path, found['classes'], found['palette'])
    if found['bands']:
        try:
            Bands.of_plain(found['bands'])
        except UserError as error:
            raise _refused(path, str(error)) from error
    try:
        named = {one['type'].partition('.')[0] for one in walk(found) if isinstance(one.get('type'), str)}
        for scope in SCOPES:
            if scope == found['scope'] or scope in named:
                register_libraries(scope)
        found['model'] = check_registered(found['model'], f'{path}: model', found['scope'])
        found['pipeline'] = _check_steps(found['pipeline'], f'{path}: pipeline', found['scope'])
        if found['tta']:
            found['tta'] = dict(model=check_registered(found['tta'].get('model'), f'{path}: tta.model', found['scope']),
                                pipeline=_check_steps(found['tta'].get('pipeline'), f'{path}: tta.pipeline', found['scope']))
    except RecursionError as error:
        raise _refused(path, 'nested too deeply') from error
    except UserError as error:
        raise UserError(f'{error}. Pass --config CONFIG, if you trust the config that it was trained with') from error
    return found


def _refused(path: str, reason: str) -> UserError:
    return UserError(printable(f'{path}: what it says of its use cannot be read ({reason[:200]}); pass --config CONFIG, the '
                               'config that it was trained with'))


def _one_of(path: str, key: str, value: str, names: Collection[str]) -> None:
    if value not in names:
        raise _refused(path, f'{key} is {value!r}; expected one of {", ".join(names)}')


def _check_classes(path: str, classes: list | None, palette: list | None) -> None:
    if classes is not None and (len(classes) > MOST_CLASSES or not all(
            isinstance(name, str) and len(name) <= 1000 for name in classes)):
        raise _refused(path, 'classes are no list of names')
    if palette is not None and (classes is None or len(palette) != len(classes) or not all(
            isinstance(color, (list, tuple)) and len(color) == 3 and all(
                type(value) is int and 0 <= value <= 255 for value in color) for color in palette)):
        raise _refused(path, 'palette is no list of a colour for each class')


def _check_steps(steps: Any, where: str, scope: str) -> Any:
    """A pipeline whose steps load nothing but the image that is given to them."""
    for one in walk(steps):
        name = str(one.get('type')).rpartition('.')[2]
        if name.startswith('Load') and name not in ('LoadImage', 'LoadImageFromFile', 'LoadImageFromNDArray'):
            raise UserError(printable(f'{where}: {name[:200]} loads more than an image'))
    return check_registered(steps, where, scope, (TRANSFORMS, TASK_UTILS))
