"""The study from its first run to its file of facts; what is done stays done, whoever stops it and whenever.

docs/results/complement_plan.md says what is done in which order, and was written before: first `CONTROL`, then `PILOT`,
then the pairs of which the pilot has fixed the number, then the other arms. What is decided between them is written down
once. The weights that they end with are fine-tuned beside fresh ones. What beats A by then is run with fresh seeds.
"""
import hashlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from coma_mm.errors import EXIT_STOPPED, Stopped, UserError
from coma_mm.files import PACKAGE, read_text, write_metrics, write_whole
from coma_mm.locks import locked
from coma_mm.processes import end_with_parent, listen
from coma_mm.progress import duration
from coma_mm.visualization.logs import environment

from . import downstream
from .arms import ARMS, SCALES, Scale, build, operations, updates
from .images import Pack, read_pack
from .measures import measure
from .trainer import Trainer
from .verdicts import difference, interval, pairs_needed, upper_sd

CONTROL = range(5)
"""Seeds of P, in whose course A's is; the other exploratory arms have them as well."""
MORE_CONTROL = range(5, 10)
"""Further ones, if the first leave it open whether P is better than A; and those with which a winner is confirmed."""
SECOND_LOOK = 0.975
"""The confidence that the interval of all of them must have above 0."""
PILOT = range(100, 104)
"""Seeds of the pairs of B and C that give the spread, and are not part of the result."""
FEWEST, MOST = 5, 16
"""Bounds of the number of pairs of C and B."""
LONGEST = 4
"""The factor on the budget beyond which the study is given up, if P is not better than A."""
CONTROL_BUDGET = 2.
SCRATCH = 'scratch'
"""Stands for an arm where weights are fine-tuned: those that all arms start from."""


class Job(NamedTuple):
    """A run.

    Args:
        phase (str): 'control', 'pilot', 'main', 'others', 'fresh' or, to fine-tune what these have given, 'downstream'.
        arm (str): Its name, or `SCRATCH`.
        seed (int): Its seed.
        factor (float): On the scale's budget.
    """
    phase: str
    arm: str
    seed: int
    factor: float

    @property
    def name(self) -> str:
        """str: Of its folder."""
        return ('downstream-' if self.phase == 'downstream' else '') + f'{self.arm}-{self.seed}-x{self.factor:g}'


def phases(scale: Scale, decisions: dict[str, Any]) -> Iterator[list[Job]]:
    """The runs in their order, as far as the decisions so far let them be known; each phase begins when the last is done.

    Args:
        scale (Scale): Which arms there are.
        decisions (dict): What `decide` has decided.

    Yields:
        list[Job]: Those of a phase; it goes on to the next when it is asked again.
    """
    factor = decisions.get('factor', 1.)
    yield [Job('control', 'P', seed, factor) for seed in control_seeds(decisions)]
    if decisions.get('sees') is not True:
        return
    yield [Job('downstream', arm, seed, factor) for seed in CONTROL for arm in (SCRATCH, 'A')]
    yield [Job('pilot', arm, seed, factor) for seed in PILOT for arm in 'BC']
    if 'pairs' not in decisions:
        return
    yield [Job('main', arm, seed, factor) for seed in range(decisions['pairs']) for arm in 'BC']
    yield [Job('others', arm, seed, factor) for seed in CONTROL for arm in scale.arms if arm not in 'ABCP']
    yield [Job('downstream', arm, seed, factor) for seed in CONTROL for arm in scale.arms if arm not in 'AP']
    if candidates := decisions.get('candidates'):
        yield [Job('control', 'P', seed, factor) for seed in MORE_CONTROL]
        yield [Job('fresh', arm, seed, factor) for seed in MORE_CONTROL for arm in candidates]


def control_seeds(decisions: dict[str, Any]) -> range:
    """range: The seeds of P at the present budget: more of them, once the first have left it open."""
    looked = any(look['factor'] == decisions.get('factor', 1.) for look in decisions.get('looks', ()))
    return range(CONTROL.start, MORE_CONTROL.stop) if looked else CONTROL


def decide(decisions: dict[str, Any], results: dict[str, dict], arms: Iterable[str] = 'BC') -> dict[str, Any]:
    """What follows from the runs of the phases that are complete.

    Args:
        decisions (dict): So far. What is decided is not decided again, but for the budget, which P and A alone can lengthen.
        results (dict): By the jobs' names.
        arms (Iterable[str]): Of the scale. Defaults to B and C.

    Returns:
        dict: 'factor' on the budget; 'stage' of the primary outcome, 'control' (P - A) and 'sees', whether the study sees
        it, and 'looks', earlier ones that left it open; 'pilot' (C - B) and 'pairs', the number of the main ones;
        'candidates', the arms that beat A and are to be confirmed. Those that are decided.
    """
    found = dict(decisions, factor=decisions.get('factor', 1.))
    seeds = control_seeds(found)
    control = [results.get(Job('control', 'P', seed, found['factor']).name, {}).get('points') for seed in seeds]
    if 'sees' not in found and all(control):
        stages = range(len(control[0]['1']['linear']))
        found['stage'] = max(stages, key=lambda stage: sum(
            points[budget]['linear'][stage] for points in control for budget in ('1', '2')))
        ours, theirs = ([points[budget]['linear'][found['stage']] for points in control] for budget in ('2', '1'))
        looked = difference(ours, theirs)
        first = len(seeds) == len(CONTROL)
        found['control'], found['control_factor'] = looked._asdict(), found['factor']
        if (looked.low if first else interval(looked, SECOND_LOOK)[0]) > 0:
            found['sees'] = True
        else:
            found['looks'] = [*found.get('looks', ()), dict(looked._asdict(), factor=found['factor'])]
            if not first and found['factor'] < LONGEST:
                found['factor'] *= 2  # P and A anew, at twice the length
            elif not first:
                found['sees'] = False
    if found.get('sees') and 'pairs' not in found:
        pilot = [[results.get(Job('pilot', arm, seed, found['factor']).name, {}).get('points') for seed in PILOT]
                 for arm in 'CB']
        if all(map(all, pilot)):
            values = [[points['1']['linear'][found['stage']] for points in arm] for arm in pilot]
            found['pilot'] = difference(*values)._asdict()
            found['sd'] = upper_sd(found['pilot']['sd'], len(PILOT))
            found['pairs_needed'] = pairs_needed(found['sd'])
            found['pairs'] = min(MOST, max(FEWEST, found['pairs_needed']))
    if 'pairs' in found and 'candidates' not in found:
        others = {arm: [results.get(Job('main', arm, seed, found['factor']).name, {}).get('points') for seed in CONTROL]
                  for arm in ('P', *(arm for arm in arms if arm not in 'AP'))}
        if all(map(all, others.values())):
            values = {arm: [points['1']['linear'][found['stage']] for points in runs] for arm, runs in others.items()}
            theirs = values.pop('P')  # whose course is A's up to the whole budget
            found['candidates'] = [arm for arm, ours in values.items() if difference(ours, theirs).low > 0]
    return found


class Study:
    """The study in a folder.

    Args:
        name (str): One of `SCALES`.
        data (str | Path): The photographs, see `read_pack`.
        folder (str | Path): Where runs and decisions are.
        out (str | Path): The file of facts, which has a part for each scale.
        device (str): 'cpu' or 'cuda'. Defaults to 'cpu'.
        scale (Scale, optional): Defaults to the one of that name.
    """

    def __init__(self, name: str, data: str | Path, folder: str | Path, out: str | Path, device: str = 'cpu',
                 scale: Scale | None = None):
        self.name, self.data, self.device, self.out = name, Path(data), device, Path(out)
        self.folder = Path(folder).absolute() / name
        self.scale = scale or SCALES[name]
        self._pack: Pack | None = None
        self._told = False
        self._end = float('inf')
        self._left = 0

    @property
    def pack(self) -> Pack:
        """Pack: The photographs, read at first use."""
        self._pack = self._pack or read_pack(self.data)
        return self._pack

    def stops(self) -> bool:
        """bool: Whether a signal came, the time is over, or there is a file `stop` in the folder."""
        return self._told or time.monotonic() > self._end or (self.folder / 'stop').exists()

    def run(self, minutes: float | None = None) -> bool:
        """Go on.

        Args:
            minutes (float, optional): Stop after so many. Defaults to the end.

        Returns:
            bool: Whether the study is complete.

        Raises:
            Stopped: If it was stopped before its end.
        """
        def tell(*_: Any) -> None:
            self._told = True

        listen(tell)
        self._end = float('inf') if minutes is None else time.monotonic() + 60 * minutes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_over()
        while job := self._next():
            if self.stops():
                raise Stopped(f'the study is stopped before {job.name}; the same command goes on with it')
            if isinstance(job, Job) and not self._do(job):
                time.sleep(1)  # others have all that can be run now
        return True

    def _take_over(self) -> None:
        """Take the runs that the file of facts has and the folder has not for done, as in a fresh clone with its results."""
        with locked(self.folder, wait=True):
            facts = self._facts().get(self.name, {})
            results = {f'{name}/result.json': dict(one, done=True) for name, one in facts.get('runs', {}).items()}
            for name, content in {**results, 'decisions.json': facts.get('decisions')}.items():
                path = self.folder / name
                if content and not path.exists():
                    path.parent.mkdir(exist_ok=True)
                    write_metrics(content, str(path))

    def _facts(self) -> dict[str, Any]:
        return read_facts(self.out) if self.out.exists() else {}

    def _next(self) -> Job | bool:
        """The next run that is not done and nobody else does; True if all there is to do is being done, False at the end."""
        decisions = self._decide()
        for jobs in self.phases(decisions):
            left = [job for job in jobs if not self._done(job)]
            if left:
                self._left = len(left)
                return next((job for job in left if not (self.folder / job.name / '.lock').exists()), left[0])
        return False

    def phases(self, decisions: dict[str, Any]) -> Iterator[list[Job]]:
        """See the function of that name."""
        return phases(self.scale, decisions)

    def _done(self, job: Job) -> bool:
        return bool(self._result(job.name).get('done'))

    def _result(self, name: str) -> dict[str, Any]:
        path = self.folder / name / 'result.json'
        return json.loads(path.read_text()) if path.exists() else {}

    def results(self) -> dict[str, dict]:
        """dict: What is measured of the runs that are done, by name."""
        found = {path.parent.name: json.loads(path.read_text()) for path in sorted(self.folder.glob('*/result.json'))}
        return {name: one for name, one in found.items() if one.get('done')}

    def _decide(self) -> dict[str, Any]:
        """Decide what can be, write it down, and write the facts."""
        path = self.folder / 'decisions.json'
        before = json.loads(path.read_text()) if path.exists() else {}
        decisions = before
        while (after := decide(decisions, self.results(), self.scale.arms)) != decisions:
            decisions = after
        if decisions != before:
            write_metrics(dict(decisions), str(path))
        return decisions

    def arm_updates(self, job: Job) -> int:
        """int: Of a run, at the whole budget; of P at A's."""
        scale = self.scale.longer(job.factor)
        return updates(scale, ARMS['A' if job.arm == 'P' else job.arm])

    def trainer(self, job: Job) -> Trainer:
        """Trainer: Of a run, at its start."""
        fractions = (*self.scale.fractions, CONTROL_BUDGET) if job.arm == 'P' else self.scale.fractions
        return Trainer(self.scale, ARMS[job.arm], job.seed, self.pack, self.arm_updates(job), fractions, self.device)

    def measure(self, trainer: Trainer) -> dict[str, Any]:
        """dict: All measures of a run as it is now."""
        return measure(trainer.model, self.scale, self.pack)

    def settings(self, job: Job) -> dict[str, Any]:
        """dict: What a run's numbers depend on."""
        if job.phase == 'downstream':
            return dict(scale=self.scale.settings(), arm=job.arm, factor=job.factor, seed=job.seed, pack=self.pack.digest,
                        device=torch.device(self.device).type, **downstream.SETTINGS)
        arm = ARMS[job.arm]
        per_image = operations(self.scale, arm)
        made = self.arm_updates(job)
        return dict(scale=self.scale.settings(), arm=job.arm, factor=job.factor, seed=job.seed, pack=self.pack.digest,
                    updates=made, images_per_update=self.scale.batch * arm.images, macs_per_image=per_image,
                    macs=made * self.scale.batch * arm.images * per_image, device=torch.device(self.device).type)

    def _do(self, job: Job) -> bool:
        """Do a run, or go on with it; False if another process is at it."""
        folder = self.folder / job.name
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(folder))
            except UserError:
                return False
            if self._done(job):
                return True
            settings, before = self.settings(job), self._result(job.name)
            digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
            if before and before['settings_hash'] != digest:
                raise UserError(f'{folder} has a run with other settings than the study has now; choose another '
                                '--work-dir, or remove that folder')
            facts = before or dict(phase=job.phase, settings=settings, settings_hash=digest, commit=commit(), points={})
            (self._tune if job.phase == 'downstream' else self._train)(job, facts)
            facts.update(done=True, machine=environment(), commit_at_end=commit(),
                         finished=time.strftime('%Y-%m-%d %H:%M:%S'))
            write_metrics(facts, str(folder / 'result.json'))
            (folder / 'checkpoint.pth').unlink(missing_ok=True)
            self._tell(f'{job.name} is done: {facts["seconds"] / 60:.1f} min of training')
        self.write_facts()
        return True

    def _tell(self, line: str) -> None:
        print(time.strftime('%H:%M:%S'), line, flush=True)

    def _train(self, job: Job, facts: dict[str, Any]) -> None:
        """Do a pre-training, or go on with it; its measures and, from the whole budget on, its weights are written."""
        folder = self.folder / job.name
        trainer, checkpoint = self.trainer(job), folder / 'checkpoint.pth'
        if checkpoint.exists():
            trainer.resume(checkpoint)

        def measured(fraction: float) -> None:
            facts['points'][f'{fraction:g}'] = dict(
                self.measure(trainer), updates=trainer.step, weights=trainer.digest())
            facts['seconds'] = trainer.seconds
            if fraction >= 1:
                content = io.BytesIO()
                torch.save(dict(state_dict=trainer.model.state_dict()), content)
                write_whole(folder / f'weights-{fraction:g}.pth', content.getbuffer())
            write_metrics(facts, str(folder / 'result.json'))

        begun, ahead = time.monotonic(), trainer.left

        def saved() -> None:
            each = (time.monotonic() - begun) / (ahead - trainer.left)
            self._tell(f'{job.name}: {trainer.left} updates are left, about {duration(each * trainer.left)}')

        self._tell(f'{job.phase}: {job.name}, update {trainer.step}; runs of this phase that are left: {self._left}')
        trainer.run(measured, checkpoint, self.stops, saved)

    def _tune(self, job: Job, facts: dict[str, Any]) -> None:
        """Fine-tune what an arm has at the whole budget, or the weights that it starts from."""
        self._tell(f'{job.phase}: {job.name}; runs of this phase that are left: {self._left}')
        model = build(self.scale, ARMS['A' if job.arm == SCRATCH else job.arm], job.seed)
        if job.arm != SCRATCH:
            own = Job('main', 'P' if job.arm == 'A' else job.arm, job.seed, job.factor).name
            path = self.folder / own / 'weights-1.pth'
            if not path.exists():
                raise UserError(f'{path} is missing: {self.out} has the results of {own} from another folder; go on in that '
                                'one (--work-dir), or with another --out, for which all is run anew')
            weights = torch.load(path, map_location='cpu', weights_only=True)
            model.load_state_dict(weights['state_dict'])
        begun = time.monotonic()
        facts['points']['1'] = downstream.measure_downstream(
            model.to(self.device), self.scale, self.pack, job.seed, self.stops)
        facts['seconds'] = time.monotonic() - begun

    def described(self) -> dict[str, Any]:
        """dict: What is compared, and on which images."""
        decisions = self.folder / 'decisions.json'
        return dict(
            settings=self.scale.settings(),
            arms={name: dict(title=ARMS[name].title, images_per_update=self.scale.batch * ARMS[name].images,
                             updates=updates(self.scale, ARMS[name]), macs_per_image=operations(self.scale, ARMS[name]))
                  for name in self.scale.arms},
            images=dict(pretraining=len(self.pack.train), fit=len(self.pack.fit), test=len(self.pack.test),
                        held_out=len(self.pack.held_out), digest=self.pack.digest),
            decisions=json.loads(decisions.read_text()) if decisions.exists() else {})

    def write_facts(self) -> None:
        """Write this scale's part of the file of facts."""
        with locked(self.folder, wait=True):
            facts = self._facts()
            runs = {name: {key: value for key, value in one.items() if key != 'done'}
                    for name, one in self.results().items()}
            facts[self.name] = dict(self.described(), runs=runs)
            write_metrics(facts, str(self.out))


def read_facts(path: str | Path) -> dict[str, Any]:
    """A study's file of facts.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: cannot read the facts ({error}); run the study first, or give its file by '
                        '--out') from error


def commit() -> str:
    """str: Of the package's source, with '+' if files have been changed since; 'unknown' outside a checkout."""
    def git(*args: str) -> str:
        return subprocess.run(['git', '-C', str(PACKAGE.parent), *args], capture_output=True, text=True, check=True).stdout

    try:
        return git('rev-parse', 'HEAD').strip() + ('+' if git('status', '--porcelain', '--', 'coma_mm').strip() else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def side_by_side(command: Iterable[str], jobs: int, wait: Callable[[subprocess.Popen], int] = subprocess.Popen.wait) -> None:
    """Start the same command several times; each takes runs that no other has taken.

    Args:
        command (Iterable[str]): Arguments of Python.
        jobs (int): How many.
        wait (Callable): What gives a process's exit code. Defaults to waiting.

    Raises:
        Stopped: One was stopped.
        UserError: One failed.
    """
    processes = [subprocess.Popen([sys.executable, *command], preexec_fn=end_with_parent) for _ in range(jobs)]
    listen(lambda number, _: [process.send_signal(number) for process in processes])
    codes = [wait(process) for process in processes]
    if EXIT_STOPPED in codes:
        raise Stopped('the study is stopped; the same command goes on with it')
    if any(codes):
        raise UserError(f'{jobs} processes ended with the codes {codes}; what they said is above')
