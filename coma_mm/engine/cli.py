"""What the tools share: one clear line for bad input, exit code 2, nothing left behind by a run that never began."""
import argparse
import inspect
import json
import logging
import os
import re
import shutil
import sys
import textwrap
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.registry import OPTIMIZERS
from mmengine.utils.dl_utils import set_multi_processing
from torch import distributed

from coma_mm.config.check_keys import nearest
from coma_mm.config.data_roots import check_data_roots
from coma_mm.config.read import environment_variables, is_first_process
from coma_mm.errors import SharedError, UserError
from coma_mm.files import write_whole
from coma_mm.weights import safe_pickle

from .hooks.stop import EXIT_STOPPED, Stopped
from .runner import ComaRunner
from .terminal import quieten


class ParseOptions(DictAction):
    """mmengine's action for ``KEY=VALUE``, with an error in one line where the text is none."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse."""
        for value in values:
            key, equals, _ = value.partition('=')
            try:
                if not key or not equals:
                    raise ValueError('no KEY=VALUE')
                super().__call__(parser, namespace, [value], option_string)
            except (ValueError, AssertionError, RecursionError) as error:
                raise argparse.ArgumentError(
                    self, f'cannot read {value!r}; expected KEY=VALUE, where a value is a number, a name or a list like '
                    '[1,2] (dicts: one KEY.SUBKEY=VALUE for each entry)') from error


class _Trust(argparse.Action):
    """Allows what `safe_pickle` refuses, for the whole process."""

    def __call__(self, *_):
        safe_pickle.trusted = True


def add_trust_argument(parser):
    """Add the option of every tool that reads a checkpoint.

    Args:
        parser (ArgumentParser): Of a tool.
    """
    parser.add_argument('--trust-checkpoint', action=_Trust, nargs=0,
                        help='also read checkpoints and pickles that run code of their own; only for files whose author '
                        'you trust like a program\'s')


def add_common_arguments(parser):
    """Add the options of both tools, as people know them from the three libraries.

    Args:
        parser (ArgumentParser): Of a tool.
    """
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG_NAME)')
    add_config_arguments(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='how the processes were started: pytorch stands for torchrun')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def add_config_arguments(parser):
    """Add the options that change a config, of every tool that reads one.

    Args:
        parser (ArgumentParser): Of a tool.
    """
    parser.add_argument('--data-root', metavar='PATH', help="folder of the data set, instead of the config's data_root")
    parser.add_argument('--cfg-options', nargs='+', action=ParseOptions, metavar='KEY=VALUE',
                        help='settings that replace those of the config; merged last')
    add_trust_argument(parser)


def add_probe_arguments(parser):
    """Add what the tools share that look at frozen features.

    Args:
        parser (ArgumentParser): Of a tool.
    """
    parser.add_argument('config', metavar='CONFIG', help='of a classifier: its backbone, its train and test data')
    parser.add_argument('checkpoint', metavar='CHECKPOINT',
                        help='with the weights of that backbone: pre-trained, fine-tuned, or exported')
    add_config_arguments(parser)
    parser.add_argument('--amp', action='store_true', help='compute the features in bf16')
    parser.add_argument('--out', metavar='FILE.json', help='write the metrics to a file')


def write_metrics(metrics, path):
    """Write a JSON file, whole or not at all.

    Args:
        metrics (dict): Of what JSON knows, and numbers of any type.
        path (str): The file; its folder is made.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(metrics, indent=2, default=float) + '\n')


def run(cfg, job, splits=()):
    """Build a runner and do a job with it.

    Args:
        cfg (Config): From `read_config`.
        job (Callable): Takes the runner.
        splits (Sequence[str]): Which of 'train', 'val' and 'test' the job needs, to look for their data before anything
            is built. Defaults to ().

    Returns:
        Any: What `job` returns.
    """
    before = _entries(cfg.work_dir)
    os.environ.setdefault('LOCAL_RANK', '0')
    runner = None
    try:
        with variables_named(cfg):
            check_data_roots(cfg, splits)
            runner = ComaRunner.from_cfg(cfg)
            return job(runner)
    except Exception as error:
        # In a loop the processes see different data, so an error may be that of a single one.
        error.of_one_process = bool(runner and runner.in_loop) and not isinstance(error, SharedError)
        error.at_start = not (runner and runner.trained)
        if explain(error) and not (runner and runner.trained):
            _remove_new(cfg.work_dir, before)
        raise


@contextmanager
def variables_named(cfg):
    """While it is entered: an error that is the user's to mend names the config's environment variable behind it.

    Args:
        cfg (Config): From `read_config`.
    """
    try:
        yield
    except Exception as error:
        if line := explain(error):
            error.hint = _variable_hint(cfg, line)
        raise


def _variable_hint(cfg, line):
    """str: Which environment variable of the config's files an error in `line` is about, or ''."""
    for name, default, rest in environment_variables(cfg):
        value = os.environ.get(name, default)
        path = (value + rest).rstrip('/')
        # As a path: a word alone, like data, may have another meaning.
        end = r'(?![\w-])' if re.search('[/.]', path) else '/'
        if value and re.search(rf'(?<![\w./-]){re.escape(path)}{end}', line):
            how = 'is set to' if name in os.environ else 'is not set, which stands for'
            return f' (the environment variable {name} {how} {value})'
    return ''


def _entries(folder):
    return set(os.listdir(folder)) if os.path.isdir(folder) else None


def _remove_new(folder, before):
    """Remove what appeared in a folder, and the folder itself, with parents left empty, if it was not there."""
    if not is_first_process() or not os.path.isdir(folder):
        return
    if before is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for name in _entries(folder) - before:
        path = os.path.join(folder, name)
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.remove(path)


def main(tool):
    """Run a tool: bad input ends it with one line on stderr and exit code 2, other errors with their traceback.

    Before an iteration was done any error counts as bad input. A run that was asked to stop ends with `EXIT_STOPPED`.

    With `COMA_MM_DEBUG=1` in the environment the traceback is shown for both.

    Args:
        tool (Callable): Takes no argument.
    """
    quieten()
    logging.raiseExceptions = False  # else a traceback for each line that a full disk keeps out of the log file
    try:
        tool()
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        _exit(130)
    except SystemExit as leaving:  # argparse: an option that there is not; --help
        _exit(leaving.code or 0)
    except Stopped as stopped:
        if is_first_process():
            print(stopped, file=sys.stderr)
        _exit(EXIT_STOPPED)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        if os.environ.get('COMA_MM_DEBUG', '0') != '0':
            traceback.print_exc()
        if is_first_process() or getattr(error, 'of_one_process', False):
            print(f'error: {line}{getattr(error, "hint", "")}', file=sys.stderr)
        _exit(2)


def _exit(code):
    """Exit; under tools/torchrun.py, whose own exit code is 1 for any failure, leave it a note."""
    if note := os.environ.get('COMA_MM_EXIT_CODE'):
        with suppress(OSError), open(note, 'a', encoding='utf-8') as file:  # OSError: a full disk
            file.write(f'{code}\n')  # the first line, the first process's reason, is that of the run
    sys.exit(code)


def explain(error):
    """One line for an error that is the user's to mend.

    Args:
        error (Exception): From anywhere below a tool.

    Returns:
        str | None: The line, without control characters, whatever a file's name or content brought into it; None for any
        other error.
    """
    line = _explain(error)
    return line and ''.join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def _explain(error):
    text = str(error)
    if 'Original Traceback' in text:  # a data loader's worker puts its whole traceback into the message
        text = text.strip().splitlines()[-1].partition(': ')[2]
    if isinstance(error, UserError):
        return text
    if isinstance(error, distributed.DistError) or 'gloo/transport' in text:  # another process died; that is no bad input
        return None
    if isinstance(error, FileNotFoundError):
        path = error.filename or (re.findall(r"'([^']+)'", text) or [text])[-1]
        return f'no such file or folder: {path}; check data_root, ann_file and data_prefix in the config'
    if (line := _explain_data_set(error)):
        return line
    if isinstance(error, AssertionError) and text.startswith('failed to load image'):
        return f'{text}; replace or remove the file, or load images with LoadImage, which can skip it'
    if isinstance(error, AssertionError) and text.startswith('The image size in a batch should be the same'):
        return ('the images of a validation or test batch differ in size; take val_dataloader.batch_size=1 (and '
                'test_dataloader.batch_size=1), or a pipeline that makes them equal')
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU's memory is full; take a smaller train_dataloader.batch_size, or --amp"
    if isinstance(error, KeyError) and (line := _explain_unknown_type(error)):
        return line
    if isinstance(error, TypeError) and (line := _explain_arguments(error, text)):
        return line
    return _explain_start(error, text) if getattr(error, 'at_start', False) else None


def _explain_start(error, text):
    """str: The line for any other error before an iteration was done: most are of a setting of a wrong type or value."""
    frames = _frames(error)
    what, place = 'the run fails at its start', '?'
    if frames:
        place = f'{frames[0].f_globals.get("__name__")}.{frames[0].f_code.co_name}'
    for frame in frames:
        if frame.f_code.co_name == 'build_from_cfg' and 'obj_cls' in frame.f_locals:
            built, settings = frame.f_locals['obj_cls'], frame.f_locals['args']
        elif frame.f_code.co_name == 'build_dataloader' and 'dataloader_cfg' in frame.f_locals:
            built, settings = torch.utils.data.DataLoader, frame.f_locals['dataloader_cfg']
        else:
            continue
        own = [f'{key}={value!r}' for key, value in settings.items()  # a nested one that fails has a line of its own
               if isinstance(value, (str, int, float, tuple, type(None)))]
        what = f'{built.__name__} cannot be built with its settings ({_short(", ".join(own))})'
        break
    return (f'{what}: {type(error).__name__}: {_short(text) or "no reason given"} (in {place}); check the config; '
            'COMA_MM_DEBUG=1 shows the traceback')


def _short(text):
    return textwrap.shorten(text, 300, placeholder=' …')


_SETTINGS = {
    'Runner.set_randomness': ComaRunner.set_randomness,
    'set_multi_processing': set_multi_processing,
}
"""What reads the settings in `randomness` and `env_cfg.mp_cfg`: functions, not classes."""


def _frames(error):
    """list: The frames of an error's traceback, innermost first."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]


def _explain_data_set(error):
    """str | None: The line for an error in reading a data set's list of samples, which the libraries raise as any type."""
    for frame in _frames(error):
        if frame.f_code.co_name == 'full_init' and 'self' in frame.f_locals:
            break
    else:
        return None
    data = frame.f_locals['self']
    places = [data.ann_file] if getattr(data, 'ann_file', None) else [*(getattr(data, 'data_prefix', None) or {}).values()]
    where = ', '.join(map(str, places)) or getattr(data, 'data_root', '?')
    name = type(data).__name__
    if 'load_data_list' not in {inner.f_code.co_name for inner in _frames(error)}:  # serialising nothing failed
        return (f'{name} finds no sample in {where}; expected files as the config describes them: check data_root, '
                'ann_file, data_prefix, suffixes, and that metainfo.classes are the names in the annotations')
    return f'{name} cannot read {where}: {type(error).__name__}: {" ".join(str(error).split())}'


def _explain_unknown_type(error):
    match = re.match(r"['\"]?(\S+) is not in the (\S+)::(.+?) registry", str(error))
    if not match:
        untyped = re.search(r'must contain the key "type", but got (.*?)(?:\\n|$)', str(error))
        return untyped and f'a config needs the key type: {untyped.group(1)}; is the name of its key misspelt?'
    name, _, kind = match.groups()
    return _unknown_type(name, kind, next(
        (frame.f_locals['registry'] for frame in _frames(error) if frame.f_code.co_name == 'build_from_cfg'), None))


def _unknown_type(name, kind, registry):
    known = {}
    if registry is not None:
        root = registry._get_root_registry()
        for library in (*root.children.values(), root, registry):  # the later ones win
            prefix = '' if library in (root, registry) else f'{library.scope}.'
            known.update({key: prefix + key for key in library.module_dict})
    close = nearest(name.rpartition('.')[2], known)
    return f'type={name!r}: there is no {kind} of that name' + (f'; did you mean {known[close]!r}?' if close else
                                                               '; check its spelling and custom_imports')


def _explain_arguments(error, text):
    unexpected = re.search(r"([\w.]+)\(\) got an unexpected keyword argument '(\w+)'", text)
    missing = re.search(r"([\w.]+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)", text)
    if not (unexpected or missing):
        # mmengine looks an optimiser's class up without checking that there is one.
        for frame in _frames(error):
            if frame.f_locals.get('optimizer_cls', ...) is None and 'optimizer_cfg' in frame.f_locals:
                return _unknown_type(frame.f_locals['optimizer_cfg']['type'], 'optimizer', OPTIMIZERS)
        return None
    name = (unexpected or missing).group(1).split('.')[0]
    built = _class_being_built(error, name) or _SETTINGS.get((unexpected or missing).group(1))
    if built is None:  # a wrong call somewhere in the code, not a config
        return None
    if missing:
        return f'{built.__name__} needs the key {missing.group(2)}, which its config lacks'
    key = unexpected.group(2)
    close = nearest(key, _parameters(built), cutoff=0.5)
    return f'{built.__name__} has no key {key!r}' + (f'; did you mean {close!r}?' if close else '')


def _class_being_built(error, name):
    """type | None: The class whose config was being built when a call of `name` failed."""
    for frame in _frames(error):
        if frame.f_code.co_name == 'build_from_cfg' and 'obj_cls' in frame.f_locals:
            built = frame.f_locals['obj_cls']
            return built if name in [one.__name__ for one in getattr(built, '__mro__', [built])] else None
        if frame.f_code.co_name == 'build_scheduler_from_cfg' and name.endswith('Scheduler'):
            return frame.f_locals['scheduler_cls']
        if frame.f_code.co_name == 'build_dataloader' and name == 'DataLoader':
            return torch.utils.data.DataLoader
    return None


def _parameters(built):
    """set[str]: The arguments of a class, its parents' included, as far as it passes others on."""
    names = set()
    for one in getattr(built, '__mro__', [built]):
        try:
            parameters = inspect.signature(one.__init__ if inspect.isclass(one) else one).parameters
        except (TypeError, ValueError):
            continue
        kinds = {key: value.kind for key, value in parameters.items()}
        rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= {key for key, kind in kinds.items() if kind not in rest}
        if inspect.Parameter.VAR_KEYWORD not in kinds.values():
            break
    return names - {'self'}
