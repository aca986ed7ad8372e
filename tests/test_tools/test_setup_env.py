"""`tools/setup_env.sh` says in one line what is missing, before it makes anything."""
import os
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


def test_no_python(tmp_path):
    for tool in ('dirname', 'env'):
        (tmp_path / tool).symlink_to(f'/usr/bin/{tool}')
    done = subprocess.run(['/bin/bash', SCRIPT, tmp_path / 'venv'], env={'PATH': str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith('coma_mm: no Python found') and done.stderr.count('\n') == 1
