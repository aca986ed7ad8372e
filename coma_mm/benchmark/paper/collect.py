"""Find the runs under work_dirs and write their results to one file, a row for each run and metric."""
import json
import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from coma_mm.config.evaluated import images_named, is_part
from coma_mm.config_tree import find_key, find_types, type_name
from coma_mm.errors import UserError, printable
from coma_mm.files import read_text, write_whole
from coma_mm.progress import track
from coma_mm.runs import reading
from coma_mm.runs.finding import find_runs
from coma_mm.runs.reading import LoggedRun, Test, Unreadable

from .numbers import cells_of
from .runs import hash_of, settings_of, task_of

COLUMNS = (
    'run', 'task', 'dataset', 'split', 'data', 'images', 'metric', 'value', 'step', 'status', 'seed', 'method', 'backbone',
    'pretrain_epochs', 'pretrain_seed', 'pretrain_schedule', 'pretrain_dataset', 'pretrain_run', 'complement', 'mask_ratio',
    'mask_sampler', 'decoder', 'decoder_depth', 'epochs', 'iterations', 'image_size', 'frozen_stages', 'world_size',
    'global_batch', 'hours', 'peak_memory_gb', 'device', 'versions', 'cell', 'variant', 'config', 'config_hash', 'command',
    'checkpoint', 'log')

WHOLE_NUMBERS = ('images', 'step', 'seed', 'pretrain_epochs', 'pretrain_seed', 'pretrain_schedule', 'decoder_depth',
                 'epochs', 'iterations', 'image_size', 'frozen_stages', 'world_size', 'global_batch')
MASKING = ('complement', 'mask_ratio', 'mask_sampler', 'decoder', 'decoder_depth')  # columns of a pre-training
COPY = ('seed', 'pretrain_seed', 'pretrain_run', 'value')  # alike in copies of a run's folder
NOT_METRICS = ('step', 'logged_step', 'data_time', 'time')  # in an entry of `read_scalars`
NUMBERS = ('value', 'mask_ratio', 'hours', 'peak_memory_gb')

RUNS = 'runs.csv'

HOW_TO_FILL = ('no runs: train something, for instance with make demo or a recipe of docs/recipes.md, and name the folder '
               'with its work_dir')


@dataclass
class Skipped:
    """A folder that gave no rows, or a test in it, and why; both without control characters."""
    path: str
    reason: str

    def __post_init__(self):
        self.path, self.reason = printable(self.path), printable(self.reason[:300])


def collect(work_dirs: str | Path) -> tuple[pandas.DataFrame, list[Skipped]]:
    """The results of all runs under a folder.

    Args:
        work_dirs (str | Path): Where to look, to any depth.

    Returns:
        tuple[DataFrame, list[Skipped]]: `COLUMNS` for each run and metric, and the folders that are no runs or broken
        ones. Paths are relative to `work_dirs`; metrics are in per cent, losses as they are.

    What is in a folder may come from anywhere: nothing of it is run or imported, and whatever is odd about it costs its own
    rows alone.

    Raises:
        UserError: If there is no such folder.
    """
    work_dirs = Path(work_dirs).absolute()
    if not work_dirs.is_dir():
        raise UserError(f'no folder {work_dirs}; expected one with work_dirs of runs')
    folders, skipped = _find(work_dirs)
    found, tests = {}, []
    for folder in track(folders, 'Reading runs', transient=True, disable=len(folders) < 20):
        name = os.path.relpath(folder, work_dirs)
        try:
            run = reading.read_run(folder, name)
            _check(run)
        except Exception as error:
            skipped.append(Skipped(name, _reason(error)))
            continue
        if not run.tested:
            found[folder] = run
        for start in reading.starts_in(folder):
            try:
                tests += [(test, run) for test in _tests(start)]
            except Exception as error:
                skipped.append(Skipped(os.path.join(name, start.name), _reason(error)))
    for test, run in tests:
        try:
            owner = _run_of(test.checkpoint, found)
            if owner is None and not run.tested and os.path.isdir(os.path.dirname(os.path.abspath(test.checkpoint))):
                raise Unreadable(f'a test of {test.checkpoint}, which none of these runs has written')
            owner = owner or run  # whose folder may have been renamed
            reason = _not_counted(test, owner)
        except Exception as error:
            reason, owner = _reason(error), None
        if reason:
            skipped.append(Skipped(os.path.join(run.name, test.start), reason))
        if owner and not _of_an_earlier_run(test, owner):
            found.setdefault(owner.folder, owner).tests.append(test)
    rows, settings = [], {}
    for run in found.values():
        try:
            facts, own_settings = _facts(run, found)
            rows += [_checked(row) for row in _rows(run, facts)]
            settings[run.name] = own_settings
        except Exception as error:
            skipped.append(Skipped(run.name, _reason(error)))
    frame = _typed(pandas.DataFrame(rows, columns=COLUMNS))
    frame['variant'] = pandas.Series(_variants(frame, settings), dtype=object)
    return frame, sorted(skipped, key=lambda one: one.path)


def _reason(error: Exception) -> str:
    if isinstance(error, (Unreadable, OSError)):
        return str(error)
    return f'its config, log or provenance is not of the usual form ({type(error).__name__}: {error})'


def _check(run: LoggedRun) -> None:
    """Raise anything if a run's facts are odd, its own as well as those that other runs take from it."""
    _checked(_facts(run, {})[0])
    own = _own_origin(run)
    _checked({key: own[key] for key in MASKING} | dict(method=own['algorithm']))


def _checked(row: dict) -> dict:
    """A row whose values are of their columns' types.

    Raises:
        ValueError: If one is not.
    """
    row = dict(row)
    for column, value in row.items():
        if value is None:
            continue
        number = isinstance(value, (int, float)) and (column == 'value' or math.isfinite(value))
        if column in WHOLE_NUMBERS:
            good = number and value == int(value) and abs(value) < 2**53
        elif column in NUMBERS:
            good = number and isinstance(float(value), float)
        else:
            good = isinstance(value, str) and value == value.encode(errors='replace').decode()
        if not good:
            raise ValueError(f'{column} is {ascii(value)[:100]}')
    return row


def _typed(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The columns with their types; a text that is missing is empty."""
    for column in frame:
        if column in WHOLE_NUMBERS:
            frame[column] = pandas.to_numeric(frame[column]).astype('Int64')
        elif column in NUMBERS:
            frame[column] = pandas.to_numeric(frame[column]).astype(float)
        else:
            frame[column] = frame[column].astype(object).where(frame[column].notna(), '')
    return frame


def _find(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """Folders that look like runs, and those that do not, with their paths below the folder."""
    found, others = find_runs(folder)
    return found, [Skipped(os.path.relpath(place, folder), reason) for place, reason in others]


def _tests(start: Path) -> list[Test]:
    """The test whose results are in the folder of a start, by `tools/test.py` or a library's own; or none."""
    file = start / f'{start.name}.json'
    if not file.is_file():
        return []
    noted = start / 'tested.json'
    try:
        metrics = json.loads(read_text(file))
        tested = json.loads(read_text(noted)) if noted.is_file() else {}
        config = reading.read_config(_dumped(start))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f'a test whose results cannot be read: {error}') from error
    if not all(isinstance(one, dict) for one in (metrics, tested, config.get('model'))):
        raise Unreadable('a test whose results cannot be read: expected metrics, and a config with a model')
    for metric, value in metrics.items():
        if isinstance(value, int | float):
            _checked(dict(metric=metric, value=value))
    test = Test(metrics, str(config.get('load_from') or ''), config, start.name, tested.get('images'))
    _checked(dict(images=test.images))
    _run_of(test.checkpoint, {})
    return [test]


def _dumped(start: Path) -> Path:
    """The config of a test.

    Raises:
        Unreadable: If there is none.
    """
    file = start / 'vis_data/config.py'
    if file.is_file():
        return file
    # With its visualizer elsewhere, as mmsegmentation's tools/test.py --show-dir puts it: that of the folder is the last's.
    others = sorted(start.parent.glob('*.py'))
    if len(others) == 1 and reading.starts_in(start.parent)[-1] == start:
        return others[0]
    raise Unreadable('a test without its config (vis_data/config.py): of which checkpoint and data it is, is not known')


def _of_an_earlier_run(test: Test, owner: LoggedRun) -> bool:
    """Whether a test was made before a run began anew in the folder of the one that wrote its checkpoint."""
    return owner.anew is not None and owner.anew[0] <= test.start < owner.anew[1]


def _not_counted(test: Test, owner: LoggedRun) -> str | None:
    """Why a test is in no table, if it is in none."""
    if _of_an_earlier_run(test, owner):
        return f'a test from before {owner.name} began anew: it is of an earlier run'
    if is_part(test.config.get('test_dataloader')):
        data = images_named(test.config['test_dataloader'])
        return f'a test on a part of the data ({data}): its rows have the split test-part, and it is in no table'
    if changed := _changed(test, owner):
        return (f"a test with other settings than the run's ({changed[0]}): its rows have the split test-other, and it is "
                'in no table')
    return None


def _changed(test: Test, owner: LoggedRun) -> list[str]:
    """The settings of testing that are not the run's, if those are known: of the pipeline, and the model's `test_cfg`."""
    if owner.tested or _is_tta(test):
        return []
    own, other = (settings_of(config, None) for config in (owner.config, test.config))
    return sorted(key for key in own.keys() | other.keys()
                  if re.match(r'test_pipeline|model(\.\w+)*\.test_cfg\b', key) and own.get(key) != other.get(key))


def _run_of(checkpoint: str, found: dict[Path, LoggedRun]) -> LoggedRun | None:
    """The run that wrote a checkpoint, also if its folder was moved with those above it."""
    folder = Path(os.path.abspath(checkpoint)).parent
    if not checkpoint or folder in found:
        return found.get(folder)
    moved = [run for run in found.values() if run.name != '.' and f'{folder}'.endswith(f'/{run.name}')]
    if os.path.isdir(folder):  # one of that name elsewhere, unless what is here is a copy of it
        with suppress(OSError):
            there = {start.name for start in reading.starts_in(folder)}
            moved = [run for run in moved if there & {start.name for start in reading.starts_in(run.folder)}]
    return max(moved, key=lambda run: len(run.name), default=None)


def _facts(run: LoggedRun, found: dict[Path, LoggedRun]) -> tuple[dict, dict]:
    """The columns that all rows of a run share, and its settings as a flat dict."""
    config, provenance, environment = run.config, run.provenance, run.environment
    task = task_of(config)
    backbone_cfg = config['model'].get('backbone') or {}
    global_batch = provenance.get('images_per_update') or _global_batch(config, environment['world_size'])
    settings = settings_of(config, global_batch)
    if task == 'pretraining':
        origin, before = _own_origin(run), run
        hashed = hash_of(settings)
    else:
        origin, before = _origin(run, found)
        if origin:
            settings |= {f'pretraining.{key}': origin.get(key) for key in (*MASKING, 'images_per_update')}
            settings['pretraining.method'] = origin.get('algorithm')
            settings['pretraining.epochs'] = origin.get('epochs') or origin.get('iters')
        hashed = hash_of(settings)
        if before:
            more = settings_of(before.config, before.provenance.get('images_per_update'))
            settings |= {f'pretraining.{key}': value for key, value in more.items()}
    image_size = reading.image_size_of(config)
    written = next(iter(sorted(run.folder.glob('*.py'))), None)
    facts = dict(
        run=run.name, task=task, status=run.status,
        dataset=reading.dataset_of(config, provenance.get('images')),
        seed=environment['seed'] if environment['seed'] is not None else find_key(config.get('randomness'), 'seed'),
        method=_method(origin, config),
        backbone=reading.backbone_of(type_name(backbone_cfg), backbone_cfg.get('arch'), backbone_cfg),
        pretrain_epochs=origin.get('epochs'),
        pretrain_seed=origin.get('seed') if before is not run else None,
        pretrain_schedule=origin.get('max_epochs') or (before.epochs if before else None),
        pretrain_dataset=reading.dataset_of(before.config, before.provenance.get('images')) if before else _by_root(origin),
        pretrain_run=before.name if before and before is not run else None,
        **{key: origin.get(key) for key in MASKING},
        epochs=run.epochs,
        iterations=run.iterations,
        image_size=image_size if isinstance(image_size, int) else None,
        frozen_stages=max(0, backbone_cfg.get('frozen_stages') or 0),
        world_size=environment['world_size'],
        device=environment['device'],
        versions=', '.join(f'{name} {version}' for name, version in (environment['versions'] or {}).items()),
        global_batch=global_batch,
        hours=run.hours,
        peak_memory_gb=run.peak_memory_gb,
        config=_beside(run, written) if written else provenance.get('config'),
        config_hash=hashed,
        command=provenance.get('command'),
        checkpoint=run.checkpoint and _beside(run, run.checkpoint),
        log=run.log and _beside(run, run.log))
    return facts, {key: json.dumps(value, default=str) for key, value in settings.items()}


def _own_origin(run: LoggedRun) -> dict:
    """What a pre-training will be to a backbone from it, also if it is a library's own, which notes nothing."""
    model = run.config['model']
    complement = (model.get('complement') or 'frozen') if type_name(model) == 'CoMA' else None
    if any(step.get('pair') == 'independent' for step in find_types(run.config.get('train_dataloader'), 'PatchMask')):
        complement = 'independent'  # as `ProvenanceHook` has it
    facts = dict(_masking(run.config), algorithm=type_name(model), complement=complement)
    facts |= {key: value for key, value in run.provenance.items() if value is not None}
    return dict(facts, epochs=run.epochs)


def _masking(config: dict) -> dict:
    """What a config says of masking and decoding; what it leaves to a class is not known, as nothing of it is built here."""
    model = config['model']
    transform = next(find_types((config.get('train_dataloader') or {}).get('dataset'), 'PatchMask'), None)
    sampler = (transform or {}).get('sampler') or {}
    parts = [part for part in (model.get('decoder'), model.get('neck')) if isinstance(part, dict)]
    decoder = next((part for part in parts if 'Decoder' in type_name(part)), {})
    return dict(
        mask_ratio=find_key(model, 'mask_ratio') if transform is None else sampler.get('ratio'),
        mask_sampler=type_name(sampler) or None,
        decoder=type_name(decoder) or None,
        decoder_depth=decoder.get('depth', decoder.get('decoder_depth')))


def _origin(run: LoggedRun, found: dict[Path, LoggedRun]) -> tuple[dict, LoggedRun | None]:
    """The provenance of a run's backbone, or nothing, and the run that made it, if that is here."""
    origin = run.provenance.get('backbone_from') or {}
    before = _run_of(origin.get('checkpoint') or _pretrained(run.config), found)
    if not before:
        return origin, None
    own = _own_origin(before)
    if not origin:  # a library's own tools note nothing: the folder of the checkpoint tells
        number = Path(_pretrained(run.config)).stem.removeprefix('epoch_')
        origin = dict(algorithm=own['algorithm'], epochs=int(number) if number.isdigit() else None)
    elif origin.get('algorithm', own['algorithm']) != own['algorithm']:
        return origin, None  # another run has taken its place
    # What checkpoints of older versions lack.
    return dict(origin, **{key: own[key] for key in MASKING if origin.get(key) is None}), before


def _beside(run: LoggedRun, path: Path) -> str:
    return os.path.normpath(os.path.join(run.name, path.relative_to(run.folder)))


def _global_batch(config: dict, world_size: int | None) -> int | None:
    counts = (config.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if counts == 'auto':
        return (config.get('auto_scale_lr') or {}).get('base_batch_size')
    batch = (config.get('train_dataloader') or {}).get('batch_size')
    return batch * world_size * counts if batch and world_size else None


def _pretrained(config: dict) -> str:
    """The checkpoint that a config takes its backbone from, or nothing."""
    init = (config['model'].get('backbone') or {}).get('init_cfg')
    found = next((one for one in (init if isinstance(init, list) else [init])
                  if isinstance(one, dict) and one.get('type') == 'Pretrained'), {})
    started = '' if config.get('resume') else config.get('load_from') or ''
    return found.get('checkpoint') or started


def _method(origin: dict, config: dict) -> str:
    """The pre-trainings that a backbone went through, the first one first; 'scratch'; or 'unknown'."""
    names = []
    while origin:
        algorithm = origin.get('algorithm') or 'unknown'
        names.append(reading.METHODS.get(algorithm, algorithm))
        origin = origin.get('backbone_from')
    if not names:
        return 'unknown' if _pretrained(config) else 'scratch'
    return ' → '.join(reversed(names))


def _by_root(origin: dict) -> str | None:
    """The name of the data of a pre-training whose run is not at hand, as far as its folder and their number tell."""
    root = origin.get('data_root')
    config = dict(train_dataloader=dict(dataset=dict(type='ImageFolder', data_root=root)))
    return reading.dataset_of(config, origin.get('images')) if root else None


def _rows(run: LoggedRun, facts: dict) -> list[dict]:
    """A row for each metric of a run: its last training loss, its last validation, its last test of each checkpoint and
    set of images."""
    rows = []
    final = (f'epoch_{run.epochs}.pth', f'iter_{run.iterations}.pth')
    # A run that has ended, but whose last validation is missing: what there is, is of a model that was not the last.
    early = run.status == 'finished' and run.val.get('logged_step', 0) < (run.epochs or run.iterations or 0)

    def add(entry, split, step, loader=None, images=None, **others):
        others['data'], others['images'] = images_named(loader), images
        metrics = {key: value for key, value in entry.items() if isinstance(value, int | float) and key not in NOT_METRICS}
        if facts['task'] == 'detection' and split != 'train' and not any(key.startswith('coco/') for key in metrics):
            # A detector that finds nothing: mmdetection writes no metric then.
            metrics = {f'coco/{kind}_mAP': 0. for kind in find_key(run.config.get('val_evaluator'), 'metric') or ()}
        for metric, value in metrics.items():
            if metric.startswith('coco/') and value == -1:  # COCO's sign for no object of that size
                continue
            row = {**facts, **others, 'split': split, 'step': step, 'metric': metric,
                   'value': value * 100 if metric.startswith('coco/') else value}
            counts = split == 'val' and not early or split == 'test' and Path(row['checkpoint']).name in final
            row['cell'] = '; '.join(_cells(row)) if counts and not is_part(loader) else ''
            rows.append(row)

    if 'loss' in run.train:
        add({'loss': run.train['loss']}, 'train', run.train['step'])
    if run.val:
        add(run.val, 'val', run.val['step'], run.config.get('val_dataloader'), run.provenance.get('val_images'))
    for (*_, split), test in {(test.checkpoint, *_data(test), _split(test, run)): test for test in run.tests}.items():
        add(test.metrics, split, None, test.config.get('test_dataloader'), test.images,
            checkpoint=os.path.normpath(os.path.join(run.name, Path(test.checkpoint).name)))
    return rows


def _data(test: Test) -> tuple[str, int | None]:
    return images_named(test.config.get('test_dataloader')), test.images


def _split(test: Test, owner: LoggedRun) -> str:
    if _changed(test, owner):
        return 'test-other'
    if is_part(test.config.get('test_dataloader')):
        return 'test-part'
    return 'test-tta' if _is_tta(test) else 'test'


def _is_tta(test: Test) -> bool:
    return type_name(test.config['model']).endswith(('TTAModel', 'TTA'))


def _cells(row: dict) -> list[str]:
    """The cells of the paper's tables that a row belongs to, and those of the table on CoMA-Shapes."""
    if row['task'] == 'pretraining':
        return []
    if row['dataset'] == 'CoMA-Shapes' and not row['frozen_stages']:
        return [f'shapes/{row["task"]}/{row["method"]}']
    whole = reading.EVALUATED.get(row['dataset'])
    if whole and row['images'] and abs(row['images'] - whole) > whole / 100:  # the paper's numbers are of all images
        return []
    return cells_of(row, row['metric'])


def _variants(frame: pandas.DataFrame, settings: dict) -> list[str]:
    """For rows whose cell has runs with other settings, given as JSON: those that differ, and this run's values of them."""
    variants = [''] * len(frame)
    for _, group in frame[frame['cell'] != ''].groupby(['cell', 'metric']):
        names = list(dict.fromkeys(group['run']))
        # Top-level keys first. What is not known of a pre-training is no difference.
        keys = sorted({key for name in names for key in settings[name]}, key=lambda key: (key.count('.'), key))
        keys = [key for key in keys
                if not key.startswith('pretraining.') or all(key in settings[name] for name in names)]
        differing = [key for key in keys if len({settings[name].get(key, 'null') for name in names}) > 1]
        for index, name in zip(group.index, group['run'], strict=True):
            variants[index] = ', '.join(f'{key}={settings[name].get(key, "null")}' for key in differing)
    return variants


def _is_formula(text: Any) -> bool:
    return isinstance(text, str) and bool(re.match(r'[=+\-@\t\r](?![\d.]+$)', text))


def to_csv(frame: pandas.DataFrame, float_format: str | None = None) -> str:
    """A table as CSV, in which a spreadsheet finds no formula: an apostrophe is put before a text that begins as one."""
    frame = frame.copy()
    for number, kind in enumerate(frame.dtypes):
        if not pandas.api.types.is_numeric_dtype(kind):
            frame.isetitem(number, [f"'{value}" if _is_formula(value) else value for value in frame.iloc[:, number]])
    return frame.to_csv(index=False, float_format=float_format)


def write(frame: pandas.DataFrame, path: str | Path) -> None:
    """Write the tidy file, whole or not at all."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_csv(frame, '%.6g'))


def read(path: str | Path) -> pandas.DataFrame:
    """The tidy file again.

    Raises:
        UserError: If it is not there, or is none.
    """
    try:
        frame = pandas.read_csv(path)
        if missing := [column for column in COLUMNS if column not in frame]:
            raise ValueError(f'it has no column {missing[0]}')
        for column in frame.select_dtypes(exclude='number'):
            frame[column] = [value[1:] if isinstance(value, str) and value[0] == "'" and _is_formula(value[1:]) else value
                             for value in frame[column]]
        return _typed(frame)
    except (OSError, ValueError) as error:
        raise UserError(f'cannot read {path}: {error}; expected what tools/benchmark.py collect writes') from error


def run(args):
    """Collect."""
    frame, skipped = collect(args.work_dirs)
    out = args.out or Path(args.work_dirs, 'benchmark', RUNS)
    write(frame, out)
    for one in skipped:
        print(f'skipped {one.path}: {one.reason}')
    if frame.empty:
        print(HOW_TO_FILL)
    states = ', '.join(f'{count} {state}' for state, count in frame.drop_duplicates('run')['status'].value_counts().items())
    print(f'{out}: {frame["run"].nunique()} runs{f" ({states})" if states else ""}, {len(frame)} rows, '
          f'{len(skipped)} folders skipped')
