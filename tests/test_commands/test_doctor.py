"""`coma-mm doctor` says in a dozen lines what a machine is, and ends with no traceback whatever is missing."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coma_mm.benchmark.doctor import BAD, LOOK, OK, Finding, machine
from coma_mm.prepare.new import measure

ROOT = Path(__file__).parents[2]
CONFIG = """_base_ = 'coma_mm::small/coma_dyvit-tiny_2e_folder-128px.py'
data_root = '{root}'
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Path: With eight images and a config for them; measuring it takes no time."""
    (tmp_path / 'images').mkdir()
    for index in range(8):
        Image.fromarray(np.full((40, 50, 3), index, np.uint8)).save(tmp_path / f'images/{index}.png')
    (tmp_path / 'torch.py').write_text("raise OSError('libcudart')  # for processes of their own alone")
    (tmp_path / 'my.py').write_text(CONFIG.format(root=tmp_path / 'images'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, 'SECONDS', 0.)
    return tmp_path


def test_a_machine_that_works_is_a_dozen_lines(run_tool, folder):
    lines = run_tool('doctor.py').splitlines()
    assert 9 <= len(lines) <= 12 and {line[:4].strip() for line in lines} <= {OK, LOOK}
    assert [name for name in ('Python', 'packages', 'GPU', 'cores', '/dev/shm', 'open files', 'disk', 'data')
            if not any(line[6:].startswith(f'{name}: ') for line in lines)] == []


def test_a_terminal_of_few_letters_is_no_traceback(folder):
    ran = subprocess.run([sys.executable, '-m', 'coma_mm', 'doctor', 'none.py'], capture_output=True, env={
        **os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0', 'PYTHONPATH': f'{folder}:{ROOT}'})
    assert ran.returncode == 1 and b'look  terminal: ' in ran.stdout and b'Traceback' not in ran.stderr
    assert b'bad   import: torch cannot be imported: OSError: libcudart' in ran.stdout and ran.stdout.count(b'bad ') == 1


def test_a_config_is_tried_on_its_data(run_tool, folder):
    text = run_tool('doctor.py', 'my.py')
    assert 'ok    config: CoMA on 7 images, batches of 4' in text and 'train_dataloader.num_workers=1' in text
    assert 'data: the model takes ' in text and 'the checkpoints of this run take ' in text
    assert not (folder / 'work_dirs').exists()
    text = run_tool('doctor.py', 'my.py', '--data', 'images', '--cfg-options', 'train_dataloader.num_workers=0')
    assert 'train_dataloader.num_workers=0; set train_dataloader.num_workers=' in text


@pytest.mark.parametrize('arguments, said', [
    (['none.py'], 'bad   config: no config file none.py'),
    (['my.py', '--data', 'gone'], 'bad   config: ImageFolder: gone does not exist'),
    (['my.py', '--cfg-options', 'model.backbone.arch=huge'], "bad   config: DyViT: arch='huge': expected one of"),
    (['--data', 'gone'], 'bad   data: --data gone does not exist; expected one with images')])
def test_what_is_bad_is_a_line_and_exit_code_1(run_tool, folder, arguments, said):
    assert said in run_tool('doctor.py', *arguments, code=1)


def test_a_library_that_is_broken_leaves_the_rest(run_tool, folder, monkeypatch):
    broken = Finding(BAD, 'import', 'torch cannot be imported: OSError', 'install it')
    monkeypatch.setattr(machine, 'imports', lambda: broken)
    text = run_tool('doctor.py', 'my.py', code=1)
    assert 'bad   import: torch cannot be imported: OSError; install it' in text
    assert 'disk: ' in text and 'GPU' not in text and 'config: ' not in text
