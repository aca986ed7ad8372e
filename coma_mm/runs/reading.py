"""One run of any of the three libraries from the folder it wrote: mmengine's logs, the dumped config, our provenance."""
import ast
import json
import math
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from coma_mm.config_tree import find_types, type_name
from coma_mm.files import read_text

from .scalars import is_of_training, joined, read_entries

START = re.compile(r'\d{8}_\d{6}')
"""mmengine's name for the folder of one start of a run."""

ENDING = 'ended.json'
"""In the folder of a start of ours: how it ended, see `coma_mm.engine.ending`."""

CLASSES = 'classes.json'
"""Beside it: the last validation by class, see `coma_mm.engine.hooks.class_scores`."""

QUIET_SECONDS = 600
"""A run is taken for running if its log grew within this time, or thrice the longest pause between the log's last lines."""

METHODS = dict(MaskedAutoencoder='MAE', ImageClassifier='supervised')
"""Names of pre-trainings whose class is not named as the method is."""

ARCHS = dict(t='T', tiny='T', s='S', small='S', b='B', base='B', l='L', large='L', h='H', huge='H')
FAMILIES = dict(DyViT='DyViT', SwinTransformer='Swin', HiViT='HiViT', Hiera='Hiera', VisionTransformer='ViT',
                MaskedVisionTransformer='ViT', MAEViT='ViT', BEiTViT='ViT', BEiTPretrainViT='ViT', CAEPretrainViT='ViT',
                iTPNHiViT='HiViT', MaskFeatViT='ViT', SimMIMSwinTransformer='Swin', ResNetV1c='ResNet', ResNetV1d='ResNet')
ARCHITECTURE = ('patch_size', 'windows', 'dense_conv', 'reduce', 'pos_embed', 'pos_scale', 'mlp_ratio')
"""Options of DyViT that make another network of it."""

EVALUATED = {'ImageNet-1K': 50_000, 'ADE20K': 2000, 'COCO': 5000}
"""Validation images of whole data sets, which the paper's numbers are of."""

IMAGES = {'ImageNet-1K': 1_281_167, 'ADE20K': 20_210, 'COCO': 117_266}
"""Training images of whole data sets (COCO: without those that have no object)."""


class Unreadable(Exception):
    """A folder that is no run to be read; the message says why."""


def literal(node: ast.expr):
    """The value of an expression of a dumped config: literals and calls of dict; anything else is its text."""
    if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'dict':
        return {one.arg: literal(one.value) for one in node.keywords}
    if isinstance(node, ast.Dict):
        return {literal(key): literal(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [literal(value) for value in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def read_config(path: Path) -> dict:
    """A dumped config, which is read, not run.

    Raises:
        Unreadable: If it is no such file.
    """
    try:
        lines = ast.parse(read_text(path, limit=2**22)).body
        return {line.targets[0].id: literal(line.value) for line in lines
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise Unreadable(f'cannot read the config {path.name}: {type(error).__name__}') from error


@dataclass
class Test:
    """Metrics of a test, the checkpoint tested, when it started, and the number of images, if that is known."""
    metrics: dict
    checkpoint: str
    config: dict
    start: str
    images: int | None = None


@dataclass
class LoggedRun:
    """A run as its folder tells; of its log no more than what is asked of it, as a search finds hundreds.

    Args:
        folder (Path): The work_dir.
        name (str): Its path relative to what was searched.
        config (dict): The config of its last start.
        provenance (dict): What `ProvenanceHook` wrote, or nothing.
        tested (bool): Whether no more than tests are in it.
        status (str): See `_status`.
        train (dict): The last entry of training, see `read_scalars`; or nothing.
        val (dict): The last entry of validation, or nothing.
        log (Path | None): The text log of the last start.
        checkpoint (Path | None): The newest numbered checkpoint that is there.
        hours (float | None): Wall time by the text logs of all starts, with validation and checkpoints; without logs, of
            the iterations alone.
        peak_memory_gb (float | None): Peak GPU memory in GiB (mmengine logs it in MB of 2^20 bytes).
        environment (dict): 'device', 'world_size', 'versions' and 'seed'.
        anew (tuple[str, str] | None): Names of the first start in the folder, and of that of this run, if another run was
            in the folder before.
        tests (list[Test]): Tests of its checkpoints. Defaults to none.
    """
    folder: Path
    name: str
    config: dict
    provenance: dict
    tested: bool
    status: str
    train: dict
    val: dict
    log: Path | None
    checkpoint: Path | None
    hours: float | None
    peak_memory_gb: float | None
    environment: dict
    anew: tuple[str, str] | None = None
    tests: list[Test] = field(default_factory=list)

    @property
    def epochs(self) -> int | None:
        """What the config asks for; None if it counts iterations."""
        return _loop(self.config).get('max_epochs')

    @property
    def iterations(self) -> int | None:
        """The same in iterations."""
        return None if 'max_epochs' in _loop(self.config) else _loop(self.config).get('max_iters')


class Logged(NamedTuple):
    """All that a run logged.

    Args:
        train (list[dict]): Entries of training, see `read_scalars`.
        val (list[dict]): The same of validation.
        text (str): The text log of the last start.
    """
    train: list[dict]
    val: list[dict]
    text: str


def read_run(folder: Path, name: str) -> LoggedRun:
    """Read the folder of a run, see `read_whole`."""
    return read_whole(folder, name)[0]


def read_whole(folder: Path, name: str) -> tuple[LoggedRun, Logged]:
    """Read the folder of a run, each file once.

    Args:
        folder (Path): A work_dir of mmengine's runner.
        name (str): What to call it.

    Returns:
        tuple[LoggedRun, Logged]: The run, and all that it logged.

    Raises:
        Unreadable: If it is none, or nothing was logged.
    """
    starts = starts_in(folder)
    old = sorted(folder.glob('*.log.json'))
    if old and not starts:
        raise Unreadable(f'{old[0].name} is a log of mmcv 1.x; only runs of mmengine can be read')
    provenance = _read_provenance(folder)
    every = {start: file for start in starts if (file := start / 'vis_data/scalars.json').is_file()}
    tested = [start for start in starts if (start / f'{start.name}.json').is_file()]
    if not every and not tested:
        raise Unreadable('nothing was logged (*/vis_data/scalars.json)')
    entries = _since_last_beginning({start: read_entries(file) for start, file in every.items()})
    dumped = [start / 'vis_data/config.py' for start in entries or tested]
    config = _read_dumped([*reversed(dumped), *sorted(folder.glob('*.py'))])
    train, val = joined(entries.values())
    if not train and not val and not tested:
        raise Unreadable('no whole line in its log (*/vis_data/scalars.json)')

    # Checkpoints from before a run that began anew in the same folder are none of it.
    anew = len(entries) < len(every)
    began = dumped[0].stat().st_mtime if anew and dumped[0].is_file() else 0.
    checkpoints = _checkpoints(folder, began)
    unit = 'epoch' if 'max_epochs' in _loop(config) else 'iter'
    there = [key for key, file in checkpoints.items() if file.is_file()]
    newest = max(there, key=lambda key: (key[0] == unit, key[1]), default=None)

    logs = [log for start in entries if (log := next(filter(Path.is_file, sorted(start.glob('*.log'))), None))]
    texts = list(map(read_text, logs))
    times = list(map(_times, texts))
    seconds = sum(one[-1] - one[0] for one in times if one) or _seconds_of(train)
    text = texts[-1] if texts else ''
    whole = not entries or _is_whole(config, train, val, checkpoints)
    written = max((file.stat().st_mtime for file in (*logs, *(every[start] for start in entries))), default=0)
    return LoggedRun(
        folder, name, config, provenance,
        tested=not entries,
        status=_status(train, whole, written, times[-1][-200:] if times else []),
        train=train[-1] if train else {},
        val=val[-1] if val else {},
        log=logs[-1] if logs else None,
        checkpoint=checkpoints.get(newest),
        hours=seconds / 3600 or None,
        peak_memory_gb=max((entry.get('memory', 0) for entry in train), default=0) / 1024 or None,
        environment=_environment(provenance, text),
        anew=(next(iter(every)).name, next(iter(entries)).name) if anew else None), Logged(train, val, text)


def _read_dumped(files: list[Path]) -> dict:
    """The config in the first of some files that is there."""
    file = next(filter(Path.is_file, files), None)
    if file is None:
        raise Unreadable('no config was dumped (*.py, or */vis_data/config.py)')
    config = read_config(file)
    if not isinstance(config.get('model'), dict):
        raise Unreadable('its config has no key model')
    return config


def _read_provenance(folder: Path) -> dict:
    file = folder / 'provenance.json'
    try:
        provenance = json.loads(read_text(file)) if file.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise Unreadable(f'provenance.json is damaged: {error}') from error
    if not isinstance(provenance, dict):
        raise Unreadable('provenance.json is damaged: no facts in it')
    return provenance


def _loop(config: dict) -> dict:
    return config.get('train_cfg') or {}


def _checkpoints(folder: Path, began: float) -> dict[tuple[str, int], Path]:
    """Checkpoints written since then, by unit and number in their names, 'epoch_3.pth'; also the last one if it is gone."""
    note = folder / 'last_checkpoint'
    files = [file for file in (*folder.glob('*.pth'), note) if file.is_file() and file.stat().st_mtime >= began]
    names = [Path(read_text(file).strip()).name if file == note else file.name for file in files]
    return {(match[1], int(match[2])): folder / name for name in names
            if (match := re.fullmatch(r'(epoch|iter|stopped)_(\d{1,18})\.pth', name))}


def _is_whole(config: dict, train: list[dict], val: list[dict], checkpoints: Iterable[tuple[str, int]]) -> bool:
    """Whether the length of the config is done."""
    epochs, iterations = _loop(config).get('max_epochs'), _loop(config).get('max_iters')
    done = [number for kind, number in checkpoints if kind == ('epoch' if epochs else 'iter')]
    done += [entry['logged_step'] for entry in val] if epochs else [entry['step'] for entry in train]
    return (epochs or iterations) in done


def _seconds_of(train: list[dict]) -> float:
    """The seconds of the iterations alone."""
    steps = [0, *(entry['step'] for entry in train)]
    return sum(entry.get('time', 0) * (after - before)
               for entry, before, after in zip(train, steps, steps[1:], strict=False))


def _status(train: list[dict], whole: bool, written: float, times: list[float]) -> str:
    """'diverged', 'finished', 'running' or 'stopped'.

    The last three logged losses are not finite; or the length of the config is done; or the log grew within
    `QUIET_SECONDS` or thrice its longest pause; or none of it. (mmengine leaves no sign of a process that runs.)

    Args:
        train (list[dict]): Entries of training.
        whole (bool): Whether the length of the config is done.
        written (float): When the log last grew.
        times (list[float]): Of the last lines of the text log.
    """
    losses = [entry['loss'] for entry in train if 'loss' in entry][-3:]
    if losses and not any(math.isfinite(loss) for loss in losses):
        return 'diverged'
    if whole:
        return 'finished'
    pause = max((after - before for before, after in pairwise(times)), default=0)
    return 'running' if time.time() - written < max(QUIET_SECONDS, 3 * pause) else 'stopped'


def _environment(provenance: dict, text: str) -> dict:
    """'device', 'world_size', 'versions' and 'seed', as our provenance has them or the text log does."""
    if 'world_size' in provenance:
        return {key: provenance.get(key) for key in ('device', 'world_size', 'versions', 'seed')}
    patterns = dict(device=r'GPU [\d,]+: (.+)', cpu='CUDA available: (False)', world_size=r'GPU number: (\d+)',
                    torch='PyTorch: (.+)', mmengine='MMEngine: (.+)', seed=r'seed: (\d+)')
    found = {key: match[1].strip() for key, pattern in patterns.items()
             if (match := re.search(rf'^ *{pattern}$', text, re.M))}
    return dict(
        device=found.get('device') or ('CPU' if 'cpu' in found else None),
        **{key: int(found[key]) if key in found else None for key in ('world_size', 'seed')},
        versions={key: found[key] for key in ('torch', 'mmengine') if key in found})


def _times(text: str) -> list[float]:
    """Seconds of the lines of a text log that have a time."""
    found = re.findall(r'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ', text, re.M)
    times = []
    for one in found:
        with suppress(ValueError):  # a line that is torn
            times.append(datetime.fromisoformat(one.replace('/', '-')).timestamp())
    return times


def starts_in(folder: Path) -> list[Path]:
    """The folders of a run's starts and tests, by their names, which are times."""
    return [one for one in sorted(folder.iterdir()) if START.fullmatch(one.name) and one.is_dir()]


def _since_last_beginning(starts: dict[Path, list[dict]]) -> dict[Path, list[dict]]:
    """The starts and their entries, without those before a run in the same folder that began anew."""
    first = {start: next((entry['step'] for entry in entries if is_of_training(entry)), None)
             for start, entries in starts.items()}
    trained = {start: step for start, step in first.items() if step is not None}
    began = max((start for start, step in trained.items() if step <= min(trained.values())), default=None)
    return {start: entries for start, entries in starts.items() if began is None or start >= began}


# ---------------------------------------------------------------------------------------------------------------------
# Facts
# ---------------------------------------------------------------------------------------------------------------------
def dataset_of(config: dict, images: int | None = None) -> str | None:
    """The name of the training data.

    Args:
        config (dict): Of the run.
        images (int, optional): How many there are, if that is known. What has another number than the data set of that
            name is called a part of it.
    """
    dataset = (config.get('train_dataloader') or {}).get('dataset')
    while isinstance(dataset, dict) and isinstance(dataset.get('dataset'), dict):  # wrapped
        dataset = dataset['dataset']
    if not isinstance(dataset, dict):
        return None
    root, shapes = str(dataset.get('data_root') or ''), config.get('shapes_root')
    kind = type_name(dataset)
    if shapes and root.startswith(shapes):
        return 'CoMA-Shapes'
    name = dict(ImageNet='ImageNet-1K', ADE20KDataset='ADE20K', CocoDataset='COCO').get(kind)
    if kind == 'ImageFolder' and Path(root).name.lower() in ('imagenet', 'imagenet-1k', 'imagenet1k', 'ilsvrc2012'):
        name = 'ImageNet-1K'
    if name == 'COCO' and 'train2017' not in str(dataset.get('ann_file')):
        name = None
    if name and images and abs(images - IMAGES[name]) > IMAGES[name] / 100:
        return f'{images} images of {name}'
    return name or f'{kind} {Path(root).name}'.strip()


def backbone_of(kind: str | None, arch, options: dict | None = None) -> str | None:
    """A backbone as papers name it, 'DyViT-B', 'ViT-B', 'Swin-S'; with the options that make another network of it.

    Args:
        kind (str): Its class.
        arch (str | dict): Its architecture.
        options (dict, optional): Of its config.
    """
    if not kind:
        return None
    options = options or {}
    family = FAMILIES.get(kind, kind)
    size = str(arch or options.get('depth') or '').removeprefix('mae-').removeprefix('deit-') if not isinstance(
        arch, dict) else 'custom'
    name = f'DyViT {size}' if family == 'DyViT' and size == 'tiny' else f'{family}-{ARCHS.get(size, size)}'.rstrip('-')
    if family == 'DyViT':
        others = [f'{key}={options[key]}' for key in ARCHITECTURE if key in options]
        return f'{name} ({", ".join(others)})' if others else name
    patch = options.get('patch_size', 16)
    return f'{name}/{patch}' if family == 'ViT' and patch != 16 else name


def image_size_of(config: dict) -> int | None:
    """Side of the training images in px, the longer one."""
    dataset = (config.get('train_dataloader') or {}).get('dataset')
    for kind, key in (('LoadRandomResizedCrop', 'scale'), ('RandomResizedCrop', 'scale'), ('RandomCrop', 'crop_size'),
                      ('Resize', 'scale')):
        for step in find_types(dataset, kind):
            size = step.get(key)
            return max(size) if isinstance(size, list) else size
    return None


NO_SETTINGS = ('checkpoint', 'val_interval', 'fused', '_scope_')
"""Keys that change no result, or are known from elsewhere."""


def flatten(value, path: str, flat: dict, passed_over: tuple[str, ...] = NO_SETTINGS) -> None:
    """Write the settings below a part of a config into `flat`, by their dotted paths; in lists by the elements' types."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in passed_over:
                flatten(one, f'{path}.{key}' if path else str(key), flat, passed_over)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, one in enumerate(value):
            place = type_name(one) if isinstance(one, dict) and one.get('type') else number
            flatten(one, f'{path}.{place}', flat, passed_over)
    else:
        flat[path] = value
