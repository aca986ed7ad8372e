"""Sequences of training runs that go on where they were: what `make demo` and `make study` are made of."""
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from rich.console import Console

from coma_mm.errors import EXIT_STOPPED, UserError
from coma_mm.files import PACKAGE, write_whole
from coma_mm.locks import locked
from coma_mm.processes import end_with_parent
from coma_mm.progress import Progress

AGAIN = 'There is no result yet: the same command, started again, goes on where it was'
PROGRAM = (sys.executable, '-m', 'coma_mm')
_PROGRESS = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')


@dataclass
class Run:
    """One training run.

    Args:
        name (str): Its folder's name.
        title (str): What a person reads.
        config (str): Name of the config in configs/shapes, without its suffix.
        epochs (int): Length; the schedule follows.
        seed (int): Defaults to 0.
        options (dict): More `--cfg-options`. Defaults to none.
        pretrained (bool): Whether it starts from the checkpoint in the variable PRETRAINED. Defaults to False.
    """
    name: str
    title: str
    config: str
    epochs: int
    seed: int = 0
    options: dict = field(default_factory=dict)
    pretrained: bool = False

    def command(self, folder: Path) -> list[str]:
        """Arguments of `coma-mm`."""
        options = {
            'epochs': self.epochs,
            'train_cfg.val_interval': max(1, self.epochs // 4),
            'randomness.seed': self.seed,
            **self.options,
        }
        return [
            'train', f'coma_mm::shapes/{self.config}.py', '--work-dir', str(folder / self.name), '--resume', 'auto',
            '--cfg-options', *(f'{key}={value}' for key, value in options.items())
        ]

    def checkpoint(self, folder: Path) -> Path:
        """Path of the last checkpoint."""
        return folder / self.name / f'epoch_{self.epochs}.pth'


def progress_bars() -> Progress:
    """Progress of runs on standard output, among the lines about them; to be entered as a context."""
    return Progress(Console())


class Experiment:
    """Runs in one folder, each in a process of its own; what is done stays done.

    Args:
        folder (str | Path): Where the runs are.
        env (dict[str, str]): Environment variables that the configs read.
        threads (int, optional): Threads of each process. Defaults to OMP_NUM_THREADS, or else to all cores.
        progress (Progress, optional): Where runs show how far they are. Defaults to bars of its own.
    """

    def __init__(self, folder: str | Path, env: dict[str, str], threads: int | None = None,
                 progress: Progress | None = None):
        self.folder = Path(folder)
        self.env = env
        threads = threads or os.environ.get('OMP_NUM_THREADS') or len(os.sched_getaffinity(0))
        self._environ = {**_environ(), **env, 'OMP_NUM_THREADS': str(threads)}
        self.progress = progress or progress_bars()

    def written_command(self, run: Run) -> str:
        """The command as a person would type it."""
        env = ' '.join(f'{key}={shlex.quote(value)}' for key, value in self.env.items())
        return f'{env} coma-mm {shlex.join(run.command(self.folder))}'

    def train(self, run: Run) -> float:
        """Do a run, go on with it, or find it done.

        Returns:
            float: Seconds that it took, interruptions apart.

        Raises:
            UserError: The run failed, or ended without its last checkpoint; the message names its log.
        """
        work_dir = self.folder / run.name
        record = work_dir / 'run.json'
        command = self.written_command(run)
        state = json.loads(record.read_text()) if record.exists() else {}
        inputs = self._inputs(run)
        # A record of a version that did not note the inputs counts as one of the same.
        same = bool(state) and state['command'] == command and state.get('inputs', inputs) == inputs
        if state.get('done') and same and run.checkpoint(self.folder).exists():
            self.progress.console.print(f'{run.title}: done before')
            return state['seconds']
        if state and not same:  # an earlier version's, or another budget's: nothing to go on with
            kept = _set_aside(work_dir)
            self.progress.console.print(f'{run.title}: its settings have changed, it is done anew; {kept} has the old one')
            state = {}
        work_dir.mkdir(parents=True, exist_ok=True)
        seconds = state.get('seconds', 0.)

        def save(**facts):
            write_whole(record, json.dumps(dict(command=command, inputs=inputs, **facts)))

        save(seconds=seconds)
        start = time.monotonic()
        task = self.progress.add_task(run.title, total=run.epochs, unit='epochs')
        try:
            with open(work_dir / 'log.txt', 'a', encoding='utf-8', buffering=1) as log:
                for line in self._lines(run.command(self.folder), f'{run.title}, whose log is {log.name},'):
                    log.write(line)
                    if found := _PROGRESS.search(line):
                        epoch, step, steps = map(int, found.groups())
                        self.progress.update(task, completed=epoch - 1 + step / steps)
                        save(seconds=seconds + time.monotonic() - start)
        except BaseException:
            self.progress.remove_task(task)  # whose last line would be that it is done, were it in its last validation
            raise
        seconds += time.monotonic() - start
        if not run.checkpoint(self.folder).exists():  # it could not be written, say
            save(seconds=seconds)
            self.progress.remove_task(task)
            raise UserError(f'{run.title} has ended without {run.checkpoint(self.folder).name}; its log, {log.name}, may '
                            f'say why. {AGAIN}')
        save(seconds=seconds, done=True)
        self.progress.update(task, completed=run.epochs)
        self.progress.remove_task(task)
        self.progress.console.print(f'{run.title}: {seconds:.0f} s')
        return seconds

    def forget(self, run: Run) -> None:
        """Have a run that is done gone on with at the next start, because a result of it is missing."""
        record = self.folder / run.name / 'run.json'
        state = json.loads(record.read_text())
        write_whole(record, json.dumps({key: value for key, value in state.items() if key != 'done'}))

    def _inputs(self, run: Run) -> dict:
        """What a run is made of besides its command: the parameters of the data, the pre-training's checkpoint."""
        marker = Path(self.env.get('SHAPES_ROOT', ''), 'coma_shapes.json')
        inputs = {}
        if marker.is_file():
            shapes = json.loads(marker.read_text())
            inputs['data'] = dict(version=shapes['version'], **shapes['parameters'])
        checkpoint = Path(self.env.get('PRETRAINED', ''))
        if run.pretrained and checkpoint.is_file():
            inputs['pretrained'] = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        return inputs

    def test(self, run: Run) -> dict[str, float]:
        """Metrics of a run's last checkpoint on the test split, measured once."""
        out = self.folder / run.name / 'test.json'
        if not out.exists():
            command = ['test', f'coma_mm::shapes/{run.config}.py', str(run.checkpoint(self.folder)),
                       '--work-dir', str(self.folder / run.name / 'test'), '--out', str(out)]
            task = self.progress.add_task(f'{run.title}, test', total=None)
            for _ in self._lines(command, f'{run.title}, its test,'):
                pass
            self.progress.remove_task(task)
        return json.loads(out.read_text())

    def _lines(self, command: list[str], what: str):
        """Output of a subcommand, `what` in a message, line by line; the process ends with this one."""
        process = subprocess.Popen([*PROGRAM, *command], env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors='replace', preexec_fn=end_with_parent)
        tail = []
        try:
            for line in process.stdout:
                tail = [*tail[-30:], line]
                yield line
            if process.wait():
                raise UserError(f'{what} {how_it_ended(process.returncode, tail)}. {AGAIN}')
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def how_it_ended(code: int, lines: Sequence[str] = ()) -> str:
    """What the exit code of a subprocess that failed stands for.

    Args:
        code (int): Of `Popen.returncode`: below zero, the number of the signal that killed it.
        lines (Sequence[str]): The last ones that it printed; an error among them is quoted, else the last one. Defaults to
            none.
    """
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'
        return f'was killed by {name}' + (' (out of memory?)' if code == -signal.SIGKILL else '')
    if code == EXIT_STOPPED:
        return 'was stopped by a signal'
    said = [line.strip() for line in lines if line.strip()]
    last = next((line for line in reversed(said) if line.startswith('error:')), said[-1] if said else 'it said nothing')
    return f'failed with exit code {code}: {last.removeprefix("error:").strip()}'


def _set_aside(work_dir: Path) -> Path:
    """Move a run's folder away; collecting runs passes over names with a dot in front."""
    names = (work_dir.with_name(f'.{work_dir.name}.{number}') for number in count(1))
    kept = next(path for path in names if not path.exists())
    with locked(work_dir):
        work_dir.rename(kept)
    return kept


def _environ() -> dict[str, str]:
    """The environment, in which `PROGRAM` is this package's, installed or not, and its output comes at once."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get('PYTHONPATH')]))
    return {**os.environ, 'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'}


def make_shapes(out: str | Path, level: str, size: int, **counts: int) -> None:
    """Make CoMA-Shapes of a level, in a process of its own, unless it is there.

    Raises:
        UserError: It failed, and has said why.
    """
    arguments = [f'--{split}={count}' for split, count in counts.items()]
    command = ['make_shapes', str(out), f'--level={level}', f'--size={size}', '--overwrite', *arguments]
    environ = {**_environ(), 'OMP_NUM_THREADS': '1'}
    code = subprocess.run([*PROGRAM, *command], env=environ, preexec_fn=end_with_parent).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise UserError(f'coma-mm {shlex.join(command)} {how_it_ended(code, ["see above"])}. {AGAIN}')


# Task, its config's prefix: what is fine-tuned from CoMA and from scratch.
TASKS = (
    ('Classification', 'dyvit-tiny'),
    ('UperNet', 'upernet_dyvit-tiny'),
    ('Mask R-CNN', 'mask-rcnn_dyvit-tiny'),
)
# Task, metric, its name in the logs, factor to per cent.
METRICS = (
    ('Classification', 'top-1 accuracy', 'accuracy/top1', 1),
    ('Segmentation, UperNet', 'mIoU', 'mIoU', 1),
    ('Detection, Mask R-CNN', 'box AP', 'coco/bbox_mAP', 100),
    ('Detection, Mask R-CNN', 'mask AP', 'coco/segm_mAP', 100),
)
ARMS = dict(coma='from CoMA', scratch='from scratch')


def fine_tunings(epochs: dict[str, int], seed: int = 0, options: dict | None = None,
                 easy: bool = False) -> dict[tuple[str, str], Run]:
    """Runs by (task, arm), with the same budget for both arms.

    Args:
        epochs (dict[str, int]): By task.
        seed (int): Defaults to 0.
        options (dict, optional): More `--cfg-options` by task.
        easy (bool): By the configs for the easy level of the scenes. Defaults to False: for the hard one.
    """
    name = '{}-p16_{}_shapes-easy' if easy else '{}_{}_shapes'
    return {
        (task, arm): Run(f'{prefix}_{arm}_seed{seed}', f'{task} {how}, seed {seed}', name.format(prefix, arm),
                         epochs[task], seed, (options or {}).get(task, {}), pretrained=arm == 'coma')
        for task, prefix in TASKS
        for arm, how in ARMS.items()
    }
