"""What an exported file says of itself, and the model card beside it."""
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coma_mm.config_tree import type_name
from coma_mm.datasets.bands import Bands
from coma_mm.errors import UserError, printable, shorten
from coma_mm.files import read_text
from coma_mm.markdown import code, escaped, markdown_table
from coma_mm.version import __version__
from coma_mm.visualization.logs import read_scalars
from coma_mm.weights.export import stated_facts

from .exportable import channels_of

NOT_STATED = 'not stated'


def preprocessing(model: nn.Module, pipeline: list[dict] | None, bands: Bands | None = None) -> dict[str, Any]:
    """What is done to an image before the exported program sees it.

    Args:
        model (nn.Module): With a `data_preprocessor` of any of the libraries.
        pipeline (list[dict], optional): Of its test.
        bands (Bands, optional): What it sees, if that is not 8-bit colour. Defaults to None.

    Returns:
        dict: 'channel_order' ('RGB' or 'BGR'; 'as they are' for images of other channels than three; or the names of the
        bands, which 'bands' lists, too), 'mean' and 'std' by channel, for values from 0 to 255, or those of the files,
        'steps' (those of the pipeline, as the libraries configure them) and 'resize' (these in words).
    """
    own = model.data_preprocessor
    channels = channels_of(model)
    # Of mmpretrain and ours, of mmengine, of mmsegmentation. Their pipelines read images as BGR.
    flips = any(getattr(own, name, False) for name in ('to_rgb', '_channel_conversion', 'channel_conversion'))
    mean, std = (getattr(own, name, None) for name in ('mean', 'std'))
    steps = [{key: value for key, value in one.items() if key not in ('_scope_', 'backend_args')} for one in pipeline or ()
             if not type_name(one).startswith(('Load', 'Pack'))]
    return dict(
        channel_order=', '.join(bands.names) if bands else ('RGB' if flips else 'BGR') if channels == 3 else 'as they are',
        **(dict(bands=bands.names) if bands else {}),
        mean=[0.] * channels if mean is None else _numbers(mean), std=[1.] * channels if std is None else _numbers(std),
        steps=json.loads(json.dumps(steps, default=str)), resize='; '.join(map(_in_words, steps)) or 'none')


def _numbers(values: torch.Tensor) -> list[float]:
    return [float(str(value)) for value in values.flatten().cpu().numpy()]  # 123.675, not its float32's digits


def _in_words(step: dict[str, Any]) -> str:
    name, scale = type_name(step), step.get('scale')
    how = f' ({step.get("interpolation", "bilinear")})'
    if name == 'Resize' and scale is not None:
        width, height = (scale, scale) if isinstance(scale, int) else (int(side) for side in scale)
        if step.get('keep_ratio'):
            return (f'resize as far as a long side of {max(width, height)} px and a short side of {min(width, height)} px '
                    f'allow, keeping their ratio{how}')
        return f'resize to a width of {width} px and a height of {height} px{how}'
    if name == 'ResizeEdge' and scale is not None:
        return f'resize to a {step.get("edge", "short")} side of {scale} px, keeping the ratio{how}'
    if name == 'CenterCrop' and step.get('crop_size') is not None:
        return f'crop the middle {step["crop_size"]} px'
    return shorten(printable(f'{name} {({key: value for key, value in step.items() if key != "type"})}'), 300)


def metrics_of(checkpoint: str, meta: dict[str, Any]) -> dict[str, Any]:
    """What is known of how good a checkpoint is, from the files of its run beside it.

    Args:
        checkpoint (str): Its path.
        meta (dict): What it says of itself.

    Returns:
        dict: Of its test, if there is a `test.json` that is of it, or else of the validation at its iteration; with 'on',
        what they are of. Empty, if nothing is known.
    """
    run = Path(checkpoint).parent
    try:
        tested = json.loads(read_text(run / 'test.json'))
        if Path(tested['tested']['checkpoint']).name == Path(checkpoint).name:
            data = tested.pop('tested')
            return dict(on=f'test: {data.get("images", "?")} images, {data.get("data", "?")}', **tested)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    try:
        entries = [one for one in read_scalars(run)[1] if one['step'] == meta.get('iter')]
    except (OSError, UserError):
        entries = []
    if not entries:
        return {}
    known = {key: value for key, value in entries[-1].items()
             if key not in ('step', 'logged_step', 'data_time', 'time', 'memory')}
    return dict(on='validation', **known) if known else {}


def facts_of(meta: dict[str, Any], checkpoint: str, license: str = '', **more: Any) -> dict[str, Any]:
    """What an exported file says of itself.

    Args:
        meta (dict): What the checkpoint says of itself.
        checkpoint (str): Its path.
        license (str): The user's choice. Defaults to none.
        **more: What else is known: 'task', 'part', 'inputs', 'outputs', 'classes', 'preprocessing', …

    Returns:
        dict: Plain values: `more`, 'provenance' (the facts of `ProvenanceHook`), 'config', 'config_sha256', 'epochs',
        'iters', 'metrics', 'license' and 'coma_mm', the version that wrote it.
    """
    stated = stated_facts(meta)
    provenance = json.loads(stated.pop('coma_mm', '{}'))
    known = {key: stated[key] for key in ('algorithm', 'backbone', 'arch', 'epochs', 'iters', 'config', 'config_sha256')
             if key in stated}
    return dict(more, **known, provenance=provenance, metrics=metrics_of(checkpoint, meta), license=license or NOT_STATED,
                coma_mm=__version__)


def model_card(name: str, facts: dict[str, Any], verified: str, versions: dict[str, str]) -> str:
    """The card of an exported file, in Markdown.

    Args:
        name (str): Of the file.
        facts (dict): From `facts_of`.
        verified (str): What was compared, and how it came out.
        versions (dict[str, str]): Of what wrote and ran it.

    Returns:
        str: Its text.
    """
    provenance = facts['provenance']
    what = escaped(facts.get('model', 'A backbone'))
    parts = [f'# {escaped(name)}\n', f'{what}, exported from a checkpoint of coma_mm.\n']
    rows = [['Task', facts.get('task')], ['Part', facts.get('part')], ['Licence', facts['license']]]
    rows += [[f'Input {code(key)}', value] for key, value in facts.get('inputs', {}).items()]
    rows += [[f'Output {code(key)}', value] for key, value in facts.get('outputs', {}).items()]
    parts += [_table(rows)]
    if prepared := facts.get('preprocessing'):
        values = "the files' values" if 'bands' in prepared else '0 to 255'
        rows = [['Size', prepared['resize']], ['Order of channels', prepared['channel_order']],
                [f'Subtract (of {values})', prepared['mean']], ['Then divide by', prepared['std']]]
        parts += ['## What an image goes through before\n', _table(rows)]
    if classes := facts.get('classes'):
        parts += ['## Classes\n', ', '.join(f'{i}: {escaped(str(name))}' for i, name in enumerate(classes)) + '\n']
    parts += ['## Training\n', _table(_training_rows(facts, provenance))]
    origin = provenance.get('backbone_from')
    if isinstance(origin, dict):
        rows = [['Algorithm', origin.get('algorithm')], ['Data', _name(origin.get('data_root'))],
                ['Images', origin.get('images')], ['Epochs', origin.get('epochs')], ['Iterations', origin.get('iters')],
                ['Mask ratio', origin.get('mask_ratio')], ['Config', origin.get('config')],
                ['SHA-256 of its checkpoint', origin.get('sha256')]]
        parts += ['Its backbone was pre-trained before:\n', _table(rows)]
    metrics = dict(facts['metrics'])
    if metrics:
        parts += [f'## Results\n\nOn {escaped(str(metrics.pop("on")))}.\n', _table([
            [key, f'{value:.6g}' if isinstance(value, float) else value] for key, value in metrics.items()])]
    else:
        parts += ['## Results\n', 'None are beside its checkpoint.\n']
    parts += ['## Check\n', f'{escaped(verified)}.\n', _table(list(map(list, versions.items())))]
    return '\n'.join(parts)


def _training_rows(facts: dict[str, Any], provenance: dict[str, Any]) -> list[list[Any]]:
    backbone = ' '.join(str(facts[key]) for key in ('backbone', 'arch') if facts.get(key) is not None)
    return [['Algorithm', facts.get('algorithm')], ['Backbone', backbone or None],
            ['Data', _name(provenance.get('data_root'))], ['Images', provenance.get('images')],
            ['Epochs', facts.get('epochs')], ['Iterations', facts.get('iters')],
            ['Images per update', provenance.get('images_per_update')], ['Seed', provenance.get('seed')],
            ['Config', facts.get('config')], ['SHA-256 of the config', facts.get('config_sha256')],
            ['coma_mm', provenance.get('coma_mm')]]


def _name(path: Any) -> str | None:
    """The last part of a path: a card is for others, whom the rest does not concern."""
    return Path(path).name if isinstance(path, str) else None


def _table(rows: list[list[Any]]) -> str:
    """A table of what is known: rows without a value are left out."""
    cells = [[escaped(key) if '`' not in key else key, escaped(shorten(str(value), 300))] for key, value in rows
             if value is not None]
    return markdown_table(['', ''], cells) if cells else 'Nothing is known.\n'
