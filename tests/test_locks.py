"""Of two in one folder the second is told who is first; a lock that a killed process left is no obstacle."""
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coma_mm import locks
from coma_mm.errors import UserError
from coma_mm.locks import locked

ROOT = Path(__file__).parents[1]
HOLDER = '''
import os, signal, sys
sys.argv[0] = 'coma-mm'  # as which the package is imported in no time
from coma_mm.locks import locked
with locked(sys.argv[1]):
    if not os.fork():  # as a data loader's worker that outlives its run
        signal.alarm(60)
        signal.pause()
    print('held', flush=True)
    sys.stdin.readline()
'''


def start(program, *args):
    return subprocess.Popen([sys.executable, '-c', program, *map(str, args)], cwd=ROOT, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(locks, 'PATIENCE', 0)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / 'run'`, and has a child."""
    process = start(HOLDER, tmp_path / 'run')
    assert process.stdout.readline() == 'held\n'
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_second_is_told_who_is_first_and_has_it_as_soon_as_the_first_is_killed(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(locks, 'PATIENCE', .1)
    said = fr'run is in use: `coma-mm .*/run` runs there since 20.* \(host .*, process {holder.pid}\); wait'
    with pytest.raises(UserError, match=said), locked(tmp_path / 'run'):
        pass
    monkeypatch.setattr(locks, 'PATIENCE', 20)
    os.kill(holder.pid, signal.SIGSTOP)  # its child lives
    os.kill(holder.pid, signal.SIGKILL)
    with locked(tmp_path / 'run'):
        assert json.loads((tmp_path / 'run/.lock').read_text())['pid'] == os.getpid()
    assert not (tmp_path / 'run/.lock').exists()


@pytest.mark.parametrize('end', [lambda process: process.stdin.close(), lambda process: process.kill()])
def test_who_waits_says_so_and_goes_on_when_the_first_has_ended(tmp_path, holder, end):
    second = start(HOLDER.replace('[1]', '[1], wait=True'), tmp_path / 'run')
    try:
        line = second.stdout.readline()
        assert re.fullmatch(rf'{tmp_path}/run is in use: .*, process {holder.pid}\); waiting for it\n', line)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(.3)
        end(holder)
        assert second.stdout.readline() == 'held\n'
    finally:
        os.killpg(second.pid, signal.SIGKILL)
        second.wait()


def test_one_process_has_a_folder_once_too(tmp_path, patience):
    same = f'{tmp_path}/../{tmp_path.name}'
    with locked(tmp_path), pytest.raises(UserError, match=f'process {os.getpid()}'), locked(same):
        pass
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_folders_that_were_made_for_it_go_again_if_they_are_empty(tmp_path):
    (tmp_path / 'mine').mkdir()
    with locked(tmp_path / 'mine/a/b/c'):
        (tmp_path / 'mine/a/file').write_text('')
    assert [path.name for path in (tmp_path / 'mine').rglob('*')] == ['a', 'file']
    with pytest.raises(UserError, match='cannot make the folder .*: Not a directory'), locked(tmp_path / 'mine/a/file/b'):
        pass


@pytest.fixture
def without_locks(monkeypatch):
    """As on a file system that has no locks."""
    def lockf(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('fcntl.lockf', lockf)
    monkeypatch.setattr(locks, 'PATIENCE', 0)
    monkeypatch.setattr(locks, 'SETTLE', 0)


def test_without_locks_of_the_system_what_the_file_says_counts(tmp_path, without_locks, monkeypatch):
    path = tmp_path / '.lock'
    this = locks._this_process()

    def is_free(age=0, **changes):
        path.write_text(json.dumps(dict(this, **changes)))
        os.utime(path, (time.time() - age, ) * 2)
        try:
            with locked(tmp_path):
                return True
        except UserError:
            return False

    assert not is_free() and is_free(started='1') and is_free(pid=2**22 + 1)  # alive, of an earlier process, dead
    assert not is_free(host='other') and not is_free(host='other', age=500) and is_free(host='other', age=700)
    monkeypatch.setenv('SLURM_JOB_ID', '17')
    assert not is_free(host='other', job='18') and not is_free(host='other', job='17')
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    assert is_free(host='other', job='17')
    for text in ('', '{"hos', '{"host": "half'):
        path.write_text(text)
        with locked(tmp_path):
            pass


def test_without_locks_of_the_system_the_holder_shows_that_it_lives(tmp_path, without_locks, monkeypatch):
    monkeypatch.setattr(locks, 'SIGN_OF_LIFE', .01)
    with locked(tmp_path):
        os.utime(tmp_path / '.lock', (0, 0))
        while (tmp_path / '.lock').stat().st_mtime < 1:
            time.sleep(.01)


@pytest.mark.parametrize('content', ['', '{"host": "db", "password": "x"}'])
def test_a_second_name_of_somebodys_file_is_no_lock(tmp_path, content):
    (tmp_path / 'other').write_text(content)
    (tmp_path / 'other').chmod(0o600)
    (tmp_path / 'run').mkdir()
    os.link(tmp_path / 'other', tmp_path / 'run/.lock')
    with pytest.raises(UserError, match='is no lock of ours'), locked(tmp_path / 'run'):
        pass
    assert (tmp_path / 'other').read_text() == content and (tmp_path / 'other').stat().st_mode & 0o777 == 0o600
    assert (tmp_path / 'run/.lock').exists()


def test_what_a_holder_says_of_itself_may_be_nested_without_end(tmp_path):
    (tmp_path / 'a').write_text('{"host": ' + '[' * 50_000)
    descriptor = os.open(tmp_path / 'a', os.O_RDONLY)
    assert locks._read(descriptor) == {}
    os.close(descriptor)


@pytest.mark.parametrize('content', ['[]', '{"packages": []}', 'mine'])
def test_a_file_of_the_locks_name_that_is_none_is_left_as_it_is(tmp_path, content):
    path = tmp_path / 'poetry.lock'
    path.write_text(content)
    with pytest.raises(UserError, match='poetry.lock is no lock of ours'), locked(tmp_path / 'poetry', path):
        pass
    (tmp_path / 'a.lock').symlink_to(path)
    with pytest.raises(UserError, match='cannot write .*/a.lock'), locked(tmp_path / 'a', tmp_path / 'a.lock'):
        pass
    assert path.read_text() == content


def test_the_lock_that_a_process_of_another_user_has_left_can_be_taken(tmp_path):
    before = os.umask(0o077)
    try:
        with locked(tmp_path):
            assert (tmp_path / '.lock').stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr('os.open', full)
    with pytest.raises(UserError, match='cannot write .*/.lock: Read-only file system'), locked(tmp_path):
        pass
