"""What the tools share: one clear line for bad input, exit code 2, nothing left behind by a run that never began."""
import argparse
import logging
import os
import sys
import traceback
from contextlib import suppress

from mmengine.config import DictAction

from coma_mm.config.read import is_first_process
from coma_mm.weights import safe_pickle

from .explain import explain
from .hooks.stop import EXIT_STOPPED, Stopped
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
