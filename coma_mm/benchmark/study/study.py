"""The study: does pre-training pay on CoMA-Shapes? Several seeds, an untouched test split."""
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coma_mm.benchmark.statistics import interval
from coma_mm.errors import UserError, choice
from coma_mm.models import CoMA
from coma_mm.visualization.logs import environment

from . import experiments
from .experiments import ARMS, METRICS, Experiment, Run

IMAGES = dict(unlabelled=3000, train=500, val=200, test=500)
EPOCHS = {'Pre-training': 60, 'Classification': 20, 'UperNet': 6, 'Mask R-CNN': 4}
# Logged now and then, validated at the end alone: the numbers are the test split's.
OPTIONS = {'default_hooks.checkpoint.interval': 5}


def run_study(work_dir: str, out: str | None = None, seeds: int = 3, pretrainings: int = 3, jobs: int = 2,
              complement: str = 'frozen') -> tuple[str, Path]:
    """Pre-train, fine-tune each task from CoMA and from scratch, test, and write a table; what is done before stays done.

    Args:
        work_dir (str): Folder of the data and the runs.
        out (str, optional): Markdown file to write. Defaults to study.md in the work dir.
        seeds (int): Fine-tunings per arm. Defaults to 3.
        pretrainings (int): Shared out among the seeds. Defaults to 3.
        jobs (int): Runs side by side, with one thread each. Defaults to 2.
        complement (str): CoMA's complement. Defaults to 'frozen'.

    Returns:
        tuple[str, Path]: The table, and where it was written.
    """
    folder = Path(work_dir).absolute()
    choice('--complement', complement, CoMA.COPIES)
    experiments.make_shapes(folder / 'data', 'hard', 128, **IMAGES)
    bases = [
        Run(f'pretrain_seed{seed}', f'Pre-training, seed {seed}', 'coma_dyvit-tiny_shapes', EPOCHS['Pre-training'], seed,
            {'model.complement': complement, **OPTIONS}) for seed in range(pretrainings)
    ]
    runs = {seed: experiments.fine_tunings(EPOCHS, seed, {task: OPTIONS for task in EPOCHS}) for seed in range(seeds)}
    progress = experiments.progress_bars()

    def experiment(pretraining):
        """The experiment whose configs read a certain pre-training."""
        env = dict(SHAPES_ROOT=str(folder / 'data'), PRETRAINED=str(pretraining.checkpoint(folder)))
        return Experiment(folder, env, threads=1, progress=progress)

    def fine_tune(seed, arm, run):
        """Seconds of a fine-tuning, and its metrics on the test split."""
        number = seed % len(bases)
        if arm == 'coma':
            pretrained[number].result()  # wait for it
        one = experiment(bases[number])
        return one.train(run), one.test(run)

    with progress, ThreadPoolExecutor(jobs) as pool:
        pretrained = [pool.submit(experiment(run).train, run) for run in bases]
        # Those from scratch first: they need not wait.
        tuned = {
            run.name: pool.submit(fine_tune, seed, arm, run)
            for arm in reversed(ARMS)
            for seed in runs
            for (_, of), run in runs[seed].items()
            if of == arm
        }
        results = {name: future.result() for name, future in tuned.items()}
        seconds = [future.result() for future in pretrained]
    text = _report(runs, seconds, results, dict(seeds=seeds, pretrainings=pretrainings, jobs=jobs, complement=complement))
    path = Path(out or folder / 'study.md')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return text, path


TEMPLATE = """# Does pre-training pay?

The tiny DyViT, fine-tuned on CoMA-Shapes from weights that CoMA pre-trained on the unlabelled images, and from scratch,
with equal fine-tuning budget. Written by `python tools/study.py --seeds {seeds} --pretrainings {pretrainings}`.

| task | metric, % | from CoMA | from scratch | difference, paired | CoMA by seed | scratch by seed |
|---|---|---:|---:|---:|---|---|
{rows}

Mean ± half width of the 95 % confidence interval over {seeds} fine-tuning seeds (Student's t); {pretrainings}
pre-training(s), shared out among them. Measured once, on the test split, with the last checkpoint of each run. A detector
that finds nothing counts as AP 0.

- Images of 128 px: {images}
- Epochs: {epochs}
- CoMA: complement={complement}
- Median seconds per run, {jobs} side by side with one thread each: {times}
{environment}
"""


def _value(metrics: dict[str, float], key: str) -> float:
    """A metric of a test; mmdetection writes none for a detector that finds nothing."""
    if key not in metrics and not key.startswith('coco/'):
        raise UserError(f'a test has no {key}, but {", ".join(metrics)}; remove the test.json of that run, and start again')
    return metrics.get(key, 0.)


def _report(runs: dict, pretraining_seconds: list[float], results: dict, settings: dict) -> str:
    """The results as Markdown."""
    rows = []
    tasks = [task for task, _ in experiments.TASKS]
    for task, (name, metric, key, factor) in zip((*tasks, tasks[-1]), METRICS, strict=True):
        values = {arm: [factor * _value(results[runs[seed][task, arm].name][1], key) for seed in runs] for arm in ARMS}
        difference = [a - b for a, b in zip(values['coma'], values['scratch'], strict=True)]
        lists = (', '.join(f'{value:.1f}' for value in values[arm]) for arm in ARMS)
        cells = (name, metric, *map(interval, (values['coma'], values['scratch'], difference)), *lists)
        rows.append(f'| {" | ".join(cells)} |')
    seconds = {'Pre-training': pretraining_seconds}
    for task in tasks:
        seconds[task] = [results[runs[seed][task, arm].name][0] for seed in runs for arm in ARMS]
    return TEMPLATE.format(
        rows='\n'.join(rows),
        images=', '.join(f'{count} {split}' for split, count in IMAGES.items()),
        epochs=', '.join(f'{task} {count}' for task, count in EPOCHS.items()),
        times=', '.join(f'{task} {statistics.median(values):.0f}' for task, values in seconds.items()),
        environment='\n'.join(f'- {key}: {value}' for key, value in environment().items()),
        **settings)
