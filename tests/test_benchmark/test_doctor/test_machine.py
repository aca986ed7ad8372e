"""What is wrong with a machine is a line with its remedy; the machine is a pretended one."""
import importlib
import resource
import shutil
from types import SimpleNamespace

import pytest
import torch

from coma_mm.benchmark.doctor import BAD, LOOK, OK, Finding, examine, machine


def test_this_environment_is_as_the_package_asks():
    asked, needs = machine.requirements()
    assert asked.startswith('>=3.') and any(one.startswith('onedl-mmcv') for one in needs)
    assert machine.python().mark == OK and 'torch' in str(machine.packages())


def test_another_python_is_bad(monkeypatch):
    monkeypatch.setattr(machine.platform, 'python_version', lambda: '3.9.1')
    assert str(machine.python()).startswith('bad   Python: 3.9.1, and coma_mm is for >=3.11,<3.14; make an environment')


@pytest.mark.parametrize('versions, found', [
    ({'torch': '1.9', 'onedl-mmcv': '2.3.6'}, "torch is 1.9 (expected <3,>=2.11); pip install 'torch<3,>=2.11'"),
    ({'torch': '2.12.0+cu128'}, "onedl-mmcv is not installed (expected <2.4,>=2.3.6); pip install 'onedl-mmcv<2.4,>=2.3.6'"),
    ({'torch': '2.12', 'onedl-mmcv': '2.3.6', 'mmcv': '2.1'}, 'mmcv installed, in the same folders as onedl-mmcv; '
     'pip uninstall -y mmcv && pip install --force-reinstall --no-deps onedl-mmcv')])
def test_versions_out_of_range_missing_or_twice_are_bad(monkeypatch, versions, found):
    monkeypatch.setattr(machine, 'requirements', lambda: ('>=3.11', ['torch>=2.11,<3', 'onedl-mmcv>=2.3.6,<2.4']))
    monkeypatch.setattr(machine, '_installed', versions.get)
    assert str(machine.packages()) == f'bad   packages: {found}'


@pytest.mark.parametrize('name, error, remedy', [
    ('cv2', ImportError('libGL.so.1: cannot open shared object file'), 'opencv-python-headless'),
    ('torch', OSError('libcudart.so.12'), 'so that they are a pair'),
    ('coma_mm', ModuleNotFoundError("No module named 'prettytable'", name='prettytable'), 'has prettytable'),
    ('mmcv', SystemExit(), 'install the packages anew')])
def test_what_cannot_be_imported_has_its_remedy(monkeypatch, name, error, remedy):
    real = importlib.import_module

    def load(wanted):
        if wanted == name:
            raise error
        return real(wanted)

    monkeypatch.setattr(importlib, 'import_module', load)
    found = machine.imports()
    assert found.mark == BAD and remedy in found.remedy


def test_no_gpu_is_one_line_that_ends_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(machine.Path, 'glob', lambda *_: iter(()))
    assert machine.gpu()[:3] == (LOOK, 'GPU', 'none')


@pytest.mark.parametrize('hidden, cuda, mark, found', [
    ('', '12.8', LOOK, 'hidden by CUDA_VISIBLE_DEVICES='), (None, None, BAD, 'built for the CPU alone'),
    (None, '12.8', BAD, 'for CUDA 12.8 cannot use it')])
def test_a_gpu_that_torch_cannot_use_has_its_reason(monkeypatch, hidden, cuda, mark, found):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(machine.Path, 'glob', lambda *_: iter(['/dev/nvidia0']))
    monkeypatch.setattr(torch.version, 'cuda', cuda)
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if hidden is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', hidden)
    line = machine.gpu()
    assert line.mark == mark and found in line.found and line.remedy


@pytest.mark.parametrize('free, bf16, error, mark, said', [
    (20, True, None, OK, 'Card, 24 GiB, driver 570, CUDA 12.8, bf16'), (3, True, None, LOOK, '3 GiB are free'),
    (20, False, None, LOOK, 'no bf16'), (20, True, RuntimeError('no kernel image'), BAD, 'no kernel image')])
def test_a_gpu_says_what_it_is_and_whether_it_computes(monkeypatch, free, bf16, error, mark, said):
    monkeypatch.setattr('coma_mm.benchmark.speed.gpu.gpu_facts',
                        lambda: {'GPU': 'Card', 'Driver': '570', 'CUDA': '12.8'})
    for name, value in dict(is_available=True, mem_get_info=(free * 2**30, 24 * 2**30), device_count=1).items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: bf16)
    on_cpu = torch.ones

    def ones(*size, device):
        if error:
            raise error
        return on_cpu(*size)

    monkeypatch.setattr(torch, 'ones', ones)
    found = machine.gpu()
    assert found.mark == mark and said in found.found


def test_cores_are_those_of_a_container(monkeypatch):
    monkeypatch.setattr(machine.os, 'sched_getaffinity', lambda _: set(range(64)))
    monkeypatch.setattr(machine.Path, 'read_text', lambda self: '200000 100000' if self.name == 'cpu.max' else '')
    found = machine.cores(16)
    assert str(found).startswith('look  cores: 64, of which a quota leaves 2; train_dataloader.num_workers=16; set '
                                 'train_dataloader.num_workers=1')
    assert machine.cores(2).mark == OK and machine.cores(0).mark == LOOK
    monkeypatch.setattr(machine.Path, 'read_text', lambda self: 'max 100000' if self.name == 'cpu.max' else '')
    assert str(machine.cores(16)) == 'ok    cores: 64; train_dataloader.num_workers=16'
    monkeypatch.setitem(machine.sys.modules, 'coma_mm.engine.workers', None)  # as if torch could not be imported
    assert str(machine.cores()) == 'ok    cores: 64'


@pytest.mark.parametrize('free, needed, mark', [
    (64 * 2**20, None, BAD), (2**29, None, LOOK), (8 * 2**30, None, OK), (2**30, 2**31, BAD), (3 * 2**30, 2**31, LOOK)])
def test_shared_memory_is_enough_for_the_batches(monkeypatch, free, needed, mark):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=free))
    found = machine.shared_memory(needed)
    assert found.mark == mark and (mark == OK or '--shm-size=16g' in found.remedy)


def test_no_shared_memory_is_bad(tmp_path):
    assert machine.shared_memory(path=str(tmp_path / 'none')).mark == BAD


@pytest.mark.parametrize('limits, mark, remedy', [
    ((256, 256), BAD, 'limits.conf'), ((1024, 1048576), LOOK, 'ulimit -n 65536'), ((20000, 20000), OK, ''),
    ((-1, -1), OK, '')])
def test_open_files(monkeypatch, limits, mark, remedy):
    monkeypatch.setattr(resource, 'getrlimit', lambda _: limits)
    found = machine.open_files()
    assert found.mark == mark and remedy in found.remedy


@pytest.mark.parametrize('free, needed, mark', [
    (2**29, None, BAD), (5 * 2**30, None, LOOK), (20 * 2**30, None, OK), (2**30, 2**31, BAD), (2**31, 2**30, OK)])
def test_the_disk_has_room_for_the_checkpoints(monkeypatch, tmp_path, free, needed, mark):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=free))
    assert machine.disk(str(tmp_path / 'a/b'), needed).mark == mark


def test_a_disk_that_may_not_be_written_to_is_bad():
    assert machine.disk('/proc/x').mark == BAD
    assert machine.disk(f'{__file__}/x').mark == BAD


def test_a_terminal_of_few_letters_is_looked_at(monkeypatch):
    monkeypatch.setattr(machine.sys, 'stdout', SimpleNamespace(encoding='ANSI_X3.4-1968'))
    assert machine.terminal().mark == LOOK


def test_no_check_ends_the_others():
    found = list(examine([('first', lambda: 1 / 0), ('second', lambda: Finding(OK, 'second', 'fine'))]))
    assert str(found[0]).startswith('bad   first: not to be found out: ZeroDivisionError: division by zero; mend ')
    assert found[1].mark == OK
