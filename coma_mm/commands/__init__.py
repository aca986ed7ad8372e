"""The subcommands of `coma-mm`, one module each; tools/NAME.py is the familiar way to the same.

A module's docstring is its help text; `add_arguments(parser)` says what it takes, `run(args)` does the work. Neither these
modules nor what they import at their top need torch or the libraries, so that a command line is read at once; what `run`
needs, it imports itself.
"""
import argparse
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn, TextIO

from coma_mm import program
from coma_mm.errors import EXIT_STOPPED, Stopped, UserError, printable, shorten
from coma_mm.processes import is_first_process, leave_when_told_to_stop, note_exit_code

from . import pipes

COMMANDS = ('new', 'train', 'test', 'dist_train', 'dist_test', 'predict', 'export', 'models', 'runs', 'compare', 'report',
            'knn', 'linear_probe', 'visualize', 'export_backbone', 'verify', 'replay', 'check_data', 'pack_dataset',
            'make_shapes', 'doctor', 'benchmark', 'demo', 'study', 'complement_study', 'small_study',
            'make_recipes')


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are, and that takes no empty text for a value."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
                         ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments, of a subcommand too."""
        parsed, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(parsed, action.dest, None)
            if value == '' or isinstance(value, list) and '' in value:
                name = next(iter(action.option_strings), None) or action.metavar or action.dest
                self.error(f'{name}: an empty value is given; is a shell variable in it not set?')
        return parsed, rest

    def print_help(self, file: TextIO | None = None) -> None:
        with suppress(BrokenPipeError):  # argparse passes over a full disk as well
            print(self.format_help(), end='', file=file)

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (\S+): '(.*)': expected", r'\1=\2: expected', message)  # as of a config's values
        raise UserError(f'{message} (see {self.prog} --help)')


def main(command: str | None = None) -> None:
    """Read the command line, run the command and exit.

    Args:
        command (str, optional): One of `COMMANDS`. Defaults to what the command line names first.
    """
    exit_with(lambda: _run(command))


def _run(command: str | None) -> None:
    parser = _Parser(formatter_class=argparse.RawDescriptionHelpFormatter)
    if command:
        fill_parser(parser, import_module(f'{__name__}.{command}'))
    else:
        sys.argv[1:2] = [name if name.startswith('-') else name.replace('-', '_') for name in sys.argv[1:2]]
        sys.argv[0] = parser.prog = 'coma-mm'  # whatever has started it; a run notes its command
        parser.description = 'Pre-train a vision backbone and use it for dense prediction.'
        add_commands(parser, __name__, COMMANDS)
    args = parser.parse_args()
    if args.stops:
        leave_when_told_to_stop()  # also while it imports, which takes seconds
        pipes.outlive_readers()
    if args.registers:
        import coma_mm
        coma_mm.register()
        from coma_mm.engine import terminal
        from coma_mm.weights import safe_pickle
        program.keep_what_is_imported()
        terminal.verbose = getattr(args, 'verbose', False)
        terminal.quieten()
        safe_pickle.trusted = getattr(args, 'trust_checkpoint', False)
    args.run(args)


def add_commands(parser: argparse.ArgumentParser, package: str, names: Iterable[str]) -> None:
    """Give a parser subcommands.

    Args:
        parser (ArgumentParser): Of the program, or of a command.
        package (str): Where the modules of the subcommands are.
        names (Iterable[str]): Of the modules.
    """
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name in names:
        module = import_module(f'{package}.{name}')
        subparser = subparsers.add_parser(name, help=module.__doc__.splitlines()[0].replace('%', '%%'),
                                          formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in sys.argv[1:3]:  # the others need no arguments
            fill_parser(subparser, module)


def fill_parser(parser: argparse.ArgumentParser, module) -> None:
    """Let a module say what its command takes; `args.run` runs it, once everything is registered if it needs that."""
    parser.description = module.__doc__
    if hasattr(module, 'run'):  # else the command's own runs its subcommands
        parser.set_defaults(run=module.run, registers=getattr(module, 'REGISTERS', True),
                            stops=getattr(module, 'STOPS', False))
    module.add_arguments(parser)


def exit_with(job: Callable[[], None]) -> None:
    """Do a job and exit: with one line on stderr and code 2 for bad input, with the traceback for other errors.

    Before an iteration of training was done any error counts as bad input. Later the code is 1 where the machine ran out of
    something, as for errors with a traceback. A run that was asked to stop exits with `EXIT_STOPPED`.
    With `COMA_MM_DEBUG=1` in the environment the traceback is shown for bad input too.

    Args:
        job (Callable): Takes no argument.
    """
    logging.raiseExceptions = False  # else a traceback for each line that a full disk keeps out of the log file
    try:
        _to_its_end(job)
        _part()
        pipes.flush()
        program.end_soon(0)
    except KeyboardInterrupt:
        pipes.say('interrupted')
        _exit(130)
    except SystemExit as leaving:  # argparse: an option that there is not
        _exit(leaving.code)
    except Stopped as stopped:
        pipes.let_go()
        if is_first_process():
            pipes.say(str(stopped))
        _exit(EXIT_STOPPED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and pipes.reader_is_gone():
            pipes.flush()
            sys.exit(pipes.CLOSED)
        pipes.let_go()  # what is imported now may print as well
        line = _explain(error)
        if line is None:
            raise
        if os.environ.get('COMA_MM_DEBUG', '0') != '0':
            traceback.print_exc()
        if is_first_process() or getattr(error, 'of_one_process', False):
            pipes.say(f'error: {shorten(line)}{getattr(error, "hint", "")}')
        if _may_pass(error):
            pipes.let_go()
            sys.exit(1)  # without a note: torchrun starts the processes again
        if getattr(error, 'at_start', True):  # else there may be open files of a training
            program.end_soon(2)
        _exit(2)


def _to_its_end(job: Callable[[], None]) -> None:
    """Do a job; one that exits without a code is done, too: argparse has printed a help text."""
    try:
        job()
    except SystemExit as leaving:
        if leaving.code:
            raise


def _part() -> None:
    """Have the processes of a run part in order: one that just exits may abort in the threads that connect it to others."""
    if 'torch.distributed' in sys.modules:
        from torch import distributed
        if distributed.is_available() and distributed.is_initialized():
            distributed.barrier()
            distributed.destroy_process_group()


def _explain(error: Exception) -> str | None:
    if isinstance(error, UserError) and 'Original Traceback' not in str(error):  # what follows takes seconds to import
        return printable(str(error))
    import coma_mm
    coma_mm.register()  # of commands that do without
    from coma_mm.engine.explain import explain
    return explain(error)


def _may_pass(error: Exception) -> bool:
    """Whether a training that was under way failed by its machine: what is started again may go on."""
    if getattr(error, 'at_start', True):
        return False
    from coma_mm.engine.shortage import explain_shortage
    return explain_shortage(error) is not None


def _exit(code: int) -> None:
    note_exit_code(code)
    pipes.let_go()
    sys.exit(code)
