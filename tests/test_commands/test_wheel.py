"""A wheel, installed in a new environment, does what a checkout does, from any folder."""
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from coma_mm.commands import COMMANDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def outside(tmp_path_factory):
    """Callable: Runs a program of the new environment in a folder that is none of the checkout's."""
    folder = tmp_path_factory.mktemp('wheel')
    # Without the checkout on the path, which the tests put there.
    environ = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'COMA_MM_EXIT_CODE')}
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', ROOT, '--no-deps', '--no-build-isolation', '-q', '-w', folder], check=True, env=environ)
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder / 'venv'], check=True, env=environ)
    wheel, = folder.glob('*.whl')
    subprocess.run([*pip, '--python', folder / 'venv', 'install', '--no-deps', '-q', wheel], check=True, env=environ)
    # PyTorch and the libraries are shared, as they are large; what is installed for editing there is not.
    there, = folder.glob('venv/lib/python*/site-packages')
    (there / 'shared.pth').write_text(sysconfig.get_paths()['purelib'])

    def run(program, *args, code=0):
        """str: What it prints."""
        ran = subprocess.run([folder / 'venv/bin' / program, *map(str, args)], cwd=folder, env=environ, text=True,
                             capture_output=True)
        assert ran.returncode == code, ran.stdout[-2000:] + ran.stderr[-2000:]
        return ran.stdout + ran.stderr

    return run


def test_the_console_script_has_all_commands(outside):
    text = outside('coma-mm', '--help')
    assert all(f'\n    {name} ' in text or f'\n    {name}\n' in text for name in COMMANDS)
    assert '--work-dir' in outside('coma-mm', 'train', '--help')
    assert '--latency' in outside('coma-mm', 'benchmark', 'complexity', '--help')
    assert 'invalid choice' in outside('coma-mm', 'trian', code=2)


def test_data_are_drawn_and_a_model_is_trained_from_a_config_in_the_wheel(outside):
    assert 'wrote' in outside('coma-mm', 'make-shapes', 'shapes', '--size=64', '--unlabelled=8', '--train=0', '--val=0',
                              '--test=0', '--workers=1')
    text = outside('coma-mm', 'train', 'coma_mm::shapes/coma_dyvit-tiny_shapes.py', '--data-root', 'shapes/unlabelled',
                   '--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=4',
                   'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'default_hooks.logger.interval=1')
    assert 'Saving checkpoint at 1 epochs' in text and 'reconstruction/masked' in text


def test_bad_input_is_one_line(outside):
    text = outside('python', '-m', 'coma_mm', 'train', 'coma_mm::shapes/none.py', code=2)
    assert text.count('error: ') == 1 and 'Traceback' not in text
