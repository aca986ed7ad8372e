"""Errors of the libraries that are the user's to mend are put in one line."""
import argparse
from types import SimpleNamespace

import pytest
import torch
from mmseg.models import SegDataPreProcessor
from torch.distributed import DistNetworkError

from coma_mm.commands import exit_with
from coma_mm.engine.explain import explain
from coma_mm.engine.train import _variable_hint
from coma_mm.errors import UserError


def test_images_of_several_sizes_in_one_batch_of_validation():
    batch = dict(inputs=[torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)])
    with pytest.raises(AssertionError) as caught:
        SegDataPreProcessor(mean=[0.] * 3, std=[1.] * 3)(batch, training=False)
    assert 'batch_size=1' in explain(caught.value)


def test_other_assertions_keep_their_traceback():
    assert explain(AssertionError('something else')) is None


def test_the_variable_that_an_error_is_about_is_named(monkeypatch):
    monkeypatch.delenv('DATA_ROOT', raising=False)
    cfg = SimpleNamespace(text="data_root = '{{$DATA_ROOT:data}}/imagenet'\nother = 1")
    stands = ' (the environment variable DATA_ROOT is not set, which stands for data)'
    for line, expected in (('no data/imagenet/train', stands), ('data/imagenet is gone', stands), ('no data/images', ''),
                           ('no big/data/imagenet', ''), ('data/imagenets', ''), ('more data', '')):
        assert _variable_hint(cfg, line) == expected
    monkeypatch.setenv('DATA_ROOT', '/big')
    assert _variable_hint(cfg, 'no /big/imagenet') == ' (the environment variable DATA_ROOT is set to /big)'


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
