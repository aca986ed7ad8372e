"""What people want to know of a run: how far it is, how good it is, and what it was told; from its folder alone."""
import json
import math
import re
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from coma_mm.config_tree import type_name
from coma_mm.errors import UserError, first_names, printable
from coma_mm.files import read_text
from coma_mm.locks import is_held

from .finding import find_runs
from .metrics import GREATER, NOT_METRICS, main_metric
from .reading import CLASSES, ENDING, Logged, LoggedRun, Unreadable, dataset_of, flatten, read_whole, starts_in

STATES = ('running', 'finished', 'stopped', 'failed')
SELF_SUPERVISED = ('CoMA', 'MaskedAutoencoder', 'BEiT', 'BYOL', 'BarlowTwins', 'CAE', 'DenseCL', 'EVA', 'MAE', 'MFF',
                   'MILAN', 'MaskFeat', 'MixMIM', 'MoCo', 'MoCoV3', 'SimCLR', 'SimMIM', 'SimSiam', 'SparK', 'SwAV', 'iTPN')
"""Models that learn without labels, of mmpretrain and ours."""
SETTINGS = ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr', 'train_dataloader.batch_size',
            'train_dataloader.dataset', 'train_dataloader.sampler', 'val_dataloader.dataset', 'custom_hooks', 'load_from',
            'randomness.seed', 'compile')
"""Parts of a config that may differ for a reason; the others say where and how often something is written."""
PASSED_OVER = ('_scope_', 'val_interval', 'fused', 'backend_args', 'persistent_workers')
LINE = re.compile(r'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - .*? - (?:Epoch\(train\)\s+\[(\d+)\])?(?:Iter\(train\)\s+)?'
                  r'\[\s*(\d+)/(\d+)\].*?(?:\beta: ([\d:]+|\d+ days?, [\d:]+))?(?:\s|$)', re.M)
"""A line of training in mmengine's log, by epochs or by iterations."""
TABLE = re.compile(r'^\+-[-+]+\+\n\|\s*Class\s*\|(.*)\n\+-[-+]+\+\n((?:\|.*\n)+)', re.M)
"""What mmsegmentation prints of each class."""


@dataclass
class Overview:
    """A run at a glance.

    Args:
        folder (Path): Its work_dir.
        name (str): What it is called here.
        state (str): One of `STATES`, or 'starting'.
        why (str): Of one that failed or stopped, as far as that is known. Defaults to ''.
        run (LoggedRun, optional): What its folder says; None before anything was logged. Defaults to None.
        task (str): 'pre-training', 'classification', 'segmentation', 'detection', or the class of its model. Defaults to ''.
        data (str): The name of its training data. Defaults to ''.
        unit (str): What it counts, 'epoch' or 'iteration'. Defaults to 'epoch'.
        done (float, optional): How many of them are done. Defaults to None, not known.
        total (int, optional): How many it will do. Defaults to None.
        left (float, optional): Seconds that remain, validation included, of one that runs. Defaults to None.
        metric (str, optional): What it is judged by; 'loss' where it does not validate. Defaults to None.
        higher (bool, optional): Whether more of it is better. Defaults to None, not known.
        curve (list[tuple[int, float]]): Its values by the number of `unit`s done. Defaults to none.
        curves (dict[str, list[tuple[int, float]]]): The same of all metrics. Defaults to none.
        losses (list[tuple[float, float]]): The training loss by the number of `unit`s done. Defaults to none.
        images_per_s (float, optional): The median. Defaults to None.
        settings (dict[str, Any]): See `settings_of`. Defaults to none.
        classes (dict, optional): The last validation by class, 'step', 'classes', 'values' and perhaps 'confusion'.
            Defaults to None.
    """
    folder: Path
    name: str
    state: str
    why: str = ''
    run: LoggedRun | None = None
    task: str = ''
    data: str = ''
    unit: str = 'epoch'
    done: float | None = None
    total: int | None = None
    left: float | None = None
    metric: str | None = None
    higher: bool | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    losses: list[tuple[float, float]] = field(default_factory=list)
    images_per_s: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, Any] | None = None

    @property
    def best(self) -> tuple[int, float] | None:
        """When the metric was best, and how good; None if nobody knows what is better. A probe before training is none."""
        finite = [point for point in self.curve if math.isfinite(point[1]) and point[0] > 0]
        if not finite or self.higher is None:
            return None
        return (max if self.higher else min)(finite, key=lambda point: point[1])

    @property
    def last(self) -> tuple[int, float] | None:
        """The last value, and when."""
        return self.curve[-1] if self.curve else None

    @property
    def hours(self) -> float | None:
        """Of all starts, with validation and saving."""
        return self.run and self.run.hours


def overviews(folder: Path) -> tuple[list[Overview], list[tuple[str, str]]]:
    """All trainings under a folder.

    Args:
        folder (Path): Where to look, to any depth.

    Returns:
        tuple[list[Overview], list[tuple[str, str]]]: The runs in the order of their names; and the folders that are none,
        with the reason.

    Raises:
        UserError: If there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f'no folder {folder}; expected one with work_dirs of runs, such as coma-mm train writes')
    runs, others = [], []
    found, skipped = find_runs(folder)
    for place in found:
        name = printable(str(place.relative_to(folder)) if place != folder else place.resolve().name)
        try:
            if one := overview(place, name):
                runs.append(one)
        except Exception as error:  # whatever is odd about one folder, the others are shown
            others.append((name, _reason(error)))
    others += [(printable(str(place.relative_to(folder))), reason) for place, reason in skipped]
    return runs, sorted(others)


def _reason(error: Exception) -> str:
    if isinstance(error, Unreadable | OSError | UserError):
        return printable(str(error))
    return printable(f'its config or log is not of the usual form ({type(error).__name__}: {error})')


def overview(folder: Path, name: str) -> Overview | None:
    """A run at a glance, or None for a folder with no more than tests in it.

    Args:
        folder (Path): A work_dir of mmengine's runner.
        name (str): What to call it.

    Raises:
        Unreadable: If it is none.
    """
    held, ending = is_held(folder), _ending(folder)
    try:
        run, logged = read_whole(folder, name)
    except Unreadable:
        if not held and not ending:
            raise
        return Overview(folder, name, 'starting' if held else ending['state'], '' if held else ending['why'])
    if run.tested:
        return None
    state, why = _state(run, held, ending)
    train, val, text = logged
    by_epoch = run.epochs is not None
    total = run.epochs if by_epoch else run.iterations
    done, left = _progress(run, total, logged)
    # Tests of other things in the same folder have steps of their own, so a curve is by what each entry says.
    names = [key for key in dict.fromkeys(key for entry in val for key in entry) if key not in NOT_METRICS]
    curves = {key: [(entry['logged_step'], float(entry[key])) for entry in val if key in entry] for key in names}
    metric, higher = main_metric(names, _chosen(run.config, names))
    losses = _losses(train, done if by_epoch else None)
    curve = curves.get(metric, [])
    if metric is None and losses:
        metric, higher, curve = 'loss', False, losses
    return Overview(
        folder, name, state, why, run, _task(run.config), _data(run),
        'epoch' if by_epoch else 'iteration', total if state == 'finished' and run.status == 'finished' else done, total,
        left if state == 'running' else None, metric, higher, curve, curves, losses, _speed(run, train), settings_of(run),
        _classes(folder, run, text))


def _ending(folder: Path) -> dict[str, str] | None:
    """What the last training in a folder noted when it ended, if it is one of ours and could."""
    for start in reversed(starts_in(folder)):
        with suppress(OSError, ValueError, UserError, RecursionError):
            note = json.loads(read_text(start / ENDING, limit=2**16))
            if isinstance(note, dict) and note.get('state') in STATES:
                return dict(state=note['state'], why=printable(str(note.get('why', ''))))
        if (start / 'vis_data/scalars.json').is_file():  # a training without a word; others are tests
            break
    return None


def _state(run: LoggedRun, held: bool, ending: dict[str, str] | None) -> tuple[str, str]:
    if held:
        return 'running', ''
    if run.status == 'diverged':
        return 'failed', 'the loss is not finite'
    if ending:
        return ending['state'], ending['why']
    if run.status == 'running' and 'coma_mm' in run.provenance:  # one of ours would hold its lock
        return 'stopped', 'it left no word: killed, or its machine went down'
    return run.status, 'it left no word' if run.status == 'stopped' else ''


def _task(config: dict) -> str:
    scope, kind = config.get('default_scope'), type_name(config['model'])
    if scope in ('mmseg', 'mmdet'):
        return dict(mmseg='segmentation', mmdet='detection')[scope]
    if kind.endswith('Classifier'):
        return 'classification'
    preprocessor = type_name(config['model'].get('data_preprocessor') or config.get('data_preprocessor') or {})
    if kind in SELF_SUPERVISED or preprocessor.startswith(('SelfSup', 'MaskedImage', 'TwoNormData')):
        return 'pre-training'
    return kind


def _data(run: LoggedRun) -> str:
    """The name of the training data; of people's own, that of their folder."""
    name = dataset_of(run.config, run.provenance.get('images')) or ''
    return re.sub(r'^[A-Z]\w*(?:Dataset|Folder|Images)\s+(?=\S)', '', name)


def _chosen(config: dict, names: Sequence[str]) -> dict[str, bool]:
    """The metric that the best checkpoint is chosen by, if the config names one."""
    hook = (config.get('default_hooks') or {}).get('checkpoint') or {}
    wanted, rule = hook.get('save_best'), hook.get('rule')
    wanted = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    rules = rule if isinstance(rule, list) else [rule] * len(wanted)
    return {name: rule == 'greater' if rule else any(key in name for key in GREATER)
            for name, rule in zip(wanted, rules, strict=False) if name in names}


def _progress(run: LoggedRun, total: int | None, logged: Logged) -> tuple[float | None, float | None]:
    """How many epochs or iterations are done, and how many seconds are left, as the text log of the last start tells."""
    by_epoch = run.epochs is not None
    points, eta = [], None
    for match in LINE.finditer(logged.text):
        when, epoch, number, of = match[1], match[2], int(match[3]), int(match[4])
        if by_epoch != bool(epoch) or not of:
            continue
        done = int(epoch) - 1 + number / of if by_epoch else number
        with suppress(ValueError):  # a line that is torn
            points.append((datetime.strptime(when, '%Y/%m/%d %H:%M:%S').timestamp(), done))
            eta = match[5]
    counted = [entry['logged_step'] for entry in logged.val[-1:]]
    if points:
        counted.append(points[-1][1])
    elif logged.train:
        last = logged.train[-1]
        counted.append(last.get('epoch', 1) - 1 if by_epoch else last['step'])
    done = max(counted, default=None)
    if not total or not points:
        return done, None
    (began, first), (now, last) = points[0], points[-1]
    if last > first and now > began:
        left = (total - last) * (now - began) / (last - first) - max(0, time.time() - now)
    elif eta:
        hours, minutes, seconds = (int(part) for part in eta.split(' ')[-1].split(':'))
        left = 3600 * hours + 60 * minutes + seconds + 86400 * int(eta.split(' ')[0] if 'day' in eta else 0)
    else:
        return done, None
    return done, max(0., left)


def _losses(train: list[dict], epochs: float | None) -> list[tuple[float, float]]:
    """By epochs, if that is what the run counts, of which so many are done: of each, as many points as were logged."""
    points = [(entry['step'], entry['loss'], entry.get('epoch')) for entry in train if 'loss' in entry]
    if epochs is None or not points or points[-1][2] is None:
        return [(step, loss) for step, loss, _ in points]
    ends = {epoch: step for step, _, epoch in points}  # the last step of each epoch that was logged
    length = max((step / epoch for epoch, step in ends.items() if epoch), default=1)
    if len(ends) == 1 and 0 < epochs < 1:  # amid the first one
        length = points[-1][0] / epochs
    return [(step / length, loss) for step, loss, _ in points]


def _speed(run: LoggedRun, train: list[dict]) -> float | None:
    rates = [entry['images_per_s'] for entry in train if entry.get('images_per_s')]
    if not rates:
        batch = (run.config.get('train_dataloader') or {}).get('batch_size')
        images = batch * (run.environment.get('world_size') or 1) if isinstance(batch, int) else 0
        rates = [images / entry['time'] for entry in train if images and entry.get('time')]
    return statistics.median(rates) if rates else None


def settings_of(run: LoggedRun) -> dict[str, Any]:
    """What a run was told that may matter, by names as --cfg-options takes them, where no list is in between."""
    config, flat = run.config, {}
    for key in SETTINGS:
        top, _, rest = key.partition('.')
        part = config.get(top)
        if rest:
            part = part.get(rest) if isinstance(part, dict) else None
        if part is not None:
            flatten(part, key, flat, PASSED_OVER)
    if images := run.provenance.get('images_per_update'):
        flat['images per update'] = images
    if device := run.environment.get('device'):
        flat['device'] = f'{run.environment.get("world_size") or 1} × {device}'
    return flat


def _classes(folder: Path, run: LoggedRun, text: str) -> dict[str, Any] | None:
    """The last validation by class that was noted, or, of mmsegmentation's runs, printed."""
    for start in reversed(starts_in(folder)):
        with suppress(OSError, ValueError, UserError, RecursionError):
            found = json.loads(read_text(start / CLASSES, limit=2**24))
            if _is_by_class(found):
                return found
    tables = TABLE.findall(text)
    if not tables:
        return None
    head, body = tables[-1]
    rows = [[cell.strip() for cell in line.strip().strip('|').split('|')] for line in body.splitlines()]
    columns = [name.strip() for name in head.strip('| ').split('|')]
    values = {name: [_number(row[1 + place]) for row in rows if len(row) == 1 + len(columns)]
              for place, name in enumerate(columns)}
    return dict(step=(run.val or {}).get('logged_step'), classes=[row[0] for row in rows if len(row) == 1 + len(columns)],
                values=values)


def _is_by_class(found: Any) -> bool:
    """Whether it is what a validation notes of its classes: a number or None for each of them, and squares of numbers."""
    names, values = (found.get(key) for key in ('classes', 'values')) if isinstance(found, dict) else (None, None)
    if not isinstance(names, list) or not names or not isinstance(values, dict):
        return False

    def is_row(row: Any) -> bool:
        return isinstance(row, list) and len(row) == len(names) and all(
            value is None or type(value) in (int, float) and math.isfinite(value) for value in row)

    confusion = found.get('confusion')
    whole = not confusion or isinstance(confusion, list) and len(confusion) == len(names) and all(map(is_row, confusion))
    return whole and all(isinstance(name, str) for name in names) and all(map(is_row, values.values()))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def differing(runs: Iterable[Overview]) -> dict[str, list[Any]]:
    """The settings in which runs differ, and each one's value; None where it has none.

    Where a `type` differs, its other settings say no more, and are left out, but for a checkpoint.
    """
    flats = [run.settings for run in runs]
    found = {}
    for key in dict.fromkeys(key for flat in flats for key in flat):
        values = [flat.get(key) for flat in flats]
        if any(value != values[0] for value in values):
            found[key] = values
    kinds = [key.removesuffix('type') for key in found if key.endswith('.type')]
    return {key: values for key, values in found.items()
            if key.endswith('.checkpoint') or not any(key.startswith(kind) and key != f'{kind}type' for kind in kinds)}


def run_of(path: str | Path) -> tuple[Overview, int | None]:
    """The run of a folder or a checkpoint that a person names, and the epoch or iteration of the checkpoint.

    Raises:
        UserError: If it is none.
    """
    path = Path(path)
    match = re.fullmatch(r'(?:best_.*_)?(?:epoch|iter|stopped)_(\d{1,18})\.pth', path.name)
    if not path.exists():
        raise UserError(f'no run or checkpoint {path}; expected the work_dir of a training, or a checkpoint in one')
    folder = path if path.is_dir() else path.parent
    try:
        one = overview(folder, printable(str(path)))
        reason = 'there is no more than tests in it'
    except Exception as error:
        one, reason = None, _reason(error)
    if one is None or not path.is_dir() and path.suffix != '.pth':
        found = find_runs(path)[0] if path.is_dir() else []
        inside = [str(place.relative_to(path)) for place in found if place != path and place.parent not in found]
        hint = f'; it has runs in it: {first_names(inside)}' if inside else ''
        raise UserError(f'{path} is no run ({reason}); expected the work_dir of a training, or a checkpoint in one{hint}')
    return one, int(match[1]) if match else None
