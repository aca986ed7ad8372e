"""The command lines that the launchers hand to torchrun and to Slurm."""
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed import TCPStore
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from coma_mm.errors import EXIT_STOPPED

TOOLS = Path(__file__).parents[2] / 'tools'
ECHO = '#!/bin/sh\nprintf "%s " "$@"\necho "MASTER_PORT=$MASTER_PORT MASTER_ADDR=$MASTER_ADDR"\n'


@pytest.fixture
def launch(tmp_path):
    """Starts a launcher with a `python` and an `srun` that print how they were called."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text(ECHO)
        (tmp_path / name).chmod(0o755)
    own = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'PORT', 'RDZV_ID', 'PYTHON', 'GPUS', 'GPUS_PER_NODE',
           'CPUS_PER_TASK', 'SRUN_ARGS', 'SLURM_JOB_ID', 'SLURM_JOB_END_TIME')
    env = {key: value for key, value in os.environ.items() if key not in own}

    def launch(tool, *args, code=0, **variables):
        done = subprocess.run([TOOLS / tool, *args], text=True, capture_output=True, cwd=tmp_path,
                              env=dict(env, PATH=f'{tmp_path}:{env["PATH"]}', **variables))
        assert done.returncode == code, done.stderr
        return (done.stderr if code else done.stdout).split()

    return launch


def test_one_machine_takes_a_free_port(launch):
    expected = [f'{TOOLS}/torchrun.py', '--standalone', '--max-restarts=3', '--nproc-per-node=8']
    words = launch('dist_train.sh', 'a.py', '8', '--amp', '--cfg-options', 'a=1')
    assert words[:-2] == [*expected, f'{TOOLS}/train.py', 'a.py', '--amp', '--cfg-options', 'a=1', '--launcher', 'pytorch']
    words = launch('dist_test.sh', 'a.py', 'a.pth', '8', '--out', 'a.json')
    expected[2] = '--max-restarts=0'
    assert words[:-2] == [*expected, f'{TOOLS}/test.py', 'a.py', 'a.pth', '--out', 'a.json', '--launcher', 'pytorch']


def test_several_machines_meet_at_master_addr(launch):
    words = launch('dist_train.sh', 'a.py', '8', NNODES='4', MASTER_ADDR='node1')
    assert words[1:7] == ['--nnodes=4', '--rdzv-backend=c10d', '--rdzv-endpoint=node1:29500', '--rdzv-id=coma_mm',
                          '--max-restarts=3', '--nproc-per-node=8']
    for rank, is_host in (('0', '1'), ('3', '0')):
        words = launch('dist_test.sh', 'a.py', 'a.pth', '8', NNODES='4', MASTER_ADDR='node1', PORT='1234',
                       NODE_RANK=rank, RDZV_ID='b')
        assert words[1:8] == ['--nnodes=4', '--rdzv-backend=c10d', '--rdzv-endpoint=node1:1234', '--rdzv-id=b',
                              f'--rdzv-conf=is_host={is_host}', '--max-restarts=0', '--nproc-per-node=8']
    assert '--rdzv-endpoint=127.0.0.1:1234' in launch('dist_train.sh', 'a.py', '8', PORT='1234')
    message = ' '.join(launch('dist_train.sh', 'a.py', '8', NNODES='4', code=2))
    assert message.startswith('NNODES=4 needs MASTER_ADDR')


@pytest.mark.parametrize('tool, args', [('dist_train.sh', ['a.py']), ('dist_test.sh', ['a.py', 'a.pth'])])
def test_numbers_out_of_range_are_one_line(launch, tool, args):
    for name, value, others in (
        *(('GPUS', value, {}) for value in ('0', 'two', '1.5', '-1', '')), ('PORT', 'abc', {}), ('PORT', '65536', {}),
        ('NNODES', '0', {}), ('NNODES', 'x', {}), ('NODE_RANK', '2', dict(NNODES='2', MASTER_ADDR='a')),
        ('NODE_RANK', '-1', {}), ('MAX_RESTARTS', 'x', {})):
        variables = others | ({} if name == 'GPUS' else {name: value})
        words = launch(tool, *args, value if name == 'GPUS' else '2', code=2, **variables)
        assert ' '.join(words).startswith(f'error: {name}={value}: expected a whole number from ')


def test_torchrun_counts_the_devices_itself(launch):
    assert '--nproc-per-node=gpu' in launch('dist_train.sh', 'a.py', 'gpu')


def test_a_port_of_another_program_is_refused_at_once_and_that_of_a_run_shared(monkeypatch, capfd):
    check_port = runpy.run_path(str(TOOLS / 'torchrun.py'))['check_port']

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr('os._exit', leave)
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        port = silent.getsockname()[1]
        for arguments in ([f'--rdzv-endpoint=127.0.0.1:{store.port}'], ['--standalone'], ['--rdzv-endpoint=127.0.0.1:1'],
                          [f'--rdzv-endpoint=node1:{port}']):
            check_port(arguments)
        with pytest.raises(SystemExit, match='2'):
            check_port([f'--rdzv-endpoint=127.0.0.1:{port}'], patience=0.3)
    assert capfd.readouterr().err.startswith(f'error: another program has the port {port}: choose another PORT')


def test_a_process_that_dies_is_one_line(monkeypatch):
    torchrun = runpy.run_path(str(TOOLS / 'torchrun.py'))

    def die(arguments):
        raise ChildFailedError('train.py', {1: ProcessFailure(local_rank=1, pid=1, exitcode=-9, error_file='none')})

    for name in ('COMA_MM_EXIT_CODE', 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr(torchrun['run'], 'main', die)
    monkeypatch.setattr('sys.argv', ['torchrun.py'])
    with pytest.raises(SystemExit, match=r'^error: process 1 of the run died \(SIGKILL\)'):
        torchrun['main']()


def test_slurm_gets_machines_of_equal_numbers_of_processes(launch):
    words = launch('slurm_train.sh', 'part', 'job', 'a.py', '--amp', GPUS='32', SRUN_ARGS='--time=9 --mem=0',
                   MASTER_ADDR='left over')
    assert words[:-2] == [
        '-p', 'part', '--job-name=job', '--nodes=4', '--gres=gpu:8', '--ntasks=32', '--ntasks-per-node=8',
        '--cpus-per-task=5', '--kill-on-bad-exit=1', '--signal=USR1@300', '--time=9', '--mem=0', 'python', '-u',
        f'{TOOLS}/train.py', 'a.py', '--launcher', 'slurm', '--amp']
    port, address = words[-2:]
    assert 20000 <= int(port.removeprefix('MASTER_PORT=')) < 30000 and address == 'MASTER_ADDR='
    words = launch('slurm_train.sh', 'part', 'job', 'a.py', GPUS='4', PORT='1234', CPUS_PER_TASK='9')
    assert words[3:8] == ['--nodes=1', '--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4', '--cpus-per-task=9']
    assert words[-2] == 'MASTER_PORT=1234'
    message = ' '.join(launch('slurm_train.sh', 'part', 'job', 'a.py', GPUS='12', code=2))
    assert message.startswith('GPUS=12 is not a multiple of GPUS_PER_NODE=8')


def test_in_a_batch_job_the_time_limit_is_that_of_the_job(launch):
    for left, expected in ((1000, range(690, 701)), (100, range(1))):
        words = launch('slurm_train.sh', 'part', 'job', 'a.py', SLURM_JOB_END_TIME=str(int(time.time()) + left))
        limit, = [word for word in words if word.startswith('--max-time=')]
        assert int(limit.partition('=')[2]) in expected


@pytest.mark.parametrize('tool', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_usage_is_told(launch, tool):
    assert launch(tool, code=2)[0] == 'usage:'


@pytest.fixture
def slurm(tmp_path):
    """Starts slurm_train.sh in `tmp_path` with an `srun` of some commands, and a `scontrol` that notes its arguments."""
    (tmp_path / 'scontrol').write_text('#!/bin/bash\necho "$@" >> requeued\n')
    env = {key: value for key, value in os.environ.items() if not key.startswith('SLURM')}
    env['PATH'] = f'{tmp_path}:{env["PATH"]}'

    def slurm(srun, **variables):
        """int: The exit code."""
        (tmp_path / 'srun').write_text(f'#!/bin/bash\necho "${{@: -1}}" >> calls\n{srun}\n')
        for name in ('srun', 'scontrol'):
            (tmp_path / name).chmod(0o755)
        (tmp_path / 'calls').unlink(missing_ok=True)
        command = [TOOLS / 'slurm_train.sh', 'part', 'job', 'a.py', '--amp']
        code = subprocess.run(command, env=dict(env, **variables), cwd=tmp_path).returncode
        assert {path.name for path in tmp_path.iterdir()} <= {'srun', 'scontrol', 'calls', 'requeued'}
        return code

    return slurm


def test_a_run_that_slurm_stopped_is_queued_again(slurm, tmp_path):
    stopped_twice = '[ $(wc -l < calls) -ge 3 ] || exit 75\nexit 3'
    assert slurm(stopped_twice) == 3 and (tmp_path / 'calls').read_text().split() == ['--amp', '--resume', '--resume']
    assert slurm(stopped_twice, SLURM_JOB_ID='17') == 0
    assert (tmp_path / 'requeued').read_text() == 'requeue 17\n'
    slurm(stopped_twice, SLURM_JOB_ID='17', SLURM_RESTART_COUNT='1')
    assert (tmp_path / 'calls').read_text().split() == ['--resume']


@pytest.mark.parametrize('noted, killed, code, queued', [
    (r'75\n75\n', 137, 0, True), (r'2\n75\n', 143, 2, False), ('', 137, 137, False)])
def test_what_the_run_notes_counts_more_than_that_slurm_killed_the_rest_of_it(slurm, tmp_path, noted, killed, code, queued):
    assert slurm(f'printf "{noted}" > "$COMA_MM_EXIT_CODE"; exit {killed}', SLURM_JOB_ID='17') == code
    assert (tmp_path / 'requeued').exists() == queued


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_signals_that_come_before_the_processes_can_save_end_torchrun_as_later_ones_do(monkeypatch, number):
    torchrun = runpy.run_path(str(TOOLS / 'torchrun.py'))
    assert torchrun['EXIT_STOPPED'] == EXIT_STOPPED

    def stopped(arguments):
        raise SignalException('as torchrun does', number)

    for name in ('COMA_MM_EXIT_CODE', 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr(torchrun['run'], 'main', stopped)
    with pytest.raises(SystemExit) as leaving:
        torchrun['main']()
    assert leaving.value.code == EXIT_STOPPED


def test_the_exit_code_is_that_of_the_first_process_that_left(monkeypatch, tmp_path):
    """All may leave at once; and torchrun starts them again if one leaves with an error."""
    torchrun = runpy.run_path(str(TOOLS / 'torchrun.py'))

    def leave(arguments):
        Path(os.environ['COMA_MM_EXIT_CODE']).write_text('75\n75\n')
        raise ChildFailedError('train.py', {0: ProcessFailure(local_rank=0, pid=1, exitcode=75, error_file='none')})

    for name in ('COMA_MM_EXIT_CODE', 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr(torchrun['run'], 'main', leave)
    with pytest.raises(SystemExit) as leaving:
        torchrun['main']()
    assert leaving.value.code == 75
    note = tmp_path / 'note'
    note.write_text('2\n75\n')
    again = subprocess.run([sys.executable, TOOLS / 'train.py'], env=dict(os.environ, COMA_MM_EXIT_CODE=str(note)))
    assert again.returncode == 2
