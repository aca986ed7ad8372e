"""A pool of processes gives what one process gives, and says when one was killed."""
import os
import signal
import subprocess
import sys

import pytest

from coma_mm.errors import EXIT_STOPPED, UserError
from coma_mm.processes import STOP_SIGNALS, check_workers, is_first_process, pool_map


@pytest.mark.parametrize('workers', [1, 2])
def test_results_come_in_the_order_of_the_tasks_and_one_by_one(workers):
    results = pool_map(abs, [-3, -1, -2], workers, 'counting', disable=True)
    assert next(results) == 3 and list(results) == [1, 2]


@pytest.mark.parametrize('variables, first', [
    ({}, True), (dict(RANK='0', SLURM_PROCID='1'), True), (dict(RANK='1'), False), (dict(SLURM_PROCID='1'), False),
    (dict(OMPI_COMM_WORLD_RANK='1', SLURM_PROCID='0'), False)])  # mpirun in a job of Slurm
def test_the_first_process_is_known_before_the_processes_know_of_each_other(monkeypatch, variables, first):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_a_killed_process_is_one_line():
    with pytest.raises(UserError) as error:
        list(pool_map(os._exit, [1, 1], 2, 'reading', disable=True))
    assert str(error.value) == ('reading: a process was killed (out of memory?); run the same command again with fewer '
                                '--workers')


def test_an_error_in_a_process_is_raised_here():
    with pytest.raises(ValueError, match='invalid literal'):
        list(pool_map(int, ['1', 'x'], 2, 'reading', disable=True))


def test_what_was_done_before_counts_in_the_progress(capfd):
    assert list(pool_map(abs, [-1, -2], 2, 'packing', completed=3, unit='files')) == [1, 2]
    out, err = capfd.readouterr()
    assert not out and err == 'packing: 5 of 5 files, done in 0 s\n'


@pytest.mark.parametrize('number', STOP_SIGNALS)
def test_a_signal_before_training_ends_well(tmp_path, number):
    """Also where what is imported catches every exception, and without an import of torch."""
    code = ('import os, signal, sys\n'
            'sys.argv[0] = "coma-mm"\n'  # as which the package is imported in no time
            f'signal.signal({number}, signal.SIG_DFL)\n'  # a shell's background, where tests may run, ignores Ctrl-C
            'from coma_mm.processes import leave_when_told_to_stop\n'
            'leave_when_told_to_stop()\n'
            'assert "torch" not in sys.modules\n'
            'try:\n'
            f'    os.kill(os.getpid(), {number})\n'
            'except BaseException:\n'
            '    pass\n')
    note = tmp_path / 'note'
    done = subprocess.run([sys.executable, '-c', code], env=dict(os.environ, COMA_MM_EXIT_CODE=str(note)), text=True,
                          stderr=subprocess.PIPE)
    line = f'stopped by {signal.Signals(number).name}, not while training: there is nothing to save\n'
    assert (done.returncode, done.stderr) == (EXIT_STOPPED, line)
    assert not note.exists()  # torchrun sends SIGTERM to those, too, that it starts again


def test_more_processes_than_a_machine_bears_are_refused():
    cores = len(os.sched_getaffinity(0))
    check_workers('--workers', max(256, 8 * cores))
    with pytest.raises(UserError, match='train_dataloader.num_workers=100000: expected at most .* rarely more than it has'):
        check_workers('train_dataloader.num_workers', 100_000)
    with pytest.raises(UserError, match='--workers=100000'):
        next(pool_map(abs, [1, 2], 100_000, 'counting', disable=True))
    assert list(pool_map(abs, [-1, 2], 256, 'counting', disable=True)) == [1, 2]
