"""The study: does pre-training pay on CoMA-Shapes? Several seeds, an untouched test split."""
import statistics
from pathlib import Path

from coma_mm.benchmark.statistics import interval
from coma_mm.errors import UserError, choice
from coma_mm.models import CoMA
from coma_mm.visualization.logs import environment

from . import experiments
from .experiments import ARMS, METRICS, RECIPES, Experiment, Recipe, Run, pretrainings_of

# Checkpoints now and then: the numbers are those of the last one, on the test split.
OPTIONS = {'default_hooks.checkpoint.interval': 5}


def run_study(work_dir: str, out: str | None = None, level: str = 'easy', seeds: int = 3, pretrainings: int | None = None,
              jobs: int | None = None, complement: str = 'frozen') -> tuple[str, Path]:
    """Pre-train, fine-tune each task from CoMA and from scratch, test, and write a table; what is done before stays done.

    Args:
        work_dir (str): Folder of the data and the runs.
        out (str, optional): Markdown file to write. Defaults to study.md in the work dir.
        level (str): Level of the scenes, 'easy' with the demo's recipe or 'hard'. Defaults to 'easy'.
        seeds (int): Fine-tunings per arm. Defaults to 3.
        pretrainings (int, optional): Shared out among the seeds. Defaults to one for each.
        jobs (int, optional): Runs side by side, with one thread each. Defaults to 2, or 1 on a single core.
        complement (str): CoMA's complement. Defaults to 'frozen'.

    Returns:
        tuple[str, Path]: The table, and where it was written.
    """
    folder = Path(work_dir).absolute()
    choice('--complement', complement, CoMA.COPIES)
    recipe = RECIPES[level]
    experiments.make_shapes(folder / 'data', recipe.level, recipe.size, **recipe.images)
    count = min(pretrainings or seeds, seeds)
    options = {'model.complement': complement, **OPTIONS}
    if complement != 'frozen':
        options['custom_hooks.0.interval'] = 1  # a branch that teaches does so in every update
    runs = {seed: recipe.fine_tunings(recipe.pretrain(seed % count, options), seed, OPTIONS) for seed in range(seeds)}
    tuned = [run for of in runs.values() for run in of.values()]
    bases = pretrainings_of(tuned)
    experiment = Experiment(folder, folder / 'data', jobs, threads=1)

    def do(run: Run) -> tuple[float, dict[str, float]]:
        """Seconds of a training, and for a fine-tuning its metrics on the test split."""
        return experiment.train(run), {} if run in bases else experiment.test(run)

    with experiment.progress:
        # Those from scratch first: they need not wait for a pre-training.
        results = experiment.all([*bases, *sorted(tuned, key=lambda run: run.base is not None)], do)
    text = _report(recipe, runs, [results[run.name][0] for run in bases], results,
                   dict(level=level, seeds=seeds, pretrainings=count, jobs=experiment.jobs, complement=complement))
    path = Path(out or folder / 'study.md')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return text, path


TEMPLATE = """# Does pre-training pay?

The tiny DyViT, fine-tuned on the {level} level of CoMA-Shapes from weights that CoMA pre-trained on the unlabelled images,
and from scratch, with equal fine-tuning budget. Written by `python tools/study.py --level {level} --seeds {seeds}
--pretrainings {pretrainings} --complement {complement}`.

| task | metric, % | from CoMA | from scratch | difference, paired | CoMA by seed | scratch by seed |
|---|---|---:|---:|---:|---|---|
{rows}

Mean ± half width of the 95 % confidence interval over {seeds} fine-tuning seeds (Student's t); {pretrainings}
pre-training(s), shared out among them. Measured once, on the test split, with the last checkpoint of each run. A detector
that finds nothing counts as AP 0.

- Images of {size} px: {images}
- Epochs: {epochs}
- Pre-training: {configs}; complement={complement}
- Median seconds per run, {jobs} side by side with one thread each: {times}
{environment}
"""


def _value(metrics: dict[str, float], key: str) -> float:
    """A metric of a test; mmdetection writes none for a detector that finds nothing."""
    if key not in metrics and not key.startswith('coco/'):
        raise UserError(f'a test has no {key}, but {", ".join(metrics)}; remove the test.json of that run, and start again')
    return metrics.get(key, 0.)


def _report(recipe: Recipe, runs: dict, pretraining_seconds: list[float], results: dict, settings: dict) -> str:
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
        size=recipe.size,
        images=', '.join(f'{count} {split}' for split, count in recipe.images.items()),
        epochs=', '.join(f'{task} {count}' for task, count in recipe.epochs.items()),
        configs='; for '.join([recipe.pretraining, *map(' '.join, recipe.own_pretraining.items())]),
        times=', '.join(f'{task} {statistics.median(values):.0f}' for task, values in seconds.items()),
        environment='\n'.join(f'- {key}: {value}' for key, value in environment().items()),
        **settings)
