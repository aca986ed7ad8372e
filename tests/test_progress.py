"""Long work says how far it is: by a bar on a terminal, by plain lines anywhere else."""
import os
import pty
import re
import subprocess
import sys
import time
from io import StringIO

import pytest
from rich.console import Console

from coma_mm.progress import INTERVAL, Progress, duration, line, track


def test_durations():
    assert [duration(seconds) for seconds in (7.6, 125.4, 102600)] == ['8 s', '2 min 05 s', '28 h 30 min']


def test_a_line_tells_how_far_it_is_and_the_time_left():
    now = 0.
    bars = Progress(Console(file=StringIO()), get_time=lambda: now)
    task = bars.add_task('Reading', total=60, unit='images')
    assert line(bars.tasks[0]) == 'Reading: 0 of 60 images, 0 s so far'  # nothing to reckon with
    for seconds in (100, 95):  # steps that are longer than rich's window of 30 s
        now += seconds
        bars.advance(task, 10)
    assert line(bars.tasks[0]) == 'Reading: 20 of 60 images, 6 min 20 s left'
    bars.update(task, completed=20.51)
    assert line(bars.tasks[0]).startswith('Reading: 20.5 of 60 images, ')
    now = 260.
    bars.update(task, completed=60)
    assert line(bars.tasks[0]) == 'Reading: 60 of 60 images, done in 4 min 20 s'
    endless = bars.add_task('Testing', total=None)
    now = 300.
    assert line(bars.tasks[endless]) == 'Testing: 40 s so far'


def test_plain_lines_come_often_enough():
    assert 10 <= INTERVAL < 30


SCRIPT = '''
import sys, time
sys.argv[0] = 'coma-mm'  # as which the package is imported in no time
from coma_mm.progress import track
for seconds in track([.1, 1.5, 0, 0], 'Reading', unit='images', interval=.2):
    time.sleep(seconds)
    print('result', flush=True)
'''


def test_without_a_terminal_plain_lines_come_at_once_also_while_one_step_takes_long():
    process = subprocess.Popen([sys.executable, '-c', SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = [(time.monotonic(), text) for text in process.stdout]
    assert process.wait() == 0
    during = [at for at, text in lines if re.fullmatch(r'Reading: 1 of 4 images, \d s so far\n', text)]
    assert len(during) >= 4 and during[-1] - during[0] > .5  # as they are printed, not all at the end
    assert lines[-1][1] == 'Reading: 4 of 4 images, done in 2 s\n'
    assert [text for _, text in lines].count('result\n') == 4 and len(lines) < 15


def test_on_a_terminal_there_is_a_bar_and_no_plain_line():
    terminal, inside = pty.openpty()
    done = subprocess.run([sys.executable, '-c', SCRIPT], stderr=inside, stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, TERM='xterm', COLUMNS='100'))
    os.close(inside)
    shown = b''
    try:
        while part := os.read(terminal, 2**16):
            shown += part
    except OSError:  # the end, on Linux
        pass
    os.close(terminal)
    assert done.returncode == 0 and done.stdout == 'result\n' * 4
    assert '━━\x1b[0m Reading: 1 of 4 images, 1 s so far' in shown.decode()


def test_results_stay_apart_and_a_loop_of_unknown_length_ends_with_a_line_too(capfd):
    assert list(track(iter('ab'), 'Looking')) == ['a', 'b']
    out, err = capfd.readouterr()
    assert not out and re.fullmatch(r'Looking: 2 of 2, done in 0 s\n', err)


def test_work_that_failed_is_not_called_done(capfd):
    with pytest.raises(ZeroDivisionError):
        for number in track([1, 0], 'Dividing'):
            1 / number
    assert list(track('ab', 'Silently', disable=True)) == ['a', 'b']
    assert capfd.readouterr() == ('', '')


def test_nothing_is_printed_after_the_end():
    console = Console(file=StringIO())
    with Progress(console, interval=.05) as bars:
        bars.add_task('Waiting', total=1)
        time.sleep(.2)
        bars.stop()  # as a caller does who has something to print
        printed = console.file.getvalue()
        time.sleep(.2)
    assert 'Waiting: 0 of 1' in printed == console.file.getvalue()
