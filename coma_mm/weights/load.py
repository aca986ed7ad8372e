"""Reading checkpoints as weights only, and loading a backbone from one with a report of what matched."""
import ast
import hashlib
import json
import logging
import os
import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_torchvision_models,
)
from safetensors import safe_open
from torch import nn

from coma_mm.config_tree import type_name
from coma_mm.errors import MissingFileError, UserError, choice, first_names, nearest, printable, shorten
from coma_mm.files import looks_like

from . import safe_pickle
from .stem import adapt_stem, first_convolution, names_of


def load_weights_only(path: str | Path, map_location: str | torch.device | None = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file without running any code from it.

    Args:
        path (str): A `.safetensors` file, or a file that `torch.save` wrote: a training checkpoint of mmengine, or a
            dict of tensors, on its own or under the key 'state_dict' or 'model'. An http(s) address is downloaded to
            torch's cache first, as are torchvision://NAME and open-mmlab://NAME.
        map_location (str | torch.device): Where the tensors go. Defaults to 'cpu'.

    Returns:
        dict: The checkpoint, with at least the keys `state_dict` (dict[str, Tensor]) and `meta` (dict).

    Raises:
        UserError: If the file is missing, truncated, altered since it was written (by the check sums in it), not a
            checkpoint, or asks for more than weights and plain values, unless `--trust-checkpoint` was given.
    """
    path = _local_file(os.fspath(path))
    try:
        torch.empty(0, device=map_location or 'cpu')
    except Exception as error:  # RuntimeError, AssertionError, ... by what is missing; the file is not to blame
        raise UserError(f'cannot put the checkpoint {path} on {map_location} ({_first_line(error)}); choose a device that '
                        'is there, such as cpu') from error
    if path.endswith('.safetensors'):
        checkpoint = _load_safetensors(path, map_location)
    else:
        checkpoint = _load_pickle(path, map_location or 'cpu')
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint; expected a dict of tensors')
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint.get('model', checkpoint))
    weights = checkpoint['state_dict']
    if not isinstance(weights, dict) or not weights or not all(map(_is_weight, weights.items())):
        raise UserError(f"{path} is not a model's checkpoint; expected a dict of tensors, on its own or under the "
                        "key 'state_dict'")
    if not isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'] = {}
    if not isinstance(checkpoint['meta'].get('coma_mm'), dict):  # not our facts
        checkpoint['meta'].pop('coma_mm', None)
    return checkpoint


def _is_weight(item: tuple[Any, Any]) -> bool:
    name, value = item
    return isinstance(name, str) and (isinstance(value, torch.Tensor) or name.endswith('_extra_state'))


def _load_pickle(path: str, map_location: str | torch.device) -> Any:
    """What `torch.save` wrote, as far as it is weights and plain values."""
    with open(path, 'rb') as file:
        head = file.read(1024)
    if not head:
        raise UserError(f'the checkpoint {path} is empty; copy or save it again')
    size, start = os.path.getsize(path), head[:2]
    is_pickle = start[:1] == b'\x80' and start[1:] <= bytes([pickle.HIGHEST_PROTOCOL])
    if not is_pickle and start != b'PK' or start == b'PK' and _is_other_archive(path):
        raise UserError(_not_a_checkpoint(path, f': it looks like {looks_like(head)}'))
    if start == b'PK':
        if not is_whole(path):  # torch does not look at the check sums
            raise UserError(f'the checkpoint {path} is damaged or cut off (its check sums differ); copy or save it again')
    else:
        print_log(f'{path} is of the format that torch.save had before version 1.6, without check sums: damage to its '
                  'weights would go unnoticed', logger='current', level=logging.WARNING)
    try:
        with safe_pickle.only_plain_values(size, mapped=start == b'PK'):
            # From the mapped file no tensor can have more than what is in it; read otherwise, torch does not check that.
            loaded = torch.load(path, map_location=map_location, weights_only=True, mmap=start == b'PK')
        return safe_pickle.PlainValues(size)(loaded)
    except pickle.UnpicklingError as error:
        code = safe_pickle.code_named(error) or (start != b'PK' and start[1:] > b'\x02' and f'pickle protocol {start[1]}')
        if not code:
            raise UserError(_not_a_checkpoint(path, f' ({_first_line(error)})')) from error
        if not safe_pickle.trusted:
            raise UserError(f'refused to read the checkpoint {path}: it would run code of its own ({code}); only '
                            'weights and plain values are read. If you trust its author, pass '
                            '--trust-checkpoint') from error
    except Exception as error:  # RuntimeError, EOFError, OSError, struct.error, ... by where the file was cut off
        raise UserError(f'the checkpoint {path} is damaged or cut off ({_first_line(error)}); copy or save it '
                        'again') from error
    safe_pickle.warn_of_trust(path, code)
    try:
        return torch.load(path, map_location=map_location, weights_only=False)
    except Exception as error:  # whatever its code raises
        raise UserError(f'cannot unpickle the checkpoint {path}: {type(error).__name__}: {_first_line(error)}') from error


def _is_other_archive(path: str) -> bool:
    """Whether a file is a zip archive, whole as far as its list goes, of other things than `torch.save` puts into one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith('/data.pkl') for name in archive.namelist())
    except Exception:  # on broken data zipfile raises many types
        return False


def _not_a_checkpoint(path: str, why: str = '') -> str:
    return f'{path} is not a PyTorch checkpoint{why}; expected a .pth file that torch.save wrote, or a .safetensors file'


def _local_file(path: str) -> str:
    """The path of an existing file; an address is downloaded, unless it was before."""
    path = _address(path)
    if path.startswith(('http://', 'https://')):
        return _downloaded(path)
    if '://' in path:
        raise UserError(f'cannot read the checkpoint {path}: expected a path, http(s)://…, torchvision://NAME or '
                        'open-mmlab://NAME; download it first')
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise MissingFileError(f'no checkpoint at {path}; expected a .pth or .safetensors file')
    return path


def _downloaded(address: str) -> str:
    """The path of an address's file in torch's cache; in a folder of its own, unless its name has the hash of its content.

    Other addresses may end in the same name. Model zoos put the hash into it, and torch looks for such files beside each
    other.
    """
    name = Path(urlparse(address).path).name
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    said = torch.hub.HASH_REGEX.search(name)
    target = folder / name if said else folder / hashlib.sha256(address.encode()).hexdigest()[:16] / name
    how = 'taken from the cache'
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        how = 'downloaded'
        try:
            torch.hub.download_url_to_file(address, target)
        except (OSError, ValueError) as error:
            raise UserError(f'cannot download the checkpoint {address}: {_first_line(error)}') from error
    sha256 = _sha256(target)
    if said and not sha256.startswith(said[1]):
        raise UserError(f'{target} is not the file of {address}: its SHA-256 hash is {sha256}, and the name says {said[1]}; '
                        'remove it, and it is downloaded again')
    print_log(f'{address} {how}: {target} (SHA-256 {sha256})', logger='current')
    return str(target)


def _sha256(path: str | Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _address(path: str) -> str:
    """Where the checkpoint of a model zoo is, by mmengine's tables; any other path as it is."""
    scheme, _, name = path.partition('://')
    if scheme in ('torchvision', 'modelzoo'):
        addresses = get_torchvision_models()
    elif scheme in ('open-mmlab', 'openmmlab'):
        addresses = get_external_models()
        name = get_deprecated_model_names().get(name, name)
    else:
        return path
    if name not in addresses:
        close = nearest(name, addresses)
        raise UserError(f'no checkpoint {path}: there is no model of that name' + (f'; is it {close!r}?' if close else ''))
    return addresses[name]


def _load_safetensors(path: str, map_location: str | torch.device | None) -> dict[str, Any]:
    try:
        with safe_open(path, framework='pt', device=str(map_location or 'cpu')) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            meta = dict(file.metadata() or {})
        if 'coma_mm' in meta:  # as `export_backbone` wrote it: this format's metadata are strings
            meta['coma_mm'] = json.loads(meta['coma_mm'])
    except Exception as error:  # SafetensorError, OSError, ValueError; on broken headers also others
        raise UserError(f'{path} is damaged, or not a safetensors file ({_first_line(error)})') from error
    if meta.get('weights_sha256', expected := weights_sha256(tensors)) != expected:
        raise UserError(f'the checkpoint {path} is damaged (its check sum differs); copy or export it again')
    return dict(state_dict=tensors, meta=meta)


def weights_sha256(weights: dict[str, torch.Tensor]) -> str:
    """The check sum of weights, which a `.safetensors` file of ours has in its metadata: the format itself has none.

    Args:
        weights (dict[str, Tensor]): Tensors by name.

    Returns:
        str: The SHA-256 hash of their names, types, shapes and values, in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def latest_checkpoint(work_dir: str | Path) -> str | None:
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
    text = [*note.read_text(errors='replace').strip().splitlines(), ''][0]
    named = Path(work_dir, Path(text).name)
    if not os.path.isfile(named):  # else the folder may have been moved or copied: its own file counts
        named = Path(text)
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
    raise UserError(f'no checkpoint in {work_dir} is whole: {first_names(map(str, damaged))} damaged or missing; start '
                    'without --resume, in another --work-dir')


def is_whole(path: str | Path) -> bool:
    """Whether a file is a checkpoint as it was written; by the check sums that torch's file format has."""
    if not os.path.isfile(path):  # some devices can be read without an end
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # torch.save compresses nothing; a small file that unfolds to a huge one is no checkpoint. torch asks for names
            # regardless of case.
            return (_has_one_list(archive.fp) and not any(entry.compress_type for entry in entries)
                    and len({entry.filename.lower() for entry in entries}) == len(entries) and archive.testzip() is None)
    except Exception:  # on broken data zipfile raises many types
        return False


def _has_one_list(file: BinaryIO) -> bool:
    """Whether all readers of zip archives find the same list of files in one, so that torch reads what is verified here.

    The list ends where the records on it begin, and these are at the end of the file. (zipfile looks for them elsewhere
    too, and takes a list that is not where they say.)
    """
    end = file.seek(0, os.SEEK_END) - 22
    file.seek(max(0, end - 76))
    tail = file.read()
    signature, length, start, comment = struct.unpack('<4s8x2LH', tail[-22:])
    if tail[-42:-38] == b'PK\6\7':  # the records of large archives, which torch.save always writes
        end -= 76
        here, large = struct.unpack('<8xQ4x', tail[-42:-22])[0], struct.unpack('<40x2Q', tail[-98:-42])
        if here != end or any(one not in (2**32 - 1, other) for one, other in zip((length, start), large, strict=True)):
            return False
        length, start = large
    return signature == b'PK\5\6' and not comment and start + length == end


def read_safely() -> None:
    """Make every file that mmengine reads from disk or web run no code.

    Checkpoints go through `load_weights_only`: mmengine's own readers fall back to unpickling, with a warning, where
    weights alone cannot be read. For annotations see `safe_pickle.refuse_pickles`.
    """
    CheckpointLoader.register_scheme([*CheckpointLoader._schemes], load_from_weights_only, force=True)
    safe_pickle.refuse_pickles()


def load_from_weights_only(filename: str, map_location: str | torch.device | None = None) -> dict[str, Any]:
    """`load_weights_only` under the name that mmengine's log makes "Loads checkpoint by weights_only backend" of."""
    return load_weights_only(filename, map_location)


def load_backbone(module: nn.Module, checkpoint: str | Path, prefix: str = 'backbone.', in_channels: str | None = None,
                  bands: Sequence[str] | None = None, loaded: dict[str, Any] | None = None) -> dict[str, Any]:
    """Load a backbone's weights and say how many tensors matched; the facts on their origin go to `module.provenance`.

    Tensors that the module has and the checkpoint lacks are an error, unless the module lists them in an attribute
    `allowed_missing`; tensors that only the checkpoint has are named in the log. A difference of what no tensor tells (an
    attribute `settings` of the module, the checkpoint's facts) is a warning.

    Args:
        module (nn.Module): The backbone.
        checkpoint (str): The path of a checkpoint, of a whole model or of a backbone alone.
        prefix (str): Of the backbone's tensors in the checkpoint. A checkpoint without a tensor under it is taken as
            one of a backbone alone. Defaults to 'backbone.'.
        in_channels (str, optional): 'adapt': the first convolution is taken to the module's number of bands, see
            `adapt_stem`. Defaults to None: it must be of the same.
        bands (Sequence[str], optional): The names of the bands that the module sees. Defaults to red, green and blue for
            three.
        loaded (dict, optional): What `load_weights_only` gave of the checkpoint. Defaults to reading it.

    Returns:
        dict: The facts, as `module.provenance` has them: those that `ProvenanceHook` wrote into the checkpoint, its
        path and its SHA-256 hash.

    Raises:
        UserError: If the file cannot be read, nothing matches, a tensor is missing, or a shape differs.
    """
    loaded = loaded or load_weights_only(checkpoint)
    facts = dict(loaded['meta'].get('coma_mm') or {})
    there = _arch(stated_backbone(loaded['meta']).get('arch'))
    here = _arch(getattr(module, 'arch', None))
    name = type(module).__name__
    weights = {key[len(prefix):]: value for key, value in loaded['state_dict'].items() if key.startswith(prefix)}
    if not weights:
        print_log(f'No tensor in {checkpoint} starts with "{prefix}"; taking it as a backbone alone', logger='current')
        weights = dict(loaded['state_dict'])
    own = module.state_dict()
    adapted = _adapted(weights, own, facts, bands) if in_channels and choice(
        'init_cfg.in_channels', in_channels, ('adapt', )) else ''
    matched = [key for key in own if key in weights]
    if not matched:
        raise UserError(f'nothing in the checkpoint {checkpoint} fits {name}: it holds {first_names(weights)}; expected '
                        f'{first_names(own)}, with or without the prefix "{prefix}"')
    try:
        # A module may rename or resize tensors of other versions of itself in its hooks, so it has the first say.
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        # Not by the shapes alone: some are resized in those hooks.
        differing = next((key for key in matched if f'size mismatch for {key}:' in str(error)), None)
        if differing is None:
            raise
        others, ours = tuple(weights[differing].shape), tuple(own[differing].shape)
        raise UserError(
            f'the checkpoint {checkpoint}{there} does not fit {name}{here}: {differing} has shape {others} there and '
            f'{ours} here; {_use_the_same(differing, own, others, ours)}') from error
    allowed = getattr(module, 'allowed_missing', ())
    afresh = [key for key in missing if key in allowed]
    if missing := [key for key in missing if key not in allowed]:
        raise UserError(f'the checkpoint {checkpoint}{there} lacks {len(missing)} of {len(own)} tensors of '
                        f'{name}{here}: {first_names(missing)}')
    line = f'loaded {len(matched)} of {len(own)} tensors into {name} from {checkpoint}{_origin(facts)}'
    if adapted:
        line += f'; {adapted}'
    if afresh:
        line += f'; {len(afresh)} that it lacks start afresh: {first_names(afresh)}'
    if unexpected:
        line += f'; {len(unexpected)} tensors of the checkpoint have no place here: {first_names(unexpected)}'
    print_log(line, logger='current')
    _compare_settings(module, facts.get('settings'), checkpoint)
    module.provenance = dict(facts, checkpoint=str(checkpoint), sha256=_sha256(_local_file(os.fspath(checkpoint))))
    return module.provenance


def _adapted(weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor], facts: dict[str, Any],
             bands: Sequence[str] | None) -> str:
    """Have the first convolution among `weights` see the bands of the one in `own`; what was done, in words."""
    name = first_convolution(own)
    if name is None or name not in weights or weights[name].dim() != 4:
        return ''
    there, here = (value[name].shape[1] for value in (weights, own))
    stated = facts.get('bands') if isinstance(facts.get('bands'), list) else None
    weights[name], line = adapt_stem(weights[name], names_of(there, stated), names_of(here, bands))
    return printable(line and f'{name}: {line}')


def _compare_settings(module: nn.Module, stated: Any, checkpoint: str | Path) -> None:
    """Warn of what no tensor tells; what the checkpoint states may be anything, and is compared as text."""
    if not isinstance(stated, dict):
        return
    for key, value in getattr(module, 'settings', {}).items():
        other = shorten(printable(str(stated.get(key, value))), 200)
        if other != str(value):
            print_log(f'the backbone in {checkpoint} was trained with {key}={other}, and is loaded into one with '
                      f'{key}={value}; set model.backbone.{key}={other}, unless that is meant', logger='current',
                      level=logging.WARNING)


def _use_the_same(differing: str, own: dict[str, torch.Tensor], others: tuple[int, ...], ours: tuple[int, ...]) -> str:
    """What to do about a tensor of another shape: the first convolution sees the image, with all its bands."""
    if differing == first_convolution(own) and len(others) == 4 and others != ours and (
            others[:1] + others[2:] == ours[:1] + ours[2:]):
        return (f'it was trained on images of {others[1]} bands, and this model is for {ours[1]}: take in_channels='
                f'{others[1]} and such images, weights that were pre-trained with in_channels={ours[1]}, or '
                "init_cfg.in_channels='adapt', which makes the one of the other")
    return 'use the same arch'


def stated_backbone(meta: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its backbone, or else the config that mmengine's runner saved in it as text.

    Args:
        meta (dict): The checkpoint's.

    Returns:
        dict: With the keys 'backbone' (its type) and 'arch', as far as they are known.
    """
    facts = meta.get('coma_mm') or meta
    if known := {key: facts[key] for key in ('backbone', 'arch') if facts.get(key) is not None}:
        return known
    text = meta.get('cfg', '')
    if not isinstance(text, str) or len(text) > 2**20:  # a config has some thousand letters; parsing more takes gigabytes
        return {}
    try:
        nodes = ast.walk(ast.parse(text))  # read, not run
        backbone = next(node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == 'backbone')
        values = {one.arg: one.value.value for one in backbone.keywords if isinstance(one.value, ast.Constant)}
    except (SyntaxError, ValueError, RecursionError, MemoryError, StopIteration, AttributeError):
        return {}
    known = dict(backbone=type_name(values), arch=values.get('arch'))
    return {key: value for key, value in known.items() if value}


def _arch(arch: str | dict | None) -> str:
    return f' (arch {arch!r})' if isinstance(arch, (str, dict)) else ''


def _origin(facts: dict[str, Any]) -> str:
    if not facts:
        return ' (of unknown origin)'
    length = f'{facts["epochs"]} epochs' if facts.get('epochs') else f'{facts.get("iters", "?")} iterations'
    return printable(f' (pre-trained with {facts.get("algorithm", "?")}, {length})')
