"""The command lines that the launchers hand to torchrun and to Slurm."""
import os
import runpy
import signal
import subprocess
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import SignalException

from coma_mm.engine.stop_hook import EXIT_STOPPED

TOOLS = Path(__file__).parents[2] / 'tools'
ECHO = '#!/bin/sh\nprintf "%s " "$@"\necho "MASTER_PORT=$MASTER_PORT MASTER_ADDR=$MASTER_ADDR"\n'


@pytest.fixture
def launch(tmp_path):
    """Starts a launcher with a `python` and an `srun` that print how they were called."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text(ECHO)
        (tmp_path / name).chmod(0o755)
    own = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'PORT', 'RDZV_ID', 'PYTHON', 'GPUS', 'GPUS_PER_NODE',
           'CPUS_PER_TASK', 'SRUN_ARGS')
    env = {key: value for key, value in os.environ.items() if key not in own}

    def launch(tool, *args, code=0, **variables):
        done = subprocess.run([TOOLS / tool, *args], text=True, capture_output=True,
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


@pytest.mark.parametrize('tool', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_usage_is_told(launch, tool):
    assert launch(tool, code=2)[0] == 'usage:'


def test_a_run_that_slurm_stopped_is_queued_again(tmp_path):
    (tmp_path / 'srun').write_text('#!/bin/sh\necho "${@: -1}" >> calls\n[ $(wc -l < calls) -ge 3 ] || exit 75\nexit 3\n')
    (tmp_path / 'scontrol').write_text('#!/bin/sh\necho "$@" >> requeued\n')
    for name in ('srun', 'scontrol'):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace('/bin/sh', '/bin/bash'))
        (tmp_path / name).chmod(0o755)
    env = {key: value for key, value in os.environ.items() if not key.startswith('SLURM')}
    env['PATH'] = f'{tmp_path}:{env["PATH"]}'
    command = [TOOLS / 'slurm_train.sh', 'part', 'job', 'a.py', '--amp']
    done = subprocess.run(command, env=env, cwd=tmp_path)
    assert done.returncode == 3 and (tmp_path / 'calls').read_text().split() == ['--amp', '--resume', '--resume']
    (tmp_path / 'calls').unlink()
    assert subprocess.run(command, env=dict(env, SLURM_JOB_ID='17'), cwd=tmp_path).returncode == 0
    assert (tmp_path / 'requeued').read_text() == 'requeue 17\n'
    subprocess.run(command, env=dict(env, SLURM_JOB_ID='17', SLURM_RESTART_COUNT='1'), cwd=tmp_path)
    assert (tmp_path / 'calls').read_text().split() == ['--amp', '--resume']


@pytest.mark.parametrize('number,code', [(signal.SIGUSR1, 75), (signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_that_come_before_the_processes_can_save_end_torchrun_as_later_ones_do(monkeypatch, number, code):
    torchrun = runpy.run_path(str(TOOLS / 'torchrun.py'))
    assert torchrun['EXIT_STOPPED'] == EXIT_STOPPED

    def stopped(arguments):
        raise SignalException('as torchrun does', number)

    for name in ('COMA_MM_EXIT_CODE', 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr(torchrun['run'], 'main', stopped)
    with pytest.raises(SystemExit) as leaving:
        torchrun['main']()
    assert leaving.value.code == code
