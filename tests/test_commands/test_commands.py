"""Commands are read before anything heavy is imported, and each has its file in tools/."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coma_mm import commands
from coma_mm.commands import COMMANDS
from coma_mm.errors import UserError

ROOT = Path(__file__).parents[2]
ASK_FOR_HELP = """
import argparse, sys
from importlib import import_module
sys.argv = ['coma-mm']
from coma_mm.commands import COMMANDS, benchmark, fill_parser
for name in [*COMMANDS, *(f'benchmark.{name}' for name in benchmark.COMMANDS)]:
    parser = argparse.ArgumentParser()
    fill_parser(parser, import_module(f'coma_mm.commands.{name}'))
    assert '--help' in parser.format_help(), name
print([name for name in ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'matplotlib') if name in sys.modules])
"""


def run(*command, code=0):
    """str: What a program prints that is not installed, in a process of its own."""
    ran = subprocess.run(command, env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True, capture_output=True)
    assert ran.returncode == code, ran.stderr
    return ran.stdout + ran.stderr


def test_help_needs_neither_torch_nor_the_libraries():
    assert run(sys.executable, '-c', ASK_FOR_HELP) == '[]\n'


def test_tools_are_the_commands():
    launchers = ('dist_train', 'dist_test')  # which are shell scripts
    assert {path.stem for path in (ROOT / 'tools').glob('*.py')} - {'torchrun'} == {*COMMANDS} - {*launchers}
    for name in launchers:
        assert (ROOT / f'tools/{name}.sh').is_file()


@pytest.mark.parametrize('command', [
    ('-m', 'coma_mm', 'make-shapes', '--help'), (str(ROOT / 'tools/make_shapes.py'), '--help')])
def test_a_command_is_the_same_by_either_way(command):
    assert 'replace a data set with other parameters' in ' '.join(run(sys.executable, *command).split())


def test_a_script_of_the_same_name_as_a_tool_registers(tmp_path):
    (tmp_path / 'train.py').write_text(
        'import sys\nimport coma_mm\nprint("mmdet.datasets" in sys.modules)  # which takes a second to import\n'
        'from mmpretrain.registry import MODELS\nprint(MODELS.get("DyViT"))\n')
    text = run(sys.executable, str(tmp_path / 'train.py'))
    assert text.startswith('False\n') and 'coma_mm.models.dyvit.DyViT' in text


def test_launchers_are_started_with_their_arguments():
    assert 'usage: ' in run(sys.executable, '-m', 'coma_mm', 'dist_train', 'config.py', code=2)


@pytest.mark.parametrize('line, name', [
    ('train @', 'CONFIG'), ('train a.py --resume @', '--resume'), ('train a.py --resume=@', '--resume'),
    ('train a.py --work-dir @ --amp', '--work-dir'), ('train a.py --data-root @', '--data-root'),
    ('train a.py --cfg-options a=1 @', '--cfg-options'), ('test a.py @', 'CHECKPOINT'), ('pack_dataset @ out', 'SOURCE'),
    ('pack-dataset in @ --short-side 8', 'OUT'), ('make_shapes @', 'OUT'), ('visualize reconstruct a.py b.pth @', 'IMAGE'),
    ('benchmark collect @', 'WORK_DIRS'), ('benchmark complexity --cfg-options @', '--cfg-options'),
    ('dist_train a.py 2 --resume @', 'CONFIG')])
def test_an_empty_value_is_one_line_that_names_its_option(monkeypatch, line, name):
    """As a shell variable that is not set makes one; `--resume ""` would start anew."""
    monkeypatch.setattr('sys.argv', ['coma-mm', *(word.replace('@', '') for word in line.split())])
    with pytest.raises(UserError, match=f'^{name}.*: an empty value is given; is a shell variable in it not set'):
        commands._run(None)


FILES = ('test a.py b.pth --out', 'knn a.py b.pth --out', 'linear_probe a.py b.pth --out', 'export_backbone b.pth',
         'export b.pth',
         'study --out', 'benchmark dataload a.py --out', 'benchmark complexity --out', 'benchmark collect runs --out',
         'benchmark report runs --out', 'report runs --out', 'benchmark speed --profile --trace')
FOLDERS = ('test a.py b.pth --show-dir', 'visualize reconstruct a.py b.pth c.png --out',
           'visualize windows a.py b.pth c.png --out', 'benchmark coverage --out', 'benchmark speed --out',
           'benchmark tables runs --out', 'benchmark ablation runs --out', 'benchmark efficiency runs --out')


@pytest.mark.parametrize('line', FILES + FOLDERS)
def test_where_results_cannot_be_written_is_said_before_the_work(monkeypatch, tmp_path, line):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder').mkdir()
    wrong = ('folder', 'it is a folder') if line in FILES else ('file', 'file is no folder')
    for path, expected in (
            wrong, ('file/x', 'file is no folder'), ('x' * 256, 'File name too long'), ('/proc/x', 'No such file'),
            ('x' * 9000, 'x … x.*File name too long')):
        monkeypatch.setattr('sys.argv', ['coma-mm', *line.split(), str(tmp_path / path)])
        with pytest.raises(UserError, match=f'(?s)^cannot write .*{expected}.*; choose another place$'):
            commands._run(None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'folder']


@pytest.mark.parametrize('line', [
    'make_shapes out --workers', 'check_data folder in --workers', 'pack_dataset in out --workers',
    'benchmark dataload a.py --workers', 'complement_study --jobs', 'small_study --jobs'])
def test_no_command_starts_any_number_of_processes(monkeypatch, line):
    for number, expected in (('100000', '=100000: expected at most .* processes'), ('-1', 'exp'), ('x', 'exp')):
        monkeypatch.setattr('sys.argv', ['coma-mm', *line.split(), number])
        with pytest.raises(UserError, match=expected):
            commands._run(None)


@pytest.mark.parametrize('job, code', [
    ("commands.main()", 0),  # --help
    ("commands.exit_with(lambda: [print('line') for _ in range(9999)])", 141),
    ("sys.stdout.reconfigure(write_through=False); commands.exit_with(lambda: print('line'))", 0),  # else as the next
    ("commands.pipes.outlive_readers(); commands.exit_with(lambda: [print('line') for _ in range(9999)])", 0),
    ("commands.exit_with(lambda: commands._Parser().error('wrong'))", 2)])
def test_output_that_nobody_reads_leaves_no_traceback(job, code):
    """And a training (`outlive_readers`) goes on."""
    reading, writing = os.pipe()
    os.close(reading)
    code_line = f"import sys; sys.argv = ['coma-mm', '--help']; from coma_mm import commands; {job}"
    ran = subprocess.run([sys.executable, '-c', code_line], env={**os.environ, 'PYTHONPATH': str(ROOT)}, stdout=writing,
                         stderr=writing if code == 2 else subprocess.PIPE, text=True)
    os.close(writing)
    assert (ran.returncode, ran.stderr or '') == (code, '')
