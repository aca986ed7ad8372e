"""One run of any of the three libraries from the folder it wrote: mmengine's logs, the dumped config, our provenance."""
import ast
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS

from coma_mm.datasets.seeding import type_name
from coma_mm.engine.config import find_types
from coma_mm.engine.hooks import RUN_HOOKS, find_key
from coma_mm.visualization.logs import read_scalars

START = re.compile(r'\d{8}_\d{6}')
"""mmengine's name for the folder of one start of a run."""

QUIET_SECONDS = 600
"""A run is taken for running if its log grew within this time, or thrice the longest pause between the log's last lines."""

METHODS = dict(MaskedAutoencoder='MAE', ImageClassifier='supervised')
"""Names of pre-trainings whose class is not named as the method is."""

ARCHS = dict(t='T', tiny='T', s='S', small='S', b='B', base='B', l='L', large='L', h='H', huge='H')
FAMILIES = dict(DyViT='DyViT', SwinTransformer='Swin', HiViT='HiViT', Hiera='Hiera', VisionTransformer='ViT',
                MaskedVisionTransformer='ViT', MAEViT='ViT', BEiTViT='ViT', BEiTPretrainViT='ViT', CAEPretrainViT='ViT',
                iTPNHiViT='HiViT', MaskFeatViT='ViT', SimMIMSwinTransformer='Swin', ResNetV1c='ResNet', ResNetV1d='ResNet')
ARCHITECTURE = ('patch_size', 'windows', 'dense_conv', 'reduce', 'pos_embed', 'mlp_ratio')
"""Options of DyViT that make another network of it."""

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
        lines = ast.parse(path.read_text(encoding='utf-8')).body
        return {line.targets[0].id: literal(line.value) for line in lines
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)}
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f'cannot read the config {path.name}: {type(error).__name__}') from error


@dataclass
class Test:
    """Metrics of a test, and the checkpoint tested."""
    metrics: dict
    checkpoint: str
    config: dict


@dataclass
class LoggedRun:
    """A run as its folder tells.

    Args:
        folder (Path): The work_dir.
        name (str): Its path relative to what was searched.
        config (dict): The config of its last start.
        provenance (dict): What `ProvenanceHook` wrote, or nothing.
        train (list[dict]): Entries of training, see `read_scalars`.
        val (list[dict]): Entries of validation.
        starts (list[Path]): Folders of its starts that logged something, since the last one from the beginning.
        began (float): When the first of them began, if there were others before; older checkpoints are theirs.
        tests (list[Test]): Tests of its checkpoints.
    """
    folder: Path
    name: str
    config: dict
    provenance: dict
    train: list[dict]
    val: list[dict]
    starts: list[Path]
    began: float = 0.
    tests: list[Test] = field(default_factory=list)

    @cached_property
    def log(self) -> Path | None:
        """The text log of the last start."""
        return next((log for start in reversed(self.starts) for log in sorted(start.glob('*.log'))), None)

    @cached_property
    def _log_text(self) -> str:
        return self.log.read_text(encoding='utf-8', errors='replace') if self.log else ''

    @cached_property
    def environment(self) -> dict:
        """'device', 'world_size', 'versions' and 'seed', as our provenance has them or the text log does."""
        if 'world_size' in self.provenance:
            return {key: self.provenance.get(key) for key in ('device', 'world_size', 'versions', 'seed')}
        patterns = dict(device=r'GPU [\d,]+: (.+)', world_size=r'GPU number: (\d+)', torch='PyTorch: (.+)',
                        mmengine='MMEngine: (.+)', seed=r'seed: (\d+)')
        found = {key: match[1].strip() for key, pattern in patterns.items()
                 if (match := re.search(rf'^ *{pattern}$', self._log_text, re.M))}
        return dict(
            device=found.get('device') or ('CPU' if re.search(r'^ *CUDA available: False$', self._log_text, re.M) else None),
            **{key: int(found[key]) if key in found else None for key in ('world_size', 'seed')},
            versions={key: found[key] for key in ('torch', 'mmengine') if key in found})

    @property
    def by_epoch(self) -> bool:
        """Whether the length counts epochs."""
        loop = self.config.get('train_cfg') or {}
        return 'max_epochs' in loop

    @property
    def length(self) -> int | None:
        """Epochs or iterations that the config asks for."""
        loop = self.config.get('train_cfg') or {}
        return loop.get('max_epochs') or loop.get('max_iters')

    def _numbered(self, *units: str) -> dict[int, Path]:
        """Checkpoints by the number in their names, 'epoch_3.pth'; the last one that was written, even if it is gone."""
        files = [*self.folder.glob('*.pth')]
        note = self.folder / 'last_checkpoint'
        files = [file for file in files if file.stat().st_mtime >= self.began]
        if note.is_file() and note.stat().st_mtime >= self.began:
            files.append(self.folder / Path(note.read_text(errors='replace').strip()).name)
        return {int(match[1]): file for file in files
                if (match := re.fullmatch(rf'(?:{"|".join(units)})_(\d+)\.pth', file.name))}

    @property
    def _unit(self) -> str:
        return 'epoch' if self.by_epoch else 'iter'

    @cached_property
    def last_checkpoint(self) -> Path | None:
        """The newest numbered checkpoint that is there."""
        for units in ((self._unit, ), ('epoch', 'iter', 'stopped')):
            there = {number: file for number, file in self._numbered(*units).items() if file.is_file()}
            if there:
                return there[max(there)]
        return None

    @cached_property
    def done(self) -> int:
        """Epochs or iterations done for certain: by validations, checkpoints, and for iterations by the log."""
        counts = [*self._numbered(self._unit)]
        counts += [entry['logged_step'] for entry in self.val] if self.by_epoch else [entry['step'] for entry in self.train]
        return max((count for count in counts if count <= (self.length or count)), default=0)

    @property
    def final_checkpoint(self) -> str:
        """The name of the checkpoint that the whole run ends with."""
        return f'{self._unit}_{self.length}.pth'

    @cached_property
    def status(self) -> str:
        """'diverged', 'finished', 'running' or 'stopped'.

        The last three logged losses are not finite; or the length of the config is done; or the log grew within
        `QUIET_SECONDS` or thrice its longest pause; or none of it. (mmengine leaves no sign of a process that runs.)
        """
        losses = [entry['loss'] for entry in self.train if 'loss' in entry][-3:]
        if losses and not any(abs(loss) < float('inf') for loss in losses):
            return 'diverged'
        if self.length and self.done >= self.length or not self.starts:  # no start: a test alone
            return 'finished'
        files = [file for start in self.starts for file in (*start.glob('*.log'), *start.glob('vis_data/scalars.json'))]
        age = time.time() - max((file.stat().st_mtime for file in files), default=0)
        times = _times(self._log_text)[-200:]
        pause = max((after - before for before, after in zip(times, times[1:], strict=False)), default=0)
        return 'running' if age < max(QUIET_SECONDS, 3 * pause) else 'stopped'

    @cached_property
    def hours(self) -> float | None:
        """Wall time by the text logs of all starts, with validation and checkpoints; without logs, iterations alone."""
        seconds = 0.
        for start in self.starts:
            for log in sorted(start.glob('*.log'))[:1]:
                times = _times(log.read_text(encoding='utf-8', errors='replace'))
                seconds += times[-1] - times[0] if times else 0
        if not seconds:
            steps = [0, *(entry['step'] for entry in self.train)]
            seconds = sum(entry.get('time', 0) * (after - before)
                          for entry, before, after in zip(self.train, steps, steps[1:], strict=False))
        return seconds / 3600 or None

    @property
    def peak_memory_gb(self) -> float | None:
        """Peak GPU memory in GiB (mmengine logs it in MB of 2^20 bytes)."""
        memory = max((entry.get('memory', 0) for entry in self.train), default=0)
        return memory / 1024 or None


def _times(text: str) -> list[float]:
    """Seconds of the lines of a text log that have a time."""
    found = re.findall(r'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ', text, re.M)
    return [datetime.strptime(one, '%Y/%m/%d %H:%M:%S').timestamp() for one in found]


def read_run(folder: Path, name: str) -> LoggedRun:
    """Read the folder of a run.

    Args:
        folder (Path): A work_dir of mmengine's runner.
        name (str): What to call it.

    Raises:
        Unreadable: If it is none, or nothing was logged.
    """
    starts = starts_in(folder)
    old = sorted(folder.glob('*.log.json'))
    if old and not starts:
        raise Unreadable(f'{old[0].name} is a log of mmcv 1.x; only runs of mmengine can be read')
    provenance = {}
    if (file := folder / 'provenance.json').is_file():
        try:
            provenance = json.loads(file.read_text(encoding='utf-8'))
        except ValueError as error:
            raise Unreadable(f'provenance.json is damaged: {error}') from error
        if not isinstance(provenance, dict):
            raise Unreadable('provenance.json is damaged: no facts in it')
    every = [start for start in starts if (start / 'vis_data/scalars.json').is_file()]
    logged = _since_last_beginning(every)
    tested = [start for start in starts if (start / f'{start.name}.json').is_file()]
    if not logged and not tested:
        raise Unreadable('nothing was logged (*/vis_data/scalars.json)')
    files = [start / 'vis_data/config.py' for start in reversed(logged or tested)] + sorted(folder.glob('*.py'))
    config = next((read_config(file) for file in files if file.is_file()), None)
    if config is None:
        raise Unreadable('no config was dumped (*.py, or */vis_data/config.py)')
    if not isinstance(config.get('model'), dict):
        raise Unreadable('its config has no key model')
    train, val = read_scalars(folder) if logged else ([], [])
    if not train and not val and not tested:
        raise Unreadable('no whole line in its log (*/vis_data/scalars.json)')
    began = files[len(logged) - 1].stat().st_mtime if logged != every and files[len(logged) - 1].is_file() else 0.
    return LoggedRun(folder, name, config, provenance, train, val, logged, began)


def starts_in(folder: Path) -> list[Path]:
    """The folders of a run's starts and tests, by their names, which are times."""
    return [one for one in sorted(folder.iterdir()) if START.fullmatch(one.name) and one.is_dir()]


def _since_last_beginning(starts: list[Path]) -> list[Path]:
    """The starts without those before a run in the same folder that began anew."""
    first = {}
    for start in starts:
        if train := read_scalars(start / 'vis_data/scalars.json')[0]:
            first[start] = train[0]['step']
    beginnings = [start for start in first if first[start] <= min(first.values())]
    return [start for start in starts if not beginnings or start >= beginnings[-1]]


# ---------------------------------------------------------------------------------------------------------------------
# Facts
# ---------------------------------------------------------------------------------------------------------------------
def task_of(config: dict) -> str:
    """'pretraining', 'classification', 'segmentation' or 'detection'.

    Raises:
        Unreadable: If it is none of them.
    """
    scope, model = config.get('default_scope'), config['model']
    if scope in ('mmseg', 'mmdet'):
        return dict(mmseg='segmentation', mmdet='detection')[scope]
    if type_name(model) == 'ImageClassifier':
        return 'classification'
    kind = MODELS.get(type_name(model)) if type_name(model) else None
    if isinstance(kind, type) and issubclass(kind, BaseSelfSupervisor):
        return 'pretraining'
    raise Unreadable(f'a {type_name(model) or "model without a type"} of {scope or "no known library"}: expected masked '
                     'pre-training, a classifier, or a model of mmsegmentation or mmdetection')


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
    for kind, key in (('RandomResizedCrop', 'scale'), ('RandomCrop', 'crop_size'), ('Resize', 'scale')):
        for step in find_types(dataset, kind):
            size = step.get(key)
            return max(size) if isinstance(size, list) else size
    return None


def settings_of(config: dict, global_batch: int | None) -> dict:
    """What of a config may change a result, as a flat dict: no paths, seeds, workers, or how often it is logged."""
    kept = {key: config.get(key) for key in ('model', 'param_scheduler', 'train_cfg')}
    wrapper = config.get('optim_wrapper') or {}
    kept['optim_wrapper'] = {key: value for key, value in wrapper.items() if key != 'accumulative_counts'}
    for split in ('train', 'test'):
        dataset = (config.get(f'{split}_dataloader') or {}).get('dataset')
        kept[f'{split}_pipeline'] = find_key(dataset, 'pipeline')
    usual = {hook['type'] for hook in RUN_HOOKS} | {'StopHook'}
    kept['custom_hooks'] = [hook for hook in config.get('custom_hooks') or [] if type_name(hook) not in usual]
    flat = {'global_batch': global_batch}
    _flatten(kept, '', flat)
    return flat


def _flatten(value, path: str, flat: dict) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in ('checkpoint', 'val_interval', 'fused', '_scope_'):
                _flatten(one, f'{path}.{key}' if path else str(key), flat)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, one in enumerate(value):
            _flatten(one, f'{path}.{type_name(one) if isinstance(one, dict) and one.get("type") else number}', flat)
    else:
        flat[path] = value


def hash_of(settings: dict) -> str:
    """Twelve digits that two runs share if nothing but their seeds, paths and machines differs."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
