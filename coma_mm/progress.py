"""How far long work is and how long it still takes: a bar on a terminal, a plain line now and then anywhere else."""
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint

from rich import progress
from rich.console import Console
from rich.text import Text

INTERVAL = 20.
"""Seconds between two plain lines about the same work."""


def duration(seconds: float) -> str:
    """str: A length of time in words: '58 s', '2 min 05 s' or '28 h 30 min'."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes >= 60:
        return f'{minutes // 60} h {minutes % 60:02d} min'
    return f'{minutes} min {seconds:02d} s' if minutes else f'{seconds} s'


def line(task: progress.Task) -> str:
    """How far a task is, in words.

    Args:
        task (Task): The task. Its field `unit` names what is counted, if there is one.

    Returns:
        str: 'Reading: 12 of 60 images, 3 min 10 s left', or the time so far where the end is not known.
    """
    numbers = [f'{number:.1f}'.removesuffix('.0') for number in (task.completed, task.total) if number is not None]
    count = f'{" of ".join(numbers)} {task.fields.get("unit", "")}'.rstrip() + ', '
    if task.total is None and not task.completed:
        count = ''
    if task.finished:
        time = f'done in {duration(task.finished_time)}'
    elif task.time_remaining is not None:
        time = f'{duration(task.time_remaining)} left'
    else:
        time = f'{duration(task.elapsed or 0)} so far'
    return f'{task.description}: {count}{time}'


class _Line(progress.ProgressColumn):
    """The line of a task beside its bar."""

    def render(self, task):
        return Text(line(task))


class Progress(progress.Progress):
    """The bars of rich; where there is no terminal, a thread prints a line for each unfinished task at regular intervals.

    The thread prints also while a single step takes long. A last line tells that a task is done.

    Args:
        console (Console, optional): Where to show it. Defaults to standard error, which leaves standard output to results.
        interval (float): Seconds between two plain lines. Defaults to `INTERVAL`.
        transient (bool): Whether the bars vanish at the end. Defaults to False.
        get_time (Callable, optional): The clock, in seconds. Defaults to the console's.
    """

    def __init__(self, console: Console | None = None, interval: float = INTERVAL, transient: bool = False,
                 get_time: Callable[[], float] | None = None):
        console = console or Console(stderr=True)
        self.is_plain = not (console.is_interactive and console.file.isatty())
        # What is printed meanwhile goes above the bar, unless it goes to a file. The speed is a mean over half an hour, so
        # that slow steps have one too.
        super().__init__(progress.BarColumn(), _Line(), console=console, transient=transient, get_time=get_time,
                         disable=self.is_plain, redirect_stdout=sys.stdout.isatty(), speed_estimate_period=1800)
        self._interval, self._stopped, self._thread = interval, threading.Event(), None

    def start(self) -> None:
        """Show the bars, or begin to print lines."""
        super().start()
        if self.is_plain:
            self._thread = threading.Thread(target=self._print_lines, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Leave the bars as they are, or print the last lines."""
        thread, self._thread = self._thread, None
        if thread:
            self._stopped.set()
            thread.join()
            self._print(task for task in self.tasks if task.finished)
        elif not self.is_plain:
            super().stop()

    def _print_lines(self):
        while not self._stopped.wait(self._interval):
            self._print(task for task in self.tasks if not task.finished)

    def _print(self, tasks):
        for task in tasks:
            self.console.print(line(task), markup=False, highlight=False, soft_wrap=True)


def track(sequence: Iterable, description: str, total: float | None = None, *, completed: int = 0, unit: str = '',
          disable: bool = False, transient: bool = False, interval: float = INTERVAL) -> Iterator:
    """Show how far a loop is.

    Args:
        sequence (Iterable): What the loop goes through.
        description (str): What the loop does.
        total (float, optional): The number of steps. Defaults to the length of the sequence, if it has one.
        completed (int): Steps of the total that were done before. Defaults to 0.
        unit (str): What is counted. Defaults to nothing.
        disable (bool): Whether to show nothing. Defaults to False.
        transient (bool): Whether the bar vanishes at the end. Defaults to False.
        interval (float): Seconds between two lines where there is no terminal. Defaults to `INTERVAL`.

    Yields:
        Any: The values of the sequence.
    """
    if disable:
        yield from sequence
        return
    if total is None:
        total = completed + length_hint(sequence) or None
    with Progress(interval=interval, transient=transient) as bars:
        task = bars.add_task(description, total=total, completed=completed, unit=unit)
        for value in sequence:
            yield value
            bars.advance(task)
        if total is None:
            bars.update(task, total=bars.tasks[0].completed)
