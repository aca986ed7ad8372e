"""What the terminal leaves out, and the log file has."""

from mmengine.logging import MMLogger

from coma_mm.engine import terminal
from coma_mm.notices import release, warnings_last


def new_logger(folder):
    """MMLogger: With a terminal and a file, as a run's."""
    logger = MMLogger('run', log_file=str(folder / 'log'))
    terminal.quieten(logger)
    return logger


def say(logger):
    logger.info('Config:\nmodel = dict()\n')
    logger.warning('this will be slow')
    logger.info('Train: 24 images')


def shown(capsys):
    return [line.rpartition(' - ')[2] for line in capsys.readouterr().out.splitlines()]


def test_the_config_is_in_the_file_alone_and_warnings_wait_for_the_end_of_the_start(tmp_path, capsys):
    logger = new_logger(tmp_path)
    with warnings_last():
        say(logger)
        assert shown(capsys) == ['Train: 24 images']
        release()
        assert shown(capsys) == ['warning: this will be slow']
        logger.warning('later')
        assert shown(capsys) == ['later']
    log = (tmp_path / 'log').read_text()
    assert log.index('model = dict()') < log.index('this will be slow') < log.index('Train') < log.index('later')


def test_verbose_shows_all_and_an_error_is_always_shown(tmp_path, capsys, monkeypatch):
    logger = new_logger(tmp_path)
    logger.error('Config:\nis an odd start of an error')
    assert 'odd start' in capsys.readouterr().out
    monkeypatch.setattr(terminal, 'verbose', True)
    say(logger)
    assert shown(capsys) == ['Config:', 'model = dict()', '', 'this will be slow', 'Train: 24 images']
