"""Warnings of a start come once each, in one line, after what the start says."""
import os
import warnings

import pytest

from coma_mm.notices import hold, release, warnings_last


def test_warnings_come_last_once_and_in_one_line(capsys):
    with warnings_last():
        for _ in range(2):
            assert hold('a key\n   is \x1b[31mmisspelt')
        warnings.warn('an old option', UserWarning, stacklevel=1)
        print('8 images per update')
        release()
        assert not hold('later') and capsys.readouterr().out.splitlines()[:2] == [
            '8 images per update', r'warning: a key is \x1b[31mmisspelt']
    assert not capsys.readouterr().out


def test_pythons_own_warnings_name_their_place(capsys):
    with warnings_last():
        warnings.warn('an old option', UserWarning, stacklevel=1)
        assert not any(capsys.readouterr())
    found = capsys.readouterr()
    assert found.out.startswith(f'warning: an old option ({__file__}:') and found.out.count('\n') == 1 and not found.err


def test_a_start_that_fails_shows_them_before_its_error(capsys):
    with pytest.raises(ValueError), warnings_last():
        hold('a key is misspelt')
        raise ValueError
    assert capsys.readouterr().out == 'warning: a key is misspelt\n' and not hold('later')


def test_without_a_start_nothing_is_held_back_and_no_other_process_holds_any():
    with warnings_last(active=False):
        assert not hold('now')
    with warnings_last():
        if not (child := os.fork()):
            os._exit(hold('of a worker'))
        assert os.waitpid(child, 0)[1] == 0


def test_of_several_processes_the_first_one_shows_them(capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with warnings_last():
        hold('a key is misspelt')
    assert not capsys.readouterr().out
