"""`coma-mm new` gives the config to standard output or a new file, and says what it chose on standard error."""
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from coma_mm import commands
from coma_mm.errors import UserError
from coma_mm.prepare.new import TASKS, measure, new_config
from coma_mm.prepare.new.measure import measure_speed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photos(tmp_path):
    (tmp_path / 'photos').mkdir()
    for number in range(20):
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / f'photos/{number}.png')
    return tmp_path / 'photos'


def new(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['coma-mm', 'new', *map(str, args)])
    commands._run(None)


def test_the_config_alone_is_standard_output(monkeypatch, photos, capsys):
    monkeypatch.setattr(measure, 'MOST', 1)
    new(monkeypatch, 'pretrain', '--images', photos, '--arch', 'tiny', '--size', 32, '--hours', 1e-3)
    out, err = capsys.readouterr()
    compile(out, 'my.py', 'exec')
    assert err.startswith('20 images, every 20th held out: DyViT-tiny at 32 px') and err.count('\n') == 1
    assert 'all that 0.001 h have room for, instead of 400' in err and 'measured over 1 iteration' in err


def test_a_file_is_written_and_never_over_another(monkeypatch, photos, capsys, tmp_path):
    args = ('pretrain', '--images', photos, '--no-measure', '--out', tmp_path / 'a/my.py')
    new(monkeypatch, *args)
    out, err = capsys.readouterr()
    text = (tmp_path / 'a/my.py').read_text()
    assert not out and text.startswith('"""CoMA pre-training')
    assert err.strip().endswith(f'; coma-mm train {tmp_path}/a/my.py runs it.')
    monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools/new.py'), *map(str, args[:-1]), str(tmp_path / 'my own.py')])
    commands._run('new')  # as in a checkout without an installation
    assert f"tools/train.py '{tmp_path}/my own.py' runs it." in capsys.readouterr().err
    with pytest.raises(UserError, match='^--out .*my.py is there already, and is left as it is'):
        new(monkeypatch, *args)
    assert (tmp_path / 'a/my.py').read_text() == text
    with pytest.raises(UserError, match='^--out my.txt: expected a name that ends with .py'):
        new(monkeypatch, *args[:-1], 'my.txt')


def test_too_short_a_time_is_refused(monkeypatch, photos):
    monkeypatch.setattr('coma_mm.prepare.new.write.measure_speed', lambda *_: measure.Speed(1., 1))
    with pytest.raises(UserError, match='^--hours 0.001: an epoch of 19 images takes about 19 s on this machine'):
        new(monkeypatch, 'pretrain', '--images', photos, '--hours', 1e-3)


def test_measuring_leaves_no_logger_behind(monkeypatch, photos, capsys):
    """It would write to where standard output was meanwhile."""
    monkeypatch.setattr(measure, 'MOST', 1)
    text, _ = new_config('classification', data=str(classes_of(photos)), arch='tiny', size=32, measure=False)
    loggers = dict(MMLogger._instance_dict)
    assert measure_speed(text, 2).per_image > 0
    assert loggers == MMLogger._instance_dict and capsys.readouterr().out == ''


def classes_of(photos):
    """The images in two folders."""
    for number, path in enumerate(sorted(photos.iterdir())):
        (photos / f'class{number % 2}').mkdir(exist_ok=True)
        path.rename(photos / f'class{number % 2}' / path.name)
    return photos


def test_the_tasks_are_those_of_python():
    from coma_mm.commands.new import DATA
    assert tuple(DATA) == TASKS
