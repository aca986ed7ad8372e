"""A backbone on its own in one file, with the facts on its origin."""
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


def export_backbone(checkpoint: str, out: str, force: bool = False, more: dict[str, str] | None = None
                    ) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Write the backbone of a checkpoint as a `.safetensors` file, whole or not at all.

    The tensors have their names in the backbone, without a prefix. The metadata, strings all, are 'backbone' (its
    type), 'arch', 'algorithm', 'epochs', 'iters', 'config' (its file's name) and 'config_sha256' (of the config's text
    in the checkpoint) as far as the checkpoint says, 'coma_mm', the facts of `ProvenanceHook` as JSON, which
    `load_backbone` reads, 'coma_mm_use', how the whole model is used (`read_description`), and 'weights_sha256', the check
    sum that `load_weights_only` compares.

    Args:
        checkpoint (str): Of a whole model: pre-trained, or fine-tuned with any of the three libraries.
        out (str): The file to write.
        force (bool): Replace a file that is there. Defaults to False.
        more (dict[str, str], optional): Further metadata. Defaults to None.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: The tensors and the metadata.

    Raises:
        UserError: If the checkpoint cannot be read or has no backbone, or the file exists or cannot be written.
    """
    if not out.endswith('.safetensors'):
        raise UserError(f'cannot export to {out}: expected a name that ends in .safetensors')
    if os.path.exists(out) and not force:
        raise UserError(f'{out} is there already; take another name, or --force to replace it')
    loaded = load_weights_only(checkpoint)
    prefix = 'backbone.'
    # Copies, because the format refuses tensors that share memory.
    tensors = {name.removeprefix(prefix): value.clone().contiguous()
               for name, value in loaded['state_dict'].items() if name.startswith(prefix)}
    if not tensors:
        raise UserError(f'{checkpoint} has no backbone: no tensor starts with "{prefix}"; expected the checkpoint of a '
                        'whole model (what holds a backbone alone need not be exported)')
    metadata = stated_facts(loaded['meta']) | (more or {}) | dict(weights_sha256=weights_sha256(tensors))
    try:
        os.makedirs(os.path.dirname(out) or '.', exist_ok=True)
        write_whole(out, save(tensors, metadata))
    except OSError as error:
        raise UserError(f'cannot write {out}: {error.strerror or error}') from error
    return tensors, metadata


def stated_facts(meta: dict[str, Any]) -> dict[str, str]:
    """What a checkpoint says of its origin, as the metadata of a `.safetensors` file; see `export_backbone`."""
    facts = meta.get('coma_mm') or {}
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
