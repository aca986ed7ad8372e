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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

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
        base (Run, optional): The pre-training from whose last checkpoint it starts. Defaults to none: from scratch.
    """
    name: str
    title: str
    config: str
    epochs: int
    seed: int = 0
    options: dict = field(default_factory=dict)
    base: 'Run | None' = None

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
        data (str | Path): Folder of the scenes, which the configs read from the environment.
        jobs (int, optional): Runs side by side. Defaults to 2, or 1 on a single core.
        threads (int, optional): Threads of each process. Defaults to OMP_NUM_THREADS, or else to a share of the cores.
        progress (Progress, optional): Where runs show how far they are. Defaults to bars of its own.
    """

    def __init__(self, folder: str | Path, data: str | Path, jobs: int | None = None, threads: int | None = None,
                 progress: Progress | None = None):
        self.folder = Path(folder)
        self.data = Path(data)
        cores = len(os.sched_getaffinity(0))
        self.jobs = jobs or min(2, cores)
        threads = threads or os.environ.get('OMP_NUM_THREADS') or max(1, cores // self.jobs)
        self._environ = {**_environ(), 'OMP_NUM_THREADS': str(threads)}
        self.progress = progress or progress_bars()
        self._processes: set[subprocess.Popen] = set()
        self._ends = False

    def _variables(self, run: Run) -> dict[str, str]:
        """What the config of a run reads from the environment."""
        pretrained = dict(PRETRAINED=str(run.base.checkpoint(self.folder))) if run.base else {}
        return dict(SHAPES_ROOT=str(self.data), **pretrained)

    def written_command(self, run: Run) -> str:
        """The command as a person would type it."""
        env = ' '.join(f'{key}={shlex.quote(value)}' for key, value in self._variables(run).items())
        return f'{env} coma-mm {shlex.join(run.command(self.folder))}'

    def all(self, runs: Iterable[Run], do: Callable[[Run], Any] | None = None) -> dict[str, Any]:
        """Do runs side by side, in order; one that starts from another waits for it.

        Args:
            runs (Iterable[Run]): A pre-training stands before the runs that start from it.
            do (Callable, optional): What is done with each. Defaults to `train`.

        Returns:
            dict[str, Any]: What `do` returned, by the runs' names.

        Raises:
            UserError: Of the first run that fails. The others are stopped first, and go on at the next start.
        """
        futures: dict[str, Future] = {}
        self._ends = False

        def one(run):
            try:
                if run.base:
                    futures[run.base.name].result()
                return None if self._ends else (do or self.train)(run)
            except BaseException:
                self._ends = True  # before this thread takes the next
                raise

        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for run in runs:
                    futures[run.name] = pool.submit(one, run)
                for future in as_completed(futures.values()):
                    future.result()
            except BaseException:  # also a key that was pressed
                self._ends = True
                pool.shutdown(wait=False, cancel_futures=True)
                for process in tuple(self._processes):
                    process.terminate()
                raise
        return {name: future.result() for name, future in futures.items()}

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
                for line in self._lines(run, run.command(self.folder), f'{run.title}, whose log is {log.name},'):
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
        marker = self.data / 'coma_shapes.json'
        inputs = {}
        if marker.is_file():
            shapes = json.loads(marker.read_text())
            inputs['data'] = dict(version=shapes['version'], **shapes['parameters'])
        if run.base and (checkpoint := run.base.checkpoint(self.folder)).is_file():
            inputs['pretrained'] = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        return inputs

    def test(self, run: Run) -> dict[str, float]:
        """Metrics of a run's last checkpoint on the test split, measured once."""
        out = self.folder / run.name / 'test.json'
        if not out.exists():
            command = ['test', f'coma_mm::shapes/{run.config}.py', str(run.checkpoint(self.folder)),
                       '--work-dir', str(self.folder / run.name / 'test'), '--out', str(out)]
            task = self.progress.add_task(f'{run.title}, test', total=None)
            for _ in self._lines(run, command, f'{run.title}, its test,'):
                pass
            self.progress.remove_task(task)
        return json.loads(out.read_text())

    def _lines(self, run: Run, command: list[str], what: str) -> Iterator[str]:
        """Output of a subcommand about a run, `what` in a message, line by line; the process ends with this one."""
        env = {**self._environ, **self._variables(run)}
        process = subprocess.Popen([*PROGRAM, *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors='replace', preexec_fn=end_with_parent)
        self._processes.add(process)
        tail = []
        try:
            if self._ends:  # it was begun just when another failed
                process.terminate()
            for line in process.stdout:
                tail = [*tail[-30:], line]
                yield line
            if process.wait():
                raise UserError(f'{what} {how_it_ended(process.returncode, tail)}. {AGAIN}')
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            self._processes.discard(process)


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


# Task, its config's prefix: what is fine-tuned from CoMA and from scratch, the shortest first.
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


@dataclass
class Recipe:
    """What is run at a level of the scenes.

    Args:
        level (str): The scenes' level.
        size (int): Their side, in pixels.
        images (dict[str, int]): Of each split.
        epochs (dict[str, int]): Of each task.
        name (str): Of the fine-tunings' configs, with places for the task's prefix and the arm.
        pretraining (str): Name of the pre-training's config.
        own_pretraining (dict[str, str]): Name of the config by task, where a task has a pre-training of its own. Defaults
            to none.
    """
    level: str
    size: int
    images: dict[str, int]
    epochs: dict[str, int]
    name: str
    pretraining: str
    own_pretraining: dict[str, str] = field(default_factory=dict)

    def scaled(self, factor: float, **images: int) -> 'Recipe':
        """The recipe with a factor on images and epochs, of which there are at least 16 and 2, after `images` is set."""
        images = {**self.images, **images}
        return replace(self, images={split: count and max(16, int(count * factor)) for split, count in images.items()},
                       epochs={task: max(2, round(count * factor)) for task, count in self.epochs.items()})

    def pretrain(self, seed: int = 0, options: dict | None = None) -> dict[str, Run]:
        """The pre-training of each task, with a seed and more `--cfg-options`; most tasks share one."""
        epochs, options = self.epochs['Pre-training'], options or {}
        shared = Run(f'pretrain_seed{seed}', f'Pre-training with CoMA, seed {seed}', self.pretraining, epochs, seed, options)
        return {
            task: Run(f'pretrain_{prefix}_seed{seed}', f'Pre-training with CoMA for {task}, seed {seed}',
                      self.own_pretraining[task], epochs, seed, options) if task in self.own_pretraining else shared
            for task, prefix in TASKS
        }

    def fine_tunings(self, bases: dict[str, Run], seed: int = 0,
                     options: dict | None = None) -> dict[tuple[str, str], Run]:
        """Runs by (task, arm), with the same budget for both arms.

        Those from scratch come first, which need not wait, and in each arm the longest: started last it would run alone.

        Args:
            bases (dict[str, Run]): The pre-training from which one arm starts, by task.
            seed (int): Defaults to 0.
            options (dict, optional): More `--cfg-options` of all of them.
        """
        return {
            (task, arm): Run(f'{prefix}_{arm}_seed{seed}', f'{task} {how}, seed {seed}', self.name.format(prefix, arm),
                             self.epochs[task], seed, options or {}, bases[task] if arm == 'coma' else None)
            for arm, how in reversed(ARMS.items())
            for task, prefix in reversed(TASKS)
        }


def pretrainings_of(runs: Iterable[Run]) -> list[Run]:
    """The pre-trainings from which runs start, each once, in the order of the runs."""
    return list({run.base.name: run.base for run in runs if run.base}.values())


RECIPES = {
    'easy': Recipe(
        'easy', 64, dict(unlabelled=4000, train=1000, val=200, test=1000),
        {'Pre-training': 20, 'Classification': 4, 'UperNet': 3, 'Mask R-CNN': 2},
        '{}-p16_{}_shapes-easy', 'coma_dyvit-tiny-p16_shapes-easy',
        {'Mask R-CNN': 'coma_dyvit-tiny-p16_all-stages_shapes-easy'}),
    'hard': Recipe(
        'hard', 128, dict(unlabelled=3000, train=500, val=200, test=500),
        {'Pre-training': 30, 'Classification': 20, 'UperNet': 6, 'Mask R-CNN': 4},
        '{}_{}_shapes', 'coma_dyvit-tiny_shapes'),
}
