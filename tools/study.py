#!/usr/bin/env python
"""Does pre-training pay? The demo's path with a longer budget, several seeds and an untouched test split.

Fine-tunes each task from CoMA and from scratch with equal budget and the same seed, tests every run's last checkpoint
once, and writes a table of means, 95 % intervals and single values. Resumable, as the demo is.
"""
import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from scipy import stats  # noqa: E402

from coma_mm import experiments, visualization  # noqa: E402
from coma_mm.engine import cli  # noqa: E402
from coma_mm.experiments import ARMS, Experiment, Run  # noqa: E402
from coma_mm.visualization.report import METRICS  # noqa: E402

IMAGES = dict(unlabelled=3000, train=500, val=200, test=500)
EPOCHS = {'Pre-training': 60, 'Classification': 40, 'UperNet': 12, 'Mask R-CNN': 8}
# Logged now and then, validated at the end alone: the numbers are the test split's.
OPTIONS = {'default_hooks.checkpoint.interval': 5}


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/study', help='default: %(default)s')
    parser.add_argument('--out', help='Markdown file to write (default: study.md in the work dir)')
    parser.add_argument('--seeds', type=int, default=3, help='fine-tunings per arm (default: %(default)s)')
    parser.add_argument('--pretrainings', type=int, default=3, help='shared out among the seeds (default: %(default)s)')
    parser.add_argument('--jobs', type=int, default=2, help='runs side by side, with one thread each (default: %(default)s)')
    parser.add_argument('--complement', default='frozen', help="CoMA's complement (default: %(default)s)")
    return parser.parse_args()


def main():
    """Run the study."""
    args = parse_args()
    folder = Path(args.work_dir).absolute()
    experiments.make_shapes(folder / 'data', 128, **IMAGES)
    pretrainings = [
        Run(f'pretrain_seed{seed}', f'Pre-training, seed {seed}', 'coma_dyvit-tiny_shapes', EPOCHS['Pre-training'], seed,
            {'model.complement': args.complement, **OPTIONS}) for seed in range(args.pretrainings)
    ]
    runs = {seed: experiments.fine_tunings(EPOCHS, seed, {task: OPTIONS for task in EPOCHS}) for seed in range(args.seeds)}
    progress = None

    def experiment(pretraining):
        """The experiment whose configs read a certain pre-training."""
        nonlocal progress
        env = dict(SHAPES_ROOT=str(folder / 'data'), PRETRAINED=str(pretraining.checkpoint(folder)))
        one = Experiment(folder, env, threads=1)
        one.progress = progress = progress or one.progress
        return one

    def fine_tune(seed, arm, run):
        """Seconds of a fine-tuning, and its metrics on the test split."""
        number = seed % len(pretrainings)
        if arm == 'coma':
            pretrained[number].result()  # wait for it
        one = experiment(pretrainings[number])
        return one.train(run), one.test(run)

    with experiment(pretrainings[0]).progress, ThreadPoolExecutor(args.jobs) as pool:
        pretrained = [pool.submit(experiment(run).train, run) for run in pretrainings]
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
    text = _report(args, runs, seconds, results)
    out = Path(args.out or folder / 'study.md')
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding='utf-8')
    print(f'\n{text}\nwritten to {out}')


def interval(values: list[float]) -> str:
    """'mean ± half width' of the 95 % confidence interval of the mean (Student's t); without a width for one value."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f'{mean:.1f}'
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values)**0.5
    return f'{mean:.1f} ± {half:.1f}'


def _report(args, runs, pretraining_seconds, results):
    lines = ['| task | metric, % | from CoMA | from scratch | difference (paired by seed) | CoMA by seed | '
             'scratch by seed |', '|---|---|---:|---:|---:|---|---|']
    for task, (name, metric, key, factor) in zip(('Classification', 'UperNet', 'Mask R-CNN', 'Mask R-CNN'), METRICS,
                                                 strict=True):
        values = {arm: [factor * results[runs[seed][task, arm].name][1][key] for seed in runs] for arm in ARMS}
        difference = [a - b for a, b in zip(values['coma'], values['scratch'], strict=True)]
        lists = [', '.join(f'{v:.1f}' for v in values[arm]) for arm in ARMS]
        lines.append(f'| {name} | {metric} | {interval(values["coma"])} | {interval(values["scratch"])} | '
                     f'{interval(difference)} | {" | ".join(lists)} |')
    times = {task: [results[runs[seed][task, arm].name][0] for seed in runs for arm in ARMS]
               for task in ('Classification', 'UperNet', 'Mask R-CNN')}
    times['Pre-training'] = pretraining_seconds
    times = '; '.join(f'{task} {statistics.median(s):.0f} s' for task, s in times.items())
    environment = '\n'.join(f'- {key}: {value}' for key, value in visualization.environment().items())
    epochs = ', '.join(f'{task} {count}' for task, count in EPOCHS.items())
    counts = ', '.join(f'{count} {split}' for split, count in IMAGES.items())
    return '\n'.join([
        *lines, '', f"Mean ± half width of the 95 % confidence interval over {args.seeds} fine-tuning seeds (Student's t), "
        f'from {args.pretrainings} pre-training(s) shared out among them. Measured once, on the test split, with the last '
        'checkpoint of each run.', '', f'- Images of 128 px: {counts}', f'- Epochs: {epochs}',
        f'- CoMA: complement={args.complement}', f'- Seeds: {", ".join(map(str, runs))}',
        f'- Median seconds per run, {args.jobs} side by side: {times}', environment, ''
    ])


if __name__ == '__main__':
    cli.main(main)
