"""One line for an error that is the user's to mend, whatever the libraries raise."""
import errno
import re
import textwrap
import traceback
from collections.abc import Callable

from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch import distributed

from coma_mm.config.registered import parameters
from coma_mm.errors import UserError, nearest, printable, shorten

from .batch_norm import explain_single_value
from .naming import Building, buildings, reading
from .shortage import explain_shortage


def explain(error: BaseException) -> str | None:
    """One line for an error that is the user's to mend.

    Args:
        error (Exception): From anywhere below a tool.

    Returns:
        str | None: The line, without control characters, whatever a file's name or content brought into it; None for any
        other error.
    """
    line = _explain(error)
    return line and printable(line)


def _explain(error: BaseException) -> str | None:
    text = str(error)
    if 'Original Traceback' in text:  # a data loader's worker puts its whole traceback into the message
        text = text.strip().splitlines()[-1].partition(': ')[2]
    if isinstance(error, UserError):
        return text
    if isinstance(error, distributed.DistError) or 'gloo/transport' in text:  # another process died; that is no bad input
        return None
    if line := explain_shortage(error) or explain_single_value(error):
        return line
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f'the name {shorten(str(error.filename), 200)} is too long for a file or a folder; choose a shorter one'
    if isinstance(error, ImportError) and text.startswith('Failed to import'):  # what a config imports
        return f'{text}; is it installed, and on PYTHONPATH?'
    if isinstance(error, (ImportError, RuntimeError)) and text.startswith('panopticapi is not installed'):
        return ("panoptic data are read and evaluated by panopticapi, which is not installed: pip install "
                "'coma-mm[panoptic]' (it is on GitHub alone, cocodataset/panopticapi)")
    if isinstance(error, FileNotFoundError):
        path = error.filename or (re.findall(r"'([^']+)'", text) or [text])[-1]
        return f'no such file or folder: {path}; check data_root, ann_file and data_prefix in the config'
    if (line := _explain_data_set(error)):
        return line
    if isinstance(error, AssertionError) and text.startswith('failed to load image'):
        return f'{text}; replace or remove the file, or load images with LoadImage, which can skip it'
    if isinstance(error, AssertionError) and text.startswith('The image size in a batch should be the same'):
        return ('the images of a validation or test batch differ in size; take val_dataloader.batch_size=1 (and '
                'test_dataloader.batch_size=1), or a pipeline that makes them equal')
    if isinstance(error, KeyError) and (line := _explain_unknown_type(error)):
        return line
    if isinstance(error, TypeError) and (line := _explain_arguments(error, text)):
        return line
    return _explain_start(error, text) if getattr(error, 'at_start', False) else None


def is_missing(error: BaseException) -> bool:
    """Whether an error is that a file is not there, or nothing that a data set could read."""
    failed = reading(error)
    return isinstance(error, FileNotFoundError) or bool(failed and failed.listed)


def _explain_start(error: BaseException, text: str) -> str:
    """The line for any other error before an iteration was done: most are of a setting of a wrong type or value."""
    what, place = 'the run fails at its start', '?'
    if frames := [frame for frame, _ in traceback.walk_tb(error.__traceback__)]:
        place = f'{frames[-1].f_globals.get("__name__")}.{frames[-1].f_code.co_name}'
    if building := _innermost(error):
        own = [f'{key}={value!r}' for key, value in building.settings.items()  # a nested one that fails has its own line
               if isinstance(value, (str, int, float, tuple, type(None)))]
        what = f'{building.built.__name__} cannot be built with its settings ({_short(", ".join(own))})'
    return (f'{what}: {type(error).__name__}: {_short(text) or "no reason given"} (in {place}); check the config; '
            'COMA_MM_DEBUG=1 shows the traceback')


def _innermost(error: BaseException) -> Building | None:
    """The innermost object that was being built, of those whose class there is."""
    return next((building for building in buildings(error) if building.built), None)


def _short(text: str) -> str:
    return textwrap.shorten(text, 300, placeholder=' …')


_SETTINGS = {
    'Runner.set_randomness': Runner.set_randomness,
    'set_multi_processing': set_multi_processing,
}
"""What reads the settings in `randomness` and `env_cfg.mp_cfg`: functions, not classes."""


def _explain_data_set(error: BaseException) -> str | None:
    """The line for an error in reading a data set's list of samples, which the libraries raise as any type."""
    if (failed := reading(error)) is None:
        return None
    data = failed.dataset
    places = [data.ann_file] if getattr(data, 'ann_file', None) else [*(getattr(data, 'data_prefix', None) or {}).values()]
    where = ', '.join(map(str, places)) or getattr(data, 'data_root', '?')
    name = type(data).__name__
    if failed.listed:  # serialising nothing failed
        return (f'{name} finds no sample in {where}; expected files as the config describes them: check data_root, '
                'ann_file, data_prefix, suffixes, and that metainfo.classes are the names in the annotations')
    return f'{name} cannot read {where}: {type(error).__name__}: {" ".join(str(error).split())}'


def _explain_unknown_type(error: KeyError) -> str | None:
    match = re.match(r"['\"]?(\S+) is not in the (\S+)::(.+?) registry", str(error))
    if not match:
        untyped = re.search(r'must contain the key "type", but got (.*?)(?:\\n|$)', str(error))
        return untyped and f'a config needs the key type: {untyped.group(1)}; is the name of its key misspelt?'
    name, _, kind = match.groups()
    return unknown_type(name, kind, buildings(error)[0].registry if buildings(error) else None)


def unknown_type(name: str, kind: str, registry: Registry | None) -> str:
    """The line for a type that there is not.

    Args:
        name (str): As the config has it.
        kind (str): What it should be, for instance 'optimizer'.
        registry (Registry, optional): Where it was looked up, to suggest one that is there.

    Returns:
        str: The line.
    """
    known = {}
    if registry is not None:
        root = registry._get_root_registry()
        for library in (*root.children.values(), root, registry):  # the later ones win
            prefix = '' if library in (root, registry) else f'{library.scope}.'
            known.update({key: prefix + key for key in library.module_dict})
    close = nearest(name.rpartition('.')[2], known)
    return f'type={name!r}: there is no {kind} of that name' + (f'; did you mean {known[close]!r}?' if close else
                                                               '; check its spelling and custom_imports')


def _explain_arguments(error: TypeError, text: str) -> str | None:
    unexpected = re.search(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'", text)
    missing = re.search(r"([\w.]+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)", text)
    if not (unexpected or missing):
        return None
    name = (unexpected or missing).group(1).split('.')[0]
    built = _class_being_built(error, name) or _SETTINGS.get((unexpected or missing).group(1))
    if built is None and unexpected and (hook := re.search(r' in <[\w.]+\.(\w+Hook) object at', text)):
        return f'{hook[1]} has no key {unexpected[2]!r}, nor has what it makes'
    if built is None:  # a wrong call somewhere in the code, not a config
        return None
    if missing:
        return f'{built.__name__} needs the key {missing.group(2)}, which its config lacks'
    key = unexpected.group(2)
    close = nearest(key, parameters(built), cutoff=0.5)
    return f'{built.__name__} has no key {key!r}' + (f'; did you mean {close!r}?' if close else '')


def _class_being_built(error: TypeError, name: str) -> Callable | None:
    """The class, or function, whose config was being built when a call of `name` failed."""
    building = _innermost(error)
    if building and name in [one.__name__ for one in getattr(building.built, '__mro__', [building.built])]:
        return building.built
    return None
