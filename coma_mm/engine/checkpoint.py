"""Reading checkpoints as weights only, and loading a backbone from one with a report of what matched."""
import ast
import hashlib
import json
import logging
import os
import pickle
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError, safe_open

from coma_mm.datasets.seeding import type_name
from coma_mm.errors import UserError


def _statistic(owner, name):
    """Stands in for `getattr`, which curves of logged scalars need to name their statistics; for nothing else."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'GLOBAL getattr of {name}')
    return getattr(owner, name)


# What mmengine's training checkpoints hold besides tensors and plain Python values: curves of logged scalars.
_SAFE_TYPES = [
    (_statistic, 'builtins.getattr'), HistoryBuffer, np.ndarray, np.dtype,
    np._core.multiarray._reconstruct, np._core.multiarray.scalar,
    *(type(np.dtype(name)) for name in ('float16', 'float32', 'float64', 'int32', 'int64', 'uint8', 'uint32', 'bool'))
]


def load_weights_only(path, map_location='cpu'):
    """Read a checkpoint file without running any code from it.

    Args:
        path (str): A `.safetensors` file, or a file that `torch.save` wrote: a training checkpoint of mmengine, or a
            dict of tensors, on its own or under the key 'state_dict' or 'model'. An http(s) address is downloaded to
            torch's cache first.
        map_location (str | torch.device): Where the tensors go. Defaults to 'cpu'.

    Returns:
        dict: The checkpoint, with at least the keys `state_dict` (dict[str, Tensor]) and `meta` (dict).

    Raises:
        UserError: If the file is missing, truncated, not a checkpoint, or asks for more than weights and plain values.
    """
    path = _local_file(os.fspath(path))
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    with open(path, 'rb') as file:
        start = file.read(2)
    if start[:1] not in (b'P', b'\x80', b''):  # a zip archive, or a pickle
        raise UserError(_not_a_checkpoint(path))
    try:
        with torch.serialization.safe_globals(_SAFE_TYPES):
            checkpoint = torch.load(path, map_location=map_location or 'cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        names = re.findall(r'GLOBAL ([\w.]+)', str(error))
        if not names:
            raise UserError(_not_a_checkpoint(path)) from error
        raise UserError(f'refused to read the checkpoint {path}: it would run code of its own ({names[0]}); only '
                        'weights and plain values are read. If you trust it, save its state_dict alone and use '
                        'that') from error
    except Exception as error:  # RuntimeError, EOFError, OSError, struct.error, ... by where the file was cut off
        raise UserError(f'the checkpoint {path} is damaged or cut off ({_first_line(error)}); copy or save it '
                        'again') from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint; expected a dict of tensors')
    if 'state_dict' not in checkpoint:
        weights = checkpoint.get('model', checkpoint)
        if not weights or not all(isinstance(value, torch.Tensor) for value in weights.values()):
            raise UserError(f"{path} is not a model's checkpoint; expected a dict of tensors, on its own or under the "
                            "key 'state_dict'")
        checkpoint = dict(state_dict=weights)
    if not isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'] = {}
    return checkpoint


def _not_a_checkpoint(path):
    return f'{path} is not a PyTorch checkpoint; expected a .pth file that torch.save wrote, or a .safetensors file'


def _local_file(path):
    """str: The path of an existing file; an address is downloaded, unless it was before."""
    if path.startswith(('http://', 'https://')):
        target = os.path.join(torch.hub.get_dir(), 'checkpoints', os.path.basename(path))
        if not os.path.isfile(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                torch.hub.download_url_to_file(path, target)
            except OSError as error:
                raise UserError(f'cannot download the checkpoint {path}: {_first_line(error)}') from error
        return target
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(f'no checkpoint at {path}; expected a .pth or .safetensors file')
    return path


def _load_safetensors(path, map_location):
    try:
        with safe_open(path, framework='pt', device=str(map_location or 'cpu')) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            meta = dict(file.metadata() or {})
        if 'coma_mm' in meta:  # as `export_backbone` wrote it: this format's metadata are strings
            meta['coma_mm'] = json.loads(meta['coma_mm'])
        return dict(state_dict=tensors, meta=meta)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f'{path} is damaged, or not a safetensors file ({_first_line(error)})') from error


def _first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0]


def latest_checkpoint(work_dir):
    """The newest whole checkpoint of a run, to resume from.

    It is the one that `last_checkpoint` names; if that one is damaged, with a warning the newest other one is taken.

    Args:
        work_dir (str): The run's folder.

    Returns:
        str | None: Its path; None if the run has not written any.

    Raises:
        UserError: If there are checkpoints, but none is whole.
    """
    note = Path(work_dir, 'last_checkpoint')
    if not note.is_file():
        return None
    named = Path(note.read_text(errors='replace').strip())
    if not named.is_file():  # the folder was moved
        named = Path(work_dir, named.name)
    # Best checkpoints hold weights alone.
    others = [path for path in Path(work_dir).glob('*.pth') if path != named and not path.name.startswith('best_')]
    damaged = []
    for path in [named, *sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)]:
        if is_whole(path):
            if damaged:
                print_log(f'{damaged[0]} is damaged or missing; going on from {path}, which is older', logger='current',
                          level=logging.WARNING)
            return str(path)
        damaged.append(path)
    raise UserError(f'no checkpoint in {work_dir} is whole: {_names(map(str, damaged))} damaged or missing; start without '
                    '--resume, in another --work-dir')


def is_whole(path):
    """bool: Whether a file is a checkpoint as it was written; by the check sums that torch's file format has."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return False


def read_safely():
    """Make every checkpoint that mmengine reads from disk or web go through `load_weights_only`.

    mmengine's own readers fall back to unpickling, with a warning, where weights alone cannot be read.
    """
    for prefixes in ('', ('http://', 'https://')):
        CheckpointLoader.register_scheme(prefixes, load_from_weights_only, force=True)


def load_from_weights_only(filename, map_location=None):
    """`load_weights_only` under the name that mmengine's log makes "Loads checkpoint by weights_only backend" of."""
    return load_weights_only(filename, map_location)


def load_backbone(module, checkpoint, prefix='backbone.'):
    """Load a backbone's weights and say how many tensors matched; the facts on their origin go to `module.provenance`.

    Tensors that the module has and the checkpoint lacks are an error, unless the module lists them in an attribute
    `allowed_missing`; tensors that only the checkpoint has are named in the log.

    Args:
        module (nn.Module): The backbone.
        checkpoint (str): The path of a checkpoint, of a whole model or of a backbone alone.
        prefix (str): Of the backbone's tensors in the checkpoint. A checkpoint without a tensor under it is taken as
            one of a backbone alone. Defaults to 'backbone.'.

    Returns:
        dict: The facts, as `module.provenance` has them: those that `ProvenanceHook` wrote into the checkpoint, its
        path and its SHA-256 hash.

    Raises:
        UserError: If the file cannot be read, nothing matches, a tensor is missing, or a shape differs.
    """
    loaded = load_weights_only(checkpoint)
    facts = dict(loaded['meta'].get('coma_mm') or {})
    there = _arch(stated_backbone(loaded['meta']).get('arch'))
    here = _arch(getattr(module, 'arch', None))
    name = type(module).__name__
    weights = {key[len(prefix):]: value for key, value in loaded['state_dict'].items() if key.startswith(prefix)}
    if not weights:
        print_log(f'No tensor in {checkpoint} starts with "{prefix}"; taking it as a backbone alone', logger='current')
        weights = dict(loaded['state_dict'])
    own = module.state_dict()
    matched = [key for key in own if key in weights]
    if not matched:
        raise UserError(f'nothing in the checkpoint {checkpoint} fits {name}: it holds {_names(weights)}; expected '
                        f'{_names(own)}, with or without the prefix "{prefix}"')
    try:
        # A module may rename or resize tensors of other versions of itself in its hooks, so it has the first say.
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        # Not by the shapes alone: some are resized in those hooks.
        differing = next((key for key in matched if f'size mismatch for {key}:' in str(error)), None)
        if differing is None:
            raise
        raise UserError(
            f'the checkpoint {checkpoint}{there} does not fit {name}{here}: {differing} has shape '
            f'{tuple(weights[differing].shape)} there and {tuple(own[differing].shape)} here; use the same '
            'arch') from error
    missing = [key for key in missing if key not in getattr(module, 'allowed_missing', ())]
    if missing:
        raise UserError(f'the checkpoint {checkpoint}{there} lacks {len(missing)} of {len(own)} tensors of '
                        f'{name}{here}: {_names(missing)}')
    line = f'loaded {len(matched)} of {len(own)} tensors into {name} from {checkpoint}{_origin(facts)}'
    if unexpected:
        line += f'; {len(unexpected)} tensors of the checkpoint have no place here: {_names(unexpected)}'
    print_log(line, logger='current')
    with open(_local_file(os.fspath(checkpoint)), 'rb') as file:
        sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
    module.provenance = dict(facts, checkpoint=str(checkpoint), sha256=sha256)
    return module.provenance


def _names(names, shown=3):
    names = list(names)
    return ', '.join(names[:shown]) + (', …' if len(names) > shown else '')


def stated_backbone(meta):
    """What a checkpoint says of its backbone, or else the config that mmengine's runner saved in it as text.

    Args:
        meta (dict): The checkpoint's.

    Returns:
        dict: With the keys 'backbone' (its type) and 'arch', as far as they are known.
    """
    facts = meta.get('coma_mm') or meta
    if known := {key: facts[key] for key in ('backbone', 'arch') if facts.get(key) is not None}:
        return known
    try:
        nodes = ast.walk(ast.parse(str(meta.get('cfg', ''))))  # read, not run
        backbone = next(node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == 'backbone')
        values = {one.arg: one.value.value for one in backbone.keywords if isinstance(one.value, ast.Constant)}
    except (SyntaxError, StopIteration, AttributeError):
        return {}
    known = dict(backbone=type_name(values), arch=values.get('arch'))
    return {key: value for key, value in known.items() if value}


def _arch(arch):
    return f' (arch {arch!r})' if isinstance(arch, (str, dict)) else ''


def _origin(facts):
    if not facts:
        return ' (of unknown origin)'
    length = f'{facts["epochs"]} epochs' if facts.get('epochs') else f'{facts.get("iters", "?")} iterations'
    return f' (pre-trained with {facts.get("algorithm", "?")}, {length})'
