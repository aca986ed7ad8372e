"""Errors of the libraries that are the user's to mend are put in one line."""
import argparse
import errno
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from mmseg.models import SegDataPreProcessor
from torch.distributed import DistNetworkError

from coma_mm.commands import exit_with
from coma_mm.engine.explain import explain
from coma_mm.engine.train import _variable_hint, variables_named
from coma_mm.errors import BadImageError, MissingFileError, UserError
from coma_mm.files import made_folder


def test_images_of_several_sizes_in_one_batch_of_validation():
    batch = dict(inputs=[torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)])
    with pytest.raises(AssertionError) as caught:
        SegDataPreProcessor(mean=[0.] * 3, std=[1.] * 3)(batch, training=False)
    assert 'batch_size=1' in explain(caught.value)


def test_other_assertions_keep_their_traceback():
    assert explain(AssertionError('something else')) is None


def test_panoptic_data_name_the_extra_that_reads_them(monkeypatch):
    from mmdet.datasets.transforms import LoadPanopticAnnotations
    from mmdet.evaluation import metrics
    monkeypatch.setitem(sys.modules, 'panopticapi', None)  # as if it were not installed
    monkeypatch.setattr(metrics.coco_panoptic_metric, 'panopticapi', None)
    for build in (LoadPanopticAnnotations, metrics.CocoPanopticMetric):
        with pytest.raises((ImportError, RuntimeError)) as caught:
            build()
        assert "pip install 'coma-mm[panoptic]'" in explain(caught.value)


def test_the_variable_that_an_error_is_about_is_named(monkeypatch):
    monkeypatch.delenv('DATA_ROOT', raising=False)
    cfg = SimpleNamespace(text="data_root = '{{$DATA_ROOT:data}}/imagenet'\nother = 1")
    stands = ' (the environment variable DATA_ROOT is not set, which stands for data)'
    for line, expected in (('no data/imagenet/train', stands), ('data/imagenet is gone', stands), ('no data/images', ''),
                           ('no big/data/imagenet', ''), ('data/imagenets', ''), ('more data', '')):
        assert _variable_hint(cfg, line, missing=True) == expected
    monkeypatch.setenv('DATA_ROOT', '/big')
    assert _variable_hint(cfg, 'no /big/imagenet', missing=True) == ' (the environment variable DATA_ROOT is set to /big)'


def test_a_variable_is_not_named_for_what_is_wrong_below_a_folder_that_is_there(tmp_path, monkeypatch):
    cfg = SimpleNamespace(text="data_root = '{{$DATA_ROOT:data}}'\n", get=None)
    monkeypatch.setenv('DATA_ROOT', str(tmp_path))

    def hint(error):
        with pytest.raises(type(error)), variables_named(cfg):
            raise error
        return error.hint

    assert not hint(BadImageError(f'cannot read the image {tmp_path}/a.jpg: truncated'))
    assert not hint(UserError(f'cannot make the folder {tmp_path}/run: No space left on device'))
    assert 'DATA_ROOT is set to' in hint(MissingFileError(f'ImageFolder: {tmp_path}/train does not exist'))
    (tmp_path / 'a.pth').touch()
    monkeypatch.setenv('DATA_ROOT', f'{tmp_path}/a.pth')  # a file is what its variable says
    assert 'DATA_ROOT is set to' in hint(UserError(f'the checkpoint {tmp_path}/a.pth is damaged'))


WORKER = 'DataLoader worker (pid 17) is killed by signal: '
FULL = OSError(errno.ENOSPC, 'No space left on device', '/runs/a.log')
IN_WORKER = OSError('Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
                    'OSError: [Errno 24] Too many open files')


@pytest.mark.parametrize('error, expected', [
    (FULL, 'no space is left on the disk (/runs/a.log); make room'), (MemoryError(), "the machine's memory is full"),
    (OSError(errno.EMFILE, 'Too many open files'), 'ulimit -n'), (IN_WORKER, 'ulimit -n'),
    (RuntimeError(f'{WORKER}Killed. '), '(process 17) was killed, most likely since the memory was full'),
    (RuntimeError('DataLoader worker (pid(s) 17, 18) exited unexpectedly'), "worker (process 17, 18) ended, most likely"),
    (RuntimeError(f'{WORKER}Segmentation fault. '), '(process 17) crashed: Segmentation fault; a library cannot bear'),
    (RuntimeError(f"{WORKER}Bus error. It is possible that dataloader's workers are out of shared memory."), '--shm-size'),
    (RuntimeError('unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)'), '--shm-size'),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to'"), 'memory is full'),
    (RuntimeError('received 0 items of ancdata'), 'ulimit -n')])
def test_what_a_machine_runs_out_of_is_named_and_is_not_bad_input(capfd, tmp_path, monkeypatch, error, expected):
    monkeypatch.setenv('COMA_MM_EXIT_CODE', str(tmp_path / 'note'))
    for at_start, code in ((False, 1), (True, 2)):

        def fail(at_start=at_start):
            error.at_start = at_start
            raise error

        with pytest.raises(SystemExit) as caught:
            exit_with(fail)
        line, = capfd.readouterr().err.splitlines()
        assert expected in line and 'check the config' not in line and caught.value.code == code
        assert (tmp_path / 'note').exists() is at_start  # else torchrun starts the processes again


def test_a_name_that_is_too_long_is_one_line(tmp_path):
    with pytest.raises(OSError) as caught, made_folder(tmp_path / ('x' * 5000)):
        pass
    assert re.fullmatch(r'the name /.* … x* is too long for a file or a folder; choose a shorter one', explain(caught.value))


def test_other_errors_while_training_keep_their_traceback():
    for error in (RuntimeError('of a bug'), OSError(errno.EIO, 'Input/output error')):
        error.at_start = False
        assert explain(error) is None


def test_a_wrong_option_is_noted_for_torchrun(tmp_path, monkeypatch):
    monkeypatch.setenv('COMA_MM_EXIT_CODE', str(tmp_path / 'note'))
    with pytest.raises(SystemExit) as caught:
        exit_with(lambda: argparse.ArgumentParser().parse_args(['--bogus']))
    assert caught.value.code == 2 and (tmp_path / 'note').read_text() == '2\n'

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        exit_with(interrupted)
    assert (tmp_path / 'note').read_text() == '2\n130\n'  # the first process's counts, see test_launch.py


def test_that_another_process_died_is_no_bad_input():
    for error in (RuntimeError('[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:3521'),
                  DistNetworkError('failed to recv, got 0 bytes')):
        error.at_start = True
        assert explain(error) is None


def test_what_files_are_named_cannot_break_the_line():
    assert explain(UserError('no file a\nb\x1b[2J…×\u202e')) == 'no file a\\nb\\x1b[2J…×\\u202e'
