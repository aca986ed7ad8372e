"""The jobs of `tools/train.py` and `tools/test.py`: a run starts here."""
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from torch import nn

from coma_mm.config.data_roots import check_data_roots
from coma_mm.config.evaluated import images_named
from coma_mm.config.read import environment_variables, need, say
from coma_mm.config_tree import find_key
from coma_mm.errors import SharedError, UserError, first_names
from coma_mm.files import made_folder, write_metrics, write_whole
from coma_mm.locks import locked
from coma_mm.processes import is_first_process
from coma_mm.weights.load import latest_checkpoint, load_weights_only

from .ending import note_ending
from .explain import explain, is_missing
from .hooks import RUN_HOOKS, TEST_HOOKS
from .models import unwrap
from .runner import ComaRunner
from .summary import short


def train(cfg: Config, hooks: Sequence[dict] = (), overwrite: bool = False, extend: bool = False) -> nn.Module:
    """Train as a config says, with the hooks of `RUN_HOOKS` added; no other run does in the same folder meanwhile.

    Args:
        cfg (Config): From `read_config`.
        hooks (Sequence[dict]): Configs of more hooks. Defaults to none.
        overwrite (bool): Whether a new run may start among the checkpoints of an earlier one. Defaults to False.
        extend (bool): Whether a run that is resumed goes on with the schedules of the config, which is of another length.
            Defaults to False.

    Returns:
        nn.Module: The trained model.

    Raises:
        UserError: If the config is not one for training, a checkpoint cannot be read, or the folder is another run's;
            nothing is written then.
    """
    need(cfg, ('train_dataloader', 'train_cfg', 'optim_wrapper'), 'training')
    # The other processes are of the same run: if the first one is refused, the launcher ends them. Without a launcher each
    # is a run of its own, whatever number the environment gives it.
    is_alone = cfg.get('launcher', 'none') == 'none' or is_first_process()
    with ExitStack() as stack:
        for folder in _folders(cfg) if is_alone else ():
            stack.enter_context(locked(folder))
            if not overwrite and not _goes_on(cfg):
                _check_unused(folder)
        if is_alone and not _goes_on(cfg):
            stack.enter_context(_forgotten(Path(cfg.work_dir, 'last_checkpoint')))
        return _train(cfg, hooks, extend)


def _folders(cfg: Config) -> list[str]:
    """The work dir, and the folder beside it that the checkpoints go to if the config says so."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    out_dir = hook.get('out_dir') if isinstance(hook, dict) else None
    if not isinstance(out_dir, str) or '://' in out_dir:  # a remote one
        return [cfg.work_dir]
    return [cfg.work_dir, os.path.join(out_dir, os.path.basename(os.path.abspath(cfg.work_dir)))]


def _goes_on(cfg: Config) -> bool:
    """Whether the run that is resumed, if any, is that of the work dir, not one elsewhere that branches off."""
    path = cfg.get('load_from')
    return bool(cfg.get('resume')) and (not path or any(
        os.path.realpath(os.path.dirname(path)) == os.path.realpath(folder) for folder in _folders(cfg)))


@contextmanager
def _forgotten(note: Path) -> Iterator[None]:
    """Remove what an older run is resumed by, since a new one that is killed as it starts is to be started anew.

    It comes back if the new run fails at its start.
    """
    content = note.read_bytes() if note.is_file() else None
    note.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        if content is not None and getattr(error, 'at_start', True):
            write_whole(note, content)
        raise


def _check_unused(folder: str) -> None:
    """Raise a UserError if a folder holds checkpoints of an earlier run."""
    found = sorted(path.name for path in Path(folder).iterdir()
                   if path.suffix == '.pth' or path.name == 'last_checkpoint')
    if found:
        raise UserError(f'{folder} holds checkpoints of an earlier run ({first_names(found)}), which this one would '
                        'overwrite: go on with it (--resume), start anew in its place (--overwrite), or choose another '
                        '--work-dir')


def _train(cfg: Config, hooks: Sequence[dict], extend: bool) -> nn.Module:
    if cfg.get('resume') and not cfg.get('load_from'):
        latest = latest_checkpoint(cfg.work_dir)
        say(f'Resuming from {latest}' if latest else
            f'No checkpoint in {cfg.work_dir} to resume from: a new run starts')
        if latest:
            cfg.load_from = latest
            _continue_seed(cfg, _check_checkpoint(latest, resume=True))
    elif cfg.get('load_from'):
        checkpoint = _check_checkpoint(cfg.load_from, resume=cfg.get('resume'))
        if cfg.get('resume'):
            _continue_seed(cfg, checkpoint)
    _add_hooks(cfg, hooks, RUN_HOOKS)

    def job(runner: ComaRunner) -> nn.Module:
        runner.extends = extend
        return runner.train()

    return _run(cfg, job, ('train', 'val'), ('provenance.json', 'last_checkpoint'))


def _add_hooks(cfg: Config, hooks: Sequence[dict], defaults: Sequence[dict]) -> None:
    """Add hooks to those of a config, and `defaults` of types that are not among them."""
    own = [*(cfg.get('custom_hooks') or []), *hooks]
    present = [hook.get('type') for hook in own if isinstance(hook, dict)]
    cfg.custom_hooks = own + [dict(hook) for hook in defaults if hook['type'] not in present]


def test(cfg: Config, out: str | None = None) -> dict[str, float]:
    """Test as a config says.

    Args:
        cfg (Config): From `read_config`, with `load_from` set.
        out (str, optional): A JSON file for the metrics, and `tested`: what they were measured on.

    Returns:
        dict: The metrics.

    Raises:
        UserError: If the config is not one for testing, or the checkpoint cannot be read or is of another model.
    """
    need(cfg, ('test_dataloader', 'test_cfg', 'test_evaluator'), 'testing')
    _check_checkpoint(cfg.load_from)
    _add_hooks(cfg, (), TEST_HOOKS)
    metrics, tested, file = _run(cfg, _test, ('test', ))
    if is_main_process():
        if out:
            write_metrics(dict(metrics, tested=tested), out)
        if files := [short(path) for path in (file, out) if path]:
            print_log(f'Metrics are in {" and ".join(files)}', logger='current')
    return metrics


def _run(cfg: Config, job: Callable[[ComaRunner], Any], splits: Sequence[str], files: Sequence[str] = ()) -> Any:
    """Build a runner and do a job with it.

    Args:
        cfg (Config): From `read_config`.
        job (Callable): Takes the runner.
        splits (Sequence[str]): Which of 'train', 'val' and 'test' the job needs, to look for their data before anything
            is built.
        files (Sequence[str]): What the job's hooks write into the work dir at its start, where no other run does
            meanwhile. Defaults to none.

    Returns:
        Any: What `job` returns.
    """
    new = [path for path in (Path(cfg.work_dir, name) for name in files) if not path.exists()]
    os.environ.setdefault('LOCAL_RANK', '0')
    runner = None
    with made_folder(cfg.work_dir):
        try:
            with variables_named(cfg):
                check_data_roots(cfg, splits)
                runner = ComaRunner.from_cfg(cfg)
                found = job(runner)
            if 'train' in splits and is_first_process():
                note_ending(runner)
            return found
        except Exception as error:
            # In a loop the processes see different data, so an error may be that of a single one.
            error.of_one_process = bool(runner and runner.in_loop) and not isinstance(error, SharedError)
            error.at_start = not (runner and runner.trained)
            if error.at_start and is_first_process() and explain(error):
                _remove_start(runner or getattr(error, 'runner', None), new)
            elif 'train' in splits and (is_first_process() or error.of_one_process):
                note_ending(runner or getattr(error, 'runner', None), error)
            raise


def _remove_start(runner: ComaRunner | None, new: Sequence[Path]) -> None:
    """Remove what a run that failed at its start has written, and nothing else."""
    if runner:
        runner.remove_logs()
        for path in new:
            path.unlink(missing_ok=True)


def _test(runner: ComaRunner) -> tuple[dict[str, float], dict[str, Any], str | None]:
    """The metrics, what they were measured on, which is also written beside mmengine's file of them, and that file."""
    _check_fit(runner)
    metrics = runner.test()
    tested = dict(images=len(runner.test_dataloader.dataset), data=images_named(runner.cfg.test_dataloader),
                  data_root=find_key(runner.cfg.test_dataloader, 'data_root'), checkpoint=runner.cfg.load_from)
    if is_main_process():
        write_whole(Path(runner.log_dir, 'tested.json'), json.dumps(tested, indent=2, default=str))
    file = os.path.join(runner.log_dir, f'{runner.timestamp}.json')
    return metrics, tested, file if os.path.isfile(file) else None


def _check_checkpoint(path: str, resume: bool = False) -> dict:
    """Raise a UserError before anything is written, if a checkpoint cannot be used."""
    checkpoint = load_weights_only(path)
    if resume and not {'optimizer', 'message_hub'} <= checkpoint.keys():
        raise UserError(f'cannot resume from {path}: it holds weights alone, without the state of training; take it as '
                        'load_from without --resume')
    return checkpoint


def _continue_seed(cfg: Config, checkpoint: dict) -> None:
    """A run whose config gives no seed keeps the one that it drew; the data's order depends on it."""
    cfg.setdefault('randomness', {})
    if cfg.randomness.get('seed') is None:
        cfg.randomness.seed = checkpoint['meta'].get('seed')


def _check_fit(runner: ComaRunner) -> None:
    """Raise a UserError if a checkpoint to test is not one of this model: mmengine would test random weights."""
    model = unwrap(runner.model)
    if isinstance(model, BaseTTAModel):
        model = model.module
    own, path = model.state_dict(), runner.cfg.load_from
    checkpoint = load_weights_only(path)
    runner.trained_on = (checkpoint.get('meta') or {}).get('dataset_meta')
    weights = checkpoint['state_dict']
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    for name, value in own.items():
        if name in weights and weights[name].shape != value.shape:
            raise UserError(f'the checkpoint {path} is of another model: {name} has shape {tuple(weights[name].shape)} '
                            f'there and {tuple(value.shape)} here')
    missing = [name for name in own if name not in weights and not name.startswith('data_preprocessor.')]
    if missing:
        raise UserError(f'the checkpoint {path} lacks {len(missing)} of {len(own)} tensors of {type(model).__name__}: '
                        f'{first_names(missing)}; it is of another model')


@contextmanager
def variables_named(cfg: Config) -> Iterator[None]:
    """While it is entered: an error that is the user's to mend names the config's environment variable behind it.

    Args:
        cfg (Config): From `read_config`.
    """
    try:
        yield
    except Exception as error:
        if line := explain(error):
            error.hint = _variable_hint(cfg, line, is_missing(error))
        raise


def _variable_hint(cfg: Config, line: str, missing: bool) -> str:
    """str: Which environment variable of the config's files an error in `line` is about, or ''.

    A folder is to blame if something is missing below it (`missing`), not for what is wrong with a file that is there.
    """
    for name, default, rest in environment_variables(cfg):
        value = os.environ.get(name) or default
        path = (value + rest).rstrip('/')
        # As a path: a word alone, like data, may have another meaning.
        end = r'(?![\w-])' if re.search('[/.]', path) else '/'
        if value and (missing or not os.path.isdir(path)) and re.search(rf'(?<![\w./-]){re.escape(path)}{end}', line):
            how = 'is set to' if os.environ.get(name) else 'is not set, which stands for'
            return f' (the environment variable {name} {how} {value})'
    return ''
