"""What the commands do, for Python and notebooks; `import coma_mm` hands these names on.

Everything here is thin: a run started from Python is the run of `coma-mm train`, and a model is one of OpenMMLab's.
"""
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.registry import DefaultScope

from coma_mm.config.read import read_config
from coma_mm.datasets.masking import draw_masks
from coma_mm.engine import terminal
from coma_mm.engine.train import train as train_config
from coma_mm.errors import UserError
from coma_mm.files import write_whole
from coma_mm.inference import Usable, features, load_backbone, load_described, stated_settings
from coma_mm.inference.images import Picture, as_read
from coma_mm.models import MaskedAutoencoder
from coma_mm.models.timm_backbone import timm_backbone
from coma_mm.notices import warnings_last
from coma_mm.prepare.new import new_config
from coma_mm.visualization.loading import fitted
from coma_mm.visualization.logs import read_scalars
from coma_mm.visualization.reconstruction import ratios_figure
from coma_mm.weights.load import latest_checkpoint
from coma_mm.weights.released import list_models, released

__all__ = ['Run', 'features', 'finetune', 'list_models', 'load', 'load_backbone', 'pretrain', 'reconstruct', 'timm_backbone',
           'train']


@dataclass(frozen=True)
class Run:
    """A training that has ended.

    Attributes:
        work_dir (str): Its folder.
        checkpoint (str): The path of its last checkpoint.
        config (str): The config file that it was started from.
        metrics (dict[str, float]): Of its last validation, by the names in the log; empty if there was none.
        command (str): What does the same in a shell.
    """
    work_dir: str
    checkpoint: str
    config: str
    metrics: dict[str, float] = field(default_factory=dict)
    command: str = ''


def train(config: str | os.PathLike, out: str | os.PathLike | None = None, *, data_root: str | os.PathLike | None = None,
          options: dict[str, Any] | None = None, resume: bool | str = False, overwrite: bool = False,
          amp: bool = False) -> Run:
    """Train any config, as `coma-mm train` does, to the same bits.

    Args:
        config (str | PathLike): The file, or `coma_mm::…` for one of ours.
        out (str | PathLike, optional): The folder of the run. Defaults to work_dirs/<name of the config>.
        data_root (str | PathLike, optional): The folder of the data in the place of the config's.
        options (dict, optional): Settings by their dotted names, as of `--cfg-options`. Defaults to none.
        resume (bool | str): Go on with what is in `out`, if there is something, or with the checkpoint of a path.
            Defaults to False.
        overwrite (bool): Start anew also where another run has left checkpoints. Defaults to False.
        amp (bool): Mixed precision. Defaults to False.

    Returns:
        Run: Where it is and what came of it.

    Raises:
        UserError: The config, the data or the folder cannot be used as they are.
        Stopped: The process was interrupted; `resume=True` goes on.
    """
    terminal.quieten()
    config, work_dir = os.fspath(config), None if out is None else os.fspath(out)
    root = None if data_root is None else os.fspath(data_root)
    with _undisturbed(), warnings_last():
        cfg = read_config(config, dict(options or {}), work_dir, data_root=root, amp=amp,
                          resume='auto' if resume is True else resume or None)
        train_config(cfg, [dict(type='StopHook')], overwrite)
    told = [*(['--work-dir', work_dir] if work_dir else ()), *(['--data-root', root] if root else ()),
            *(['--amp'] if amp else ()), *(['--resume', 'auto' if resume is True else resume] if resume else ()),
            *(['--overwrite'] if overwrite else ()),
            *(['--cfg-options', *(f'{key}={value}' for key, value in options.items())] if options else ())]
    _, validations = read_scalars(cfg.work_dir)
    last = validations[-1] if validations else {}
    return Run(cfg.work_dir, latest_checkpoint(cfg.work_dir), config,
               {key: value for key, value in last.items() if key not in ('step', 'logged_step', 'time', 'data_time')},
               shlex.join(['coma-mm', 'train', config, *told]))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What a run sets for its whole process is afterwards as it was: the libraries' default scope, the use of TF32."""
    scopes, backends = dict(DefaultScope._instance_dict), (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        yield
    finally:
        DefaultScope._instance_dict.clear()
        DefaultScope._instance_dict.update(scopes)
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def pretrain(images: str | os.PathLike, arch: str = 'small', epochs: int | None = None,
             out: str | os.PathLike | None = None, *, size: int | None = None, options: dict[str, Any] | None = None,
             resume: bool | str = False, overwrite: bool = False, amp: bool = False) -> Run:
    """Pre-train a backbone by CoMA on a folder of images, flat or nested, without labels.

    What `coma-mm new pretrain` writes for these images is written beside `out`, and trained.

    Args:
        images (str | PathLike): The folder.
        arch (str): 'tiny', 'small' or 'base', see `DyViT`. Defaults to 'small'.
        epochs (int, optional): Defaults to what suits the number of images.
        out (str | PathLike, optional): The folder of the run. Defaults to work_dirs/<arch>_<name of `images`>.
        size (int, optional): Side in px that images are cropped to. Defaults to what suits them.
        options, resume, overwrite, amp: See `train`.

    Returns:
        Run: `run.checkpoint` is what `load_backbone` and `finetune` take.

    Raises:
        UserError: See `train`.
    """
    return _new('pretrain', out or f'work_dirs/{arch}_{Path(images).resolve().name}',
                dict(images=os.fspath(images), arch=arch, epochs=epochs, size=size),
                dict(options=options, resume=resume, overwrite=overwrite, amp=amp))


def finetune(task: str, data: str | os.PathLike | dict[str, str], backbone: str | os.PathLike | None = None,
             out: str | os.PathLike | None = None, *, arch: str | None = None, epochs: int | None = None,
             size: int | None = None, options: dict[str, Any] | None = None, resume: bool | str = False,
             overwrite: bool = False, amp: bool = False, **more: Any) -> Run:
    """Fine-tune a backbone for a task on data of your own.

    What `coma-mm new` writes for these data is written beside `out`, and trained.

    Args:
        task (str): 'classification', 'segmentation' or 'detection'.
        data (str | PathLike | dict): A folder in one of the layouts that `coma-mm check_data` knows (imagenet, ade20k,
            coco, by task); or what `coma-mm new` takes: dict(images=…, masks=…) for segmentation, dict(images=…, train=…,
            val=…) for detection.
        backbone (str | PathLike, optional): A checkpoint of pre-training or fine-tuning, an exported backbone, or the name
            of released weights. Defaults to none: from scratch.
        out (str | PathLike, optional): The folder of the run. Defaults to work_dirs/<task>_<name of the data's folder>.
        arch (str, optional): Defaults to that of `backbone`, or 'small'.
        epochs, size, options, resume, overwrite, amp: See `pretrain`.
        **more: Further options of `coma-mm new`, e.g. `classes`, `ignore`, `palette`.

    Returns:
        Run: `run.checkpoint` is what `load` takes.

    Raises:
        UserError: See `train`.
    """
    what = dict(data) if isinstance(data, dict) else _layout(task, Path(data))
    name = Path(what.get('images') or what['data']).resolve().name
    return _new(task, out or f'work_dirs/{task}_{name}',
                dict(what, arch=arch, epochs=epochs, size=size, **_start(backbone), **more),
                dict(options=options, resume=resume, overwrite=overwrite, amp=amp))


def load(checkpoint: str | os.PathLike, config: str | os.PathLike | None = None,
         device: str | torch.device | None = None) -> Usable:
    """Load a fine-tuned model; `load(…)('photo.jpg')` predicts.

    Args:
        checkpoint (str | PathLike): A checkpoint, which says itself how it is used, or the name of released weights
            (`list_models`).
        config (str | PathLike, optional): The config that it was trained with, for those that do not say. Defaults to none.
        device (str | device, optional): Defaults to a GPU, if there is one.

    Returns:
        Usable: A model of OpenMMLab (`.model`) with what it needs; called with images it gives a `Result` for each.

    Raises:
        UserError: See `load_described`.
    """
    terminal.quieten()
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    return load_described(os.fspath(checkpoint), None if config is None else os.fspath(config), device)


def reconstruct(checkpoint: str | os.PathLike, image: Picture, ratio: float | Sequence[float] = 0.6, *,
                size: int | None = None, seed: int = 0) -> Figure:
    """Draw what a pre-trained model makes of an image of which patches are hidden.

    Args:
        checkpoint (str | PathLike): Of a pre-training.
        image (Picture): A path, an array, one of Pillow's images, or a tensor.
        ratio (float | Sequence[float]): Shares of patches that are hidden, a row each. Defaults to 0.6.
        size (int, optional): Short side in px that the image is brought to. Defaults to 224.
        seed (int): Of the masks. Defaults to 0.

    Returns:
        Figure: Of matplotlib, which notebooks show.

    Raises:
        UserError: The checkpoint is of another model, or the image cannot be read.
    """
    usable = load_described(checkpoint)
    model = usable.model
    if not isinstance(model, MaskedAutoencoder):
        raise UserError(f'{checkpoint} holds a {type(model).__name__}; expected the checkpoint of a pre-training')
    patch = model.head.patch_size
    picture = fitted(as_read(image, usable.bands, usable.reading), size or 224, patch)
    masks = {}
    for share in [ratio] if isinstance(ratio, (int, float)) else ratio:
        sampler = dict(type='UniformMaskSampler', ratio=share)
        masks[share] = tuple(ids[0] for ids in draw_masks(picture.shape[:2], [(seed, 0, 0)], sampler, patch))
    return ratios_figure(model, torch.from_numpy(picture.transpose(2, 0, 1).copy()), masks)


def _start(backbone: str | os.PathLike | None) -> dict[str, Any]:
    """What `new_config` takes of the weights to start from."""
    if backbone is None:
        return {}
    path = released(os.fspath(backbone))
    return dict(pretrained=path, backbone=stated_settings(path) or None)


def _layout(task: str, root: Path) -> dict[str, str]:
    """What `new_config` takes, of a folder in the layout of ImageNet, ADE20K or COCO."""
    if task == 'segmentation':
        return dict(images=str(root / 'images'), masks=str(root / 'annotations'))
    if task != 'detection':
        return dict(data=str(root))
    files = {split: sorted(root.glob(f'annotations/instances_{split}*.json')) for split in ('train', 'val')}
    if len(files['train']) != 1 or len(files['val']) > 1:
        raise UserError(f'{root}: expected annotations/instances_train*.json, one file, and perhaps instances_val*.json; or '
                        "name the files: dict(images=…, train=…, val=…)")
    return dict(images=str(root), **{split: str(*found) for split, found in files.items() if found})


def _new(task: str, out: str | os.PathLike, what: dict[str, Any], how: dict[str, Any]) -> Run:
    """Write the config of a task beside its folder, and train it."""
    out = os.fspath(out).rstrip('/')
    config = Path(f'{out}.py')
    text = new_config(task, measure=False, **{key: value for key, value in what.items() if value is not None}).text
    started = Path(out, 'last_checkpoint').exists() and not how['overwrite']
    if started and config.exists() and config.read_text() != text:
        raise UserError(f'{config} is of another run, which {out} holds; choose another out, or overwrite=True')
    config.parent.mkdir(parents=True, exist_ok=True)
    write_whole(config, text)
    return train(config, out, **how)
