"""`tools/setup_env.sh` says in one line what is missing, before it makes anything; of two at once the second waits."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'setup_env.sh'


def executable(path, text):
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)
    return path


def python_where(path, change):
    """A Python in which the statements of `change` have been run first."""
    return executable(path, f'exec {sys.executable} -c "import sys; {change}; exec(sys.argv[1])" "$2"\n')


@pytest.mark.parametrize('change, message', [
    ('sys.version_info = (2, 7, 18)', 'is Python 2.7; coma_mm needs 3.11, 3.12 or 3.13'),
    ('sys.version_info = (3, 10, 9)', 'is Python 3.10; coma_mm needs 3.11, 3.12 or 3.13'),
    ('sys.version_info = (3, 14, 0)', 'is Python 3.14; coma_mm needs 3.11, 3.12 or 3.13'),
    ("sys.modules['ensurepip'] = None", 'has no venv module'),
    ("raise SystemExit(1)", 'cannot run'),
    ('pass', '3 GB of disk space are free'),
])
def test_what_is_missing(tmp_path, change, message):
    executable(tmp_path / 'df', f'echo head; echo disk 0 0 {3 * 2**20 + 1} 0 /\n')
    env = dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}')
    python = python_where(tmp_path / 'python', change)
    done = subprocess.run([SCRIPT, tmp_path / 'venv', python], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and done.stderr.startswith('coma_mm: ') and message in done.stderr
    assert not (tmp_path / 'venv').exists()


PYTHON = f'''case "$1 $2" in
"-m venv") mkdir -p "$4/bin" && cp "$0.of_venv" "$4/bin/python" ;;
*) exec {sys.executable} "$@" ;;
esac
'''
PYTHON_OF_VENV = '''case "$*" in
*opencv*) echo second part >> pip.txt ;;
*install*) echo first part >> pip.txt; while [ ! -e go ]; do sleep .1; done; [ "$(cat go)" = on ] ;;
esac
'''


@pytest.mark.parametrize('word, codes, parts', [
    ('on', (0, 0), ['first part', 'second part']),
    ('fail', (2, 2), ['first part', 'first part']),  # so the second one tries it itself
])
def test_of_two_at_once_the_second_waits_says_so_and_does_not_install_again(tmp_path, word, codes, parts):
    checkout = tmp_path / 'checkout'
    (checkout / 'tools').mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / 'tools')
    for name in ('setup.py', 'constraints.txt'):
        (checkout / name).touch()
    shutil.copy(SCRIPT.parents[1] / 'Makefile', checkout)
    executable(tmp_path / 'df', f'echo head; echo disk 0 0 {9 * 2**20} 0 /\n')
    executable(tmp_path / 'python.of_venv', PYTHON_OF_VENV)
    python = executable(tmp_path / 'python', PYTHON)
    env = {key: value for key, value in os.environ.items() if 'MAKE' not in key}  # as if no make had started the tests
    env['PATH'] = f'{tmp_path}:{env["PATH"]}'

    def start():
        return subprocess.Popen(['make', 'install', f'PYTHON={python}'], cwd=checkout, env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    first = start()
    assert first.stdout.readline().startswith('coma_mm: creating .venv')
    second = start()
    assert second.stdout.readline() == 'coma_mm: another installation is running in this folder; waiting for it\n'
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(.5)
    assert (checkout / 'pip.txt').read_text().splitlines() == parts[:1]
    (checkout / 'go').write_text(word)
    first.communicate(), second.communicate()
    assert (first.returncode, second.returncode) == codes
    assert (checkout / 'pip.txt').read_text().splitlines() == parts
    assert (checkout / '.venv' / '.installed').exists() == (word == 'on')


def test_no_python(tmp_path):
    for tool in ('dirname', 'env'):
        (tmp_path / tool).symlink_to(f'/usr/bin/{tool}')
    done = subprocess.run(['/bin/bash', SCRIPT, tmp_path / 'venv'], env={'PATH': str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith('coma_mm: no Python found') and done.stderr.count('\n') == 1


def test_the_oldest_versions_are_those_that_setup_py_allows():
    """Each `>=` of what is installed and tested is a version that `make test-oldest` has."""
    root = SCRIPT.parents[1]
    core, extras = (root / 'setup.py').read_text().split('extras_require')
    tested = re.search(r"'test': \[(.*?)\]", extras, re.DOTALL)[1]
    bounds = dict(re.findall(r"'([\w-]+)(?:\[\w+\])?>=([\d.]+)", core + tested))
    lines = (root / 'constraints-oldest.txt').read_text().lower().splitlines()
    pins = dict(line.split('==') for line in lines if '==' in line)
    assert len(bounds) > 20
    for name in bounds:
        assert f'{pins[name]}.'.startswith(f'{bounds[name]}.'), name
