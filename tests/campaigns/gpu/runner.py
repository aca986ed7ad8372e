"""Runs parts, each in a process of its own with a limit of its own, and keeps what they have found after each of them."""
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coma_mm.files import write_metrics

STARTING = 15
"""Seconds that a process may take on top of its limit, for its imports, if it was not started ahead."""


@dataclass
class Part:
    """Something to run.

    Args:
        name (str): What the user calls it.
        title (str): What it finds out.
        work (str): The function of `work.py` that does it. It takes the `Scale` and the folder of its results, each of
            which is a JSON file.
        seconds (int): What it takes on one H100, as far as one can say: it is begun only if as much time is left.
        limit (int): Seconds after which it is killed.
        alone (bool): Whether nothing runs beside it, since it measures time. Defaults to True.
        prepare (str): A function that takes the `Scale` and is done before the part's turn, beside the part before.
            Defaults to none.
        options (dict): Further arguments of its function. Defaults to none.
        env (dict): Variables of its environment. Defaults to none.
    """
    name: str
    title: str
    work: str
    seconds: int
    limit: int
    alone: bool = True
    prepare: str = ''
    options: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


class Campaign:
    """Parts in the order of their value, and one file with what became of each.

    A part's process is started while the part before it runs, so that its imports cost no time; it waits for a line on its
    standard input.

    Args:
        parts (Sequence[Part]): The parts.
        start (Callable): Takes a part, a file for its output and the folder of its results, and starts its process.
        folder (Path): For the file, `results.json`, and for what the parts write.
        facts (dict): What the file says beside the parts.
        seconds (float): For all of it.
        together (int): How many of the parts that measure no time run side by side. Defaults to 1.
    """

    def __init__(self, parts: Sequence[Part], start: Callable, folder: Path, facts: dict[str, Any], seconds: float,
                 together: int = 1):
        self.parts, self.start, self.folder, self.together = parts, start, folder, together
        self.end = time.monotonic() + seconds
        self.found = dict(facts, parts={part.name: dict(title=part.title, ended='not reached') for part in parts})
        self.living = {}  # the processes of parts that run or wait for their turn

    def run(self) -> Iterator[str]:
        """Run the parts.

        Yields:
            str: A line about each.
        """
        try:
            self._write()
            groups = [*self._groups(), []]
            for group, following in zip(groups, groups[1:], strict=False):
                running = {}
                for part in group:
                    if self._fits(part):
                        running[part.name] = part, self._process(part), time.monotonic()
                        self._begin(part)
                    else:
                        yield self._leave_out(part)
                for part in filter(self._fits, following):
                    self._process(part)
                while running:
                    for name in [name for name, one in running.items() if self._is_over(*one)]:
                        yield self._line(running.pop(name)[0])
                    time.sleep(0.05)
        finally:
            for name in [*self.living]:
                self._kill(name)

    def _groups(self) -> Iterator[list[Part]]:
        """What runs side by side: neighbours that measure no time."""
        group = []
        for part in self.parts:
            if group and (part.alone or group[0].alone or len(group) == self.together):
                yield group
                group = []
            group.append(part)
        if group:
            yield group

    def _fits(self, part: Part) -> bool:
        return part.seconds <= self.end - time.monotonic()

    def _process(self, part: Part) -> subprocess.Popen:
        """A part's process, started now if it was not before."""
        if part.name not in self.living:
            folder = self.folder / 'parts' / part.name
            folder.mkdir(parents=True, exist_ok=True)
            self.living[part.name] = self.start(part, self._log(part), folder)
        return self.living[part.name]

    def _begin(self, part: Part) -> None:
        with suppress(BrokenPipeError):  # it is dead already, which will be seen
            self.living[part.name].stdin.write(b'go\n')
            self.living[part.name].stdin.flush()

    def _leave_out(self, part: Part) -> str:
        if part.name in self.living:
            self._kill(part.name)
        left = max(0, self.end - time.monotonic())
        self._note(part, f'left out: it needs some {part.seconds} s, and {left:.0f} s were left')
        return self._line(part)

    def _is_over(self, part: Part, process: subprocess.Popen, begun: float) -> bool:
        """Whether a part has ended, or was ended now; if so, what it has found is noted."""
        seconds, left = time.monotonic() - begun, self.end - begun
        limit = min(part.limit + STARTING, left)
        code = process.poll()
        if code is None and seconds < limit:
            return False
        if code is None:
            ended = f'killed after {limit:.0f} s, ' + ('its limit' if limit < left else 'when the time was over')
        elif code < 0:
            ended = f'ended by {signal.Signals(-code).name}'
        else:
            ended = f'ended with exit code {code}' if code else 'finished'
        self._kill(part.name)
        more = {} if ended == 'finished' else dict(says=_tail(self._log(part)))
        self._note(part, ended, seconds=round(seconds, 1), **more)
        return True

    def _note(self, part: Part, ended: str, **more: Any) -> None:
        self.found['parts'][part.name] = dict(
            title=part.title, ended=ended, **more, results=dict(_results(self.folder / 'parts' / part.name)))
        self._write()

    def _line(self, part: Part) -> str:
        one = self.found['parts'][part.name]
        seconds = f' in {one["seconds"]:.0f} s' if 'seconds' in one else ''
        return f'{part.name}: {one["ended"]}{seconds}' + ''.join(f'\n    {line}' for line in one.get('says', [])[-3:])

    def _log(self, part: Part) -> Path:
        return self.folder / 'parts' / f'{part.name}.log'

    def _kill(self, name: str) -> None:
        """End a part's process, and those that it has started."""
        process = self.living.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with suppress(OSError):  # what was written to it is still in the pipe's buffer
            process.stdin.close()

    def _write(self) -> None:
        write_metrics(self.found, self.folder / 'results.json')


def _results(folder: Path) -> Iterator[tuple[str, Any]]:
    """The JSON files in a folder, by their names without the suffix; a part that was killed has left what it had."""
    for path in sorted(folder.rglob('*.json')):
        with suppress(ValueError):
            yield path.relative_to(folder).with_suffix('').as_posix(), json.loads(path.read_text())


def _tail(path: Path, lines: int = 12) -> list[str]:
    """The last lines of what a part has said."""
    return [line[:300] for line in path.read_text(errors='replace').splitlines()[-lines:]] if path.exists() else []
