"""A backbone on its own, or a model, in one file, with the facts on its origin."""
import hashlib
import json
import os
from typing import Any

import torch
from safetensors.torch import save

from coma_mm.errors import UserError, printable, shorten
from coma_mm.files import write_whole

from .description import KEY, MOST_LETTERS
from .load import load_weights_only, stated_backbone, weights_sha256

MOST_FACTS = 100_000
"""Letters that the facts of `ProvenanceHook` never come near to."""


def export_backbone(checkpoint: str, out: str, force: bool = False) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """`export_weights` of the backbone.

    Args:
        checkpoint, out, force: See there.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: The tensors and the metadata.

    Raises:
        UserError: See there.
    """
    return export_weights(checkpoint, out, force)


def export_weights(checkpoint: str, out: str, force: bool = False, part: str = 'backbone', half: bool = False,
                   more: dict[str, str] | None = None) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Write the weights of a checkpoint's backbone, or of its model, as a `.safetensors` file, whole or not at all.

    The tensors of a backbone have their names in it, without a prefix. The metadata, strings all, are 'backbone' (its
    type), 'arch', 'algorithm', 'epochs', 'iters', 'config' (its file's name) and 'config_sha256' (of the config's text
    in the checkpoint) as far as the checkpoint says, 'coma_mm', the facts of `ProvenanceHook` as JSON, which
    `load_backbone` reads, 'coma_mm_use', how the whole model is used (`read_description`), and 'weights_sha256', the check
    sum that `load_weights_only` compares.

    Args:
        checkpoint (str): Of a whole model: pre-trained, or fine-tuned with any of the three libraries.
        out (str): The file to write.
        force (bool): Replace a file that is there. Defaults to False.
        part (str): 'backbone', or 'model': all but the evaluation model of CoMA. Defaults to 'backbone'.
        half (bool): Round floating-point weights to float16, half the size. Defaults to False.
        more (dict[str, str], optional): Further metadata. Defaults to None.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: The tensors and the metadata.

    Raises:
        UserError: If the checkpoint cannot be read or has no backbone, a weight is too large for float16, or the file exists
            or cannot be written.
    """
    if not out.endswith('.safetensors'):
        raise UserError(f'cannot export to {out}: expected a name that ends in .safetensors')
    if os.path.exists(out) and not force:
        raise UserError(f'{out} is there already; take another name, or --force to replace it')
    loaded = load_weights_only(checkpoint)
    prefix = 'backbone.' if part == 'backbone' else ''
    # Copies, because the format refuses tensors that share memory.
    tensors = {name.removeprefix(prefix): value.clone().contiguous() for name, value in loaded['state_dict'].items()
               if name.startswith(prefix) and not name.startswith('evaluation.')}
    if not tensors:
        raise UserError(f'{checkpoint} has no backbone: no tensor starts with "{prefix}"; expected the checkpoint of a '
                        'whole model (what holds a backbone alone need not be exported)')
    if half:
        tensors = {name: _half(name, value) if value.is_floating_point() else value for name, value in tensors.items()}
    metadata = stated_facts(loaded['meta']) | (more or {}) | dict(weights_sha256=weights_sha256(tensors))
    try:
        os.makedirs(os.path.dirname(out) or '.', exist_ok=True)
        write_whole(out, save(tensors, metadata))
    except OSError as error:
        raise UserError(f'cannot write {out}: {error.strerror or error}') from error
    return tensors, metadata


def _half(name: str, value: torch.Tensor) -> torch.Tensor:
    rounded = value.half()
    if bool(value.isfinite().all()) and not bool(rounded.isfinite().all()):
        raise UserError(f'{name} has values up to {value.abs().max():.3g}, too large for float16; export without --half')
    return rounded


def stated_facts(meta: dict[str, Any]) -> dict[str, str]:
    """What a checkpoint says of its origin, as the metadata of a `.safetensors` file; see `export_backbone`."""
    facts = _without_places(meta.get('coma_mm') or {})
    known = dict(epochs=meta.get('epoch'), iters=meta.get('iter')) | facts | stated_backbone(meta)
    known = {key: known.get(key) for key in ('backbone', 'arch', 'algorithm', 'epochs', 'iters', 'config')}
    if isinstance(config := meta.get('cfg'), str) and config:
        known['config_sha256'] = hashlib.sha256(config.encode(errors='backslashreplace')).hexdigest()
    known = {key: _text(value) for key, value in known.items() if value is not None}
    if facts and (text := _as_json(facts)):
        known['coma_mm'] = text
    if isinstance(use := meta.get(KEY), str) and len(use) <= MOST_LETTERS:
        known[KEY] = use
    return dict(format='pt') | known


PLACES = ('data_root', 'load_from', 'checkpoint')


def _without_places(value: Any, key: str = '', depth: int = 20) -> Any:
    """Facts whose paths are names alone: where data lay is nobody's business but its owner's."""
    if isinstance(value, dict) and depth:
        return {name: _without_places(one, str(name), depth - 1) for name, one in value.items()}
    return os.path.basename(value.rstrip('/')) if key in PLACES and isinstance(value, str) else value


def _text(value: Any) -> str:
    """A fact in one line that can be written and printed; a foreign checkpoint may say anything in its place."""
    return printable(shorten(str(value)))


def _as_json(facts: dict[str, Any]) -> str:
    """Facts as `load_backbone` reads them; '' if they are none that we wrote."""
    try:
        text = json.dumps(facts)
    except (TypeError, ValueError, RecursionError):
        return ''
    return text if len(text) < MOST_FACTS else ''
