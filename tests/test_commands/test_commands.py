"""Commands are read before anything heavy is imported, and each has its file in tools/."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coma_mm.commands import COMMANDS

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
