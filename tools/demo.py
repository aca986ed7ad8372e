#!/usr/bin/env python
"""The whole path on CoMA-Shapes: make the data, pre-train with CoMA, fine-tune three ways, report. See `make demo`.

What is done stays done: interrupted and started again, it goes on where it was.
"""
import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm import visualization  # noqa: E402
from coma_mm.benchmark.paper import report, tables  # noqa: E402
from coma_mm.benchmark.paper.collect import collect  # noqa: E402
from coma_mm.benchmark.study import experiments  # noqa: E402
from coma_mm.benchmark.study.experiments import Experiment, Run  # noqa: E402
from coma_mm.engine import cli  # noqa: E402
from coma_mm.markdown import markdown_table  # noqa: E402

IMAGES = dict(unlabelled=3000, train=500, val=200, test=0)
EPOCHS = {'Pre-training': 12, 'Classification': 12, 'UperNet': 8, 'Mask R-CNN': 4}
NOTES = [
    'One seed and a budget of minutes: the table shows that everything runs, not whether pre-training pays. '
    'make study asks that question with a longer budget, several seeds and an untouched test split; its answer is in '
    'docs/results/study.md.',
    'Average precision (AP) in this budget is near noise.',
]


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', default='work_dirs/demo', help='default: %(default)s')
    parser.add_argument('--budget', type=float, default=1., metavar='X', help='factor on images and epochs (default: 1)')
    return parser.parse_args()


def main():
    """Run the demo."""
    args = parse_args()
    folder = Path(args.work_dir).absolute()
    counts = {split: count and max(32, int(count * args.budget)) for split, count in IMAGES.items()}
    epochs = {task: max(2, round(count * args.budget)) for task, count in EPOCHS.items()}
    pretraining = Run('pretrain', 'Pre-training with CoMA', 'coma_dyvit-tiny_shapes', epochs['Pre-training'])
    runs = experiments.fine_tunings(epochs)

    experiments.make_shapes(folder / 'data', 128, **counts)
    env = dict(SHAPES_ROOT=str(folder / 'data'), PRETRAINED=str(pretraining.checkpoint(folder)))
    experiment = Experiment(folder, env)
    with experiment.progress:
        for run in (pretraining, *runs.values()):
            experiment.train(run)

    collected = collect(folder)
    (*_, table), _ = tables.build(collected[0])
    shown = [table.columns.index(name) for name in ('Task', 'Metric, %', 'pre-trained', 'from scratch', 'difference')]
    lines = [[line[i] for i in shown] for line in (table.columns, *table.rows)]
    print(f'\n{markdown_table(lines[0], lines[1:], numbers=3, aligned=True)}\n' + '\n'.join(NOTES))
    os.environ.update(env)
    out = folder / 'report.html'
    small, *others = report.sections(*collected, folder, folder, models=())
    small.notes = NOTES
    sections = [small, *_predictions(folder, runs), *others]
    visualization.write_report(out, 'CoMA on CoMA-Shapes', _summary(counts, epochs), sections)
    print(f'\nreport: {out}')


def _summary(counts, epochs):
    return (f'A DyViT of 1.5 million parameters was pre-trained with CoMA on {counts["unlabelled"]} unlabelled images of '
            f'128 px for {epochs["Pre-training"]} epochs, then fine-tuned on {counts["train"]} labelled ones as a '
            'classifier, as UperNet and as Mask R-CNN; each also from scratch, for as many epochs. The numbers are of the '
            f'last epoch, on {counts["val"]} validation images.')


def _predictions(folder, runs):
    """Pictures of what the models predict after fine-tuning."""
    sections = []
    # After minutes no score is high: the surest few are shown, whatever they are.
    for task, draw, what in (('UperNet', visualization.segmentation_figure, 'segmentations'),
                             ('Mask R-CNN', partial(visualization.detection_figure, score_threshold=.05,
                                                    max_detections=3), 'detections')):
        run = runs[task, 'coma']
        config = experiments.ROOT / f'configs/shapes/{run.config}.py'
        picture = visualization.Picture(
            draw(*visualization.load_for_viewing(config, run.checkpoint(folder))),
            f'Validation images: truth and {what} of the run from CoMA’s weights.',
            f'Rows of pictures: truth and {what}', 500)
        sections.append(visualization.Section(f'{task}: {what}', pictures=[picture]))
    return sections


if __name__ == '__main__':
    cli.main(main)
