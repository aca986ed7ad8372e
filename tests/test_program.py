"""Commands end at once, and only when all is done that is to be done at the end."""
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import coma_mm
from coma_mm import commands, program
from coma_mm.commands import exit_with
from coma_mm.errors import UserError

ROOT = Path(__file__).parents[1]
COMMAND = """
import atexit, gc, sys
sys.argv = ['coma-mm']  # so that the package takes this for a command, and imports nothing that takes long
from coma_mm import commands, program
from coma_mm.errors import UserError

class Object:
    def __del__(self):
        print('taken apart')

def fail(error):
    raise error

held = Object()
program.keep_what_is_imported()
atexit.register(lambda: print('at the end', gc.get_freeze_count() > 0))
commands.exit_with(lambda: {})
"""


@pytest.mark.parametrize('job, code, out', [
    ('print("done")', 0, 'done\nat the end True\n'),
    ('sys.exit(3)', 3, 'at the end True\ntaken apart\n'),
    ('fail(UserError("wrong"))', 2, 'at the end True\n')])
def test_a_command_does_what_is_to_be_done_at_the_end_and_ends_without_being_taken_apart(job, code, out):
    ran = subprocess.run([sys.executable, '-c', COMMAND.format(job)], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (code, out), ran.stderr


@pytest.mark.parametrize('at_start, codes', [(True, [2]), (False, [])])
def test_a_training_that_fails_midway_is_taken_apart_as_ever(monkeypatch, at_start, codes):
    """A library may write the rest of a file only then."""
    def fail():
        error = UserError('wrong')
        error.at_start = at_start
        raise error

    ends = []
    monkeypatch.setattr(program, 'end_soon', ends.append)
    with pytest.raises(SystemExit, match='2'):
        exit_with(fail)
    assert ends == codes


def test_what_is_printed_arrives_whole():
    ran = subprocess.run([sys.executable, '-c', COMMAND.format('print("x" * 100_000)')], cwd=ROOT, capture_output=True)
    assert ran.stdout.startswith(b'x' * 100_000 + b'\n')


@pytest.mark.parametrize('unbuffered, job, code, said', [
    ('', 'print("x")', 2, 'error: no space'), ('', 'commands._Parser().parse_args(["--help"])', 2, 'error: no space'),
    ('1', 'print("x")', 2, 'error: no space'), ('1', 'commands._Parser().parse_args(["--help"])', 2, 'error: no space'),
    ('', '[print("x"), fail(commands.Stopped("stopped"))]', 75, 'stopped')])
def test_a_full_disk_that_takes_no_output_is_one_line_and_an_exit_code(unbuffered, job, code, said):
    explain = 'commands._explain = lambda error: print("what is imported") or "no space"\n'
    with open('/dev/full', 'w') as full:
        ran = subprocess.run([sys.executable, '-c', COMMAND.format(job).replace('held =', explain + 'held =')], cwd=ROOT,
                             stdout=full, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, 'PYTHONUNBUFFERED': unbuffered})
    assert (ran.returncode, ran.stderr) == (code, f'{said}\n')


def test_an_error_is_explained_by_libraries_that_the_command_has_not_imported(monkeypatch):
    """One that reads folders alone, of which an unexpected error says that a library has no attribute models."""
    registered = []
    monkeypatch.setattr(coma_mm, 'register', lambda: registered.append(True))
    assert commands._explain(ZeroDivisionError('division by zero')) is None
    assert registered


def test_an_exit_code_does_not_depend_on_a_full_disk_for_messages():
    with open('/dev/full', 'w') as full:
        ran = subprocess.run([sys.executable, '-c', COMMAND.format('fail(UserError("wrong"))')], cwd=ROOT, stderr=full)
    assert ran.returncode == 2


def test_importing_collects_no_garbage_and_leaves_the_collector_as_it_was():
    with program.collect_no_garbage():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with program.collect_no_garbage():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_program_that_only_uses_the_package_keeps_its_garbage_collector():
    gc.unfreeze()  # what an earlier test froze: some of it may go meanwhile, which lowers the count
    program.keep_what_is_imported()
    assert gc.get_freeze_count() == 0
