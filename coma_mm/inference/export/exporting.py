"""From a checkpoint to a file that runs without this project."""
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.models import TwoStageDetector
from mmpretrain.models import BaseClassifier
from mmseg.models import EncoderDecoder
from torch import nn

from coma_mm.config_tree import walk
from coma_mm.errors import UserError, choice
from coma_mm.files import made_folder, write_whole
from coma_mm.inference.load import load_described
from coma_mm.weights.description import read_description
from coma_mm.weights.export import export_weights as write_weights
from coma_mm.weights.load import load_weights_only

from .detector import ExportableDetector
from .exportable import Exportable, ExportableBackbone, ExportableClassifier, ExportableSegmenter, cannot_export
from .facts import facts_of, model_card, preprocessing
from .formats import AXES, FORMATS, Format, explain, missing_operator, to_program
from .verify import example_images, free_choices, verify

SUFFIXES = (*FORMATS, '.safetensors')
PARTS = ('model', 'backbone')
LARGEST_EXAMPLE = 512
"""Side in px of the images that a program is made with, at most; a user's may be larger."""


@dataclass
class Exported:
    """What was written.

    Args:
        path (str): The file.
        card (str): Its model card.
        facts (dict): What the file says of itself.
        verified (str): What was compared, and how it came out.
        fixed (list[str]): Dimensions of the input that are not free: 'batch', 'height', 'width'.
    """
    path: str
    card: str
    facts: dict[str, Any]
    verified: str
    fixed: list[str]


def export(checkpoint: str, out: str, config: str | None = None, part: str | None = None, force: bool = False,
           license: str = '', half: bool = False) -> Exported:
    """Write a model, or its backbone, as a file that runs without this project, once it is seen to compute the same.

    Beside it a model card is written, the file's name and '.md'.

    Args:
        checkpoint (str): Of a whole model: a classifier, an EncoderDecoder of mmsegmentation, a MaskRCNN or FasterRCNN of
            mmdetection; of anything with a backbone, for that.
        out (str): The file: .onnx, .pt2 (torch.export), or .safetensors (weights alone).
        config (str, optional): The config that it was trained with. Defaults to what the checkpoint says of its use.
        part (str, optional): 'model', or 'backbone'. Defaults to 'backbone' for .safetensors, and else to 'model'.
        force (bool): Replace files that are there. Defaults to False.
        license (str): For the card and the file. Defaults to none.
        half (bool): Round the weights of a .safetensors file to float16. Defaults to False.

    Returns:
        Exported: What was written.

    Raises:
        UserError: If it cannot be exported, or computes something else. Nothing is written then.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f'cannot export to {out}: expected a name that ends in {", ".join(SUFFIXES)}')
    card = f'{out}.md'
    for path in (out, card):
        if os.path.lexists(path) and not force:
            raise UserError(f'{path} is there already; take another name, or --force to replace it')
    if half and suffix != '.safetensors':
        raise UserError(f'--half is for .safetensors files; a program like {out} computes as it was made')
    part = choice('part', part or ('backbone' if suffix == '.safetensors' else 'model'), PARTS)
    if suffix == '.safetensors':
        return export_weights(checkpoint, out, license, part, half)
    form = FORMATS[suffix]
    form.check_packages(suffix)
    used = load_described(checkpoint, config)
    model = used.model
    module = exportable_part(model, part)
    side = max(64, min(_side(used.pipeline), LARGEST_EXAMPLE))
    facts = facts_of(
        used.meta, checkpoint, license, task=used.task if part == 'model' else 'features', part=part,
        model=type(model).__name__ if part == 'model' else type(model.backbone).__name__,
        outputs=module.outputs, classes=used.classes if part == 'model' else None,
        palette=used.palette if part == 'model' else None, preprocessing=preprocessing(model, used.pipeline, used.bands))
    data, images, free = make(model, module, form, side, facts)
    verified = str(verify(model, module, form.load(data), images))
    fixed = [name for axis, name in AXES.items() if axis not in free]
    text = model_card(Path(out).name, facts, f'Compared with the model in its library {verified}', _versions(form.packages))
    _write({card: text, out: data})
    return Exported(out, card, facts, verified, fixed)


def make(model: nn.Module, module: Exportable, form: Format, side: int, facts: dict[str, Any]
         ) -> tuple[bytes, list[torch.Tensor], dict[int, str]]:
    """Make the bytes of a file, for images of as many sizes as the model allows.

    Args:
        model (nn.Module): The model.
        module (Exportable): What is exported of it.
        form (Format): The kind of file.
        side (int): Of the images that are tried, in px.
        facts (dict): What the file says of itself; 'inputs' is set.

    Returns:
        tuple[bytes, list[Tensor], dict[int, str]]: The bytes, images to compare on, and the free dimensions.

    Raises:
        UserError: If it cannot be exported for images of one size either.
    """
    for free in free_choices(module.batch):
        images = example_images(model, side, free)
        names = [free.get(axis, str(size)) for axis, size in enumerate(images[0].shape)]
        facts['inputs'] = dict(images=f'float32 ({", ".join(names)}), normalised')
        try:
            return form.dump(to_program(module, images[1], free), list(module.outputs), free, facts), images, free
        except UserError:
            raise
        except Exception as error:  # of many types, from torch.export and its translation
            failure = error
            if missing_operator(error):
                break
    raise explain(failure, module) from failure


def export_weights(checkpoint: str, out: str, license: str = '', part: str = 'backbone', half: bool = False) -> Exported:
    """Write the weights of a checkpoint, see `coma_mm.weights.export.export_weights`, and a model card.

    Args:
        checkpoint (str): Of a whole model.
        out (str): The file, .safetensors; it is replaced.
        license (str): For the card and the file. Defaults to none.
        part (str): 'backbone' or 'model'. Defaults to 'backbone'.
        half (bool): Round to float16. Defaults to False.

    Returns:
        Exported: What was written.

    Raises:
        UserError: If the checkpoint cannot be read or has no backbone, or the file cannot be written.
    """
    meta = load_weights_only(checkpoint)['meta']
    use = {} if part == 'backbone' else read_description(meta, checkpoint)  # without it nobody could use the file
    facts = facts_of(meta, checkpoint, license, part=part, task=use.get('task', 'features'), classes=use.get('classes'))
    tensors, metadata = write_weights(checkpoint, out, True, part, half, dict(license=facts['license']))
    written = load_weights_only(out)['state_dict']
    if written.keys() != tensors.keys() or not all(torch.equal(written[name], value) for name, value in tensors.items()):
        os.unlink(out)
        raise UserError(f'{out} was read back with other values than were written; is the disk sound? It was removed')
    verified = f'{len(tensors)} tensors{" in float16" if half else ""} read back, bit for bit'
    card = f'{out}.md'
    try:
        _write({card: model_card(Path(out).name, facts, verified, _versions(('safetensors', )))})
    except UserError:
        os.unlink(out)
        raise
    return Exported(out, card, metadata, verified, [])


def exportable_part(model: nn.Module, part: str) -> Exportable:
    """What is exported of a model.

    Args:
        model (nn.Module): Of one of the libraries.
        part (str): 'model' or 'backbone'.

    Returns:
        Exportable: It.

    Raises:
        UserError: If nothing here knows how.
    """
    if part == 'backbone':
        if getattr(model, 'backbone', None) is None:
            raise UserError(f'{type(model).__name__} has no backbone to export')
        return ExportableBackbone(model)
    kinds = ((BaseClassifier, ExportableClassifier), (EncoderDecoder, ExportableSegmenter),
             (TwoStageDetector, ExportableDetector))
    kind = next((exportable for library, exportable in kinds if isinstance(model, library)), None)
    if kind is None:
        raise cannot_export(model)
    return kind(model)


def _side(pipeline: list[dict] | None) -> int:
    """The short side in px that images have at the end of a pipeline; 224 where it does not say."""
    sizes = [one.get('crop_size', one.get('scale')) for one in walk(pipeline or [])]
    sizes = [[size] if isinstance(size, int) else size for size in sizes]
    sizes = [min(size) for size in sizes if isinstance(size, (list, tuple)) and size and all(
        isinstance(side, int) for side in size)]
    return sizes[-1] if sizes else 224


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ('torch', *packages)}


def _write(files: dict[str, bytes | str]) -> None:
    """Write all of some files into one folder, or none of those that are new."""
    new = [path for path in files if not os.path.lexists(path)]
    with made_folder(os.path.dirname(next(iter(files))) or '.'):
        try:
            for path, content in files.items():
                write_whole(path, content)
        except OSError as error:
            for done in new:
                Path(done).unlink(missing_ok=True)
            raise UserError(f'cannot write {path}: {error.strerror or error}') from error
