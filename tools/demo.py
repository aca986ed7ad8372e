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

from coma_mm import experiments, visualization  # noqa: E402
from coma_mm.engine import cli  # noqa: E402
from coma_mm.experiments import ARMS, TASKS, Experiment, Run  # noqa: E402

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
    steps = []
    with experiment.progress:
        for run in (pretraining, *runs.values()):
            seconds = experiment.train(run)
            steps.append(visualization.Step(run.title, experiment.written_command(run), seconds))

    metrics = {arm: {} for arm in ARMS}
    for (_, arm), run in runs.items():
        metrics[arm].update(visualization.collect_metrics(folder / run.name))
    table = visualization.compare(metrics['coma'], metrics['scratch'])
    print(f'\n{visualization.format_table(table)}\n\n' + '\n'.join(NOTES))
    os.environ.update(env)
    facts = {**visualization.environment(), 'Seed': '0 in every run', 'Budget': f'{args.budget:g}'}
    sections = [
        visualization.results_section(table, NOTES), *_sections(folder, pretraining, runs),
        visualization.steps_section(steps), visualization.Section('Environment', facts=facts)
    ]
    visualization.write_report(folder / 'report.html', 'CoMA on CoMA-Shapes', _summary(counts, epochs), sections)
    print(f'\nreport: {folder / "report.html"}')


def _summary(counts, epochs):
    return (f'A DyViT of 1.5 million parameters was pre-trained with CoMA on {counts["unlabelled"]} unlabelled images of '
            f'128 px for {epochs["Pre-training"]} epochs, then fine-tuned on {counts["train"]} labelled ones as a '
            'classifier, as UperNet and as Mask R-CNN; each also from scratch, for as many epochs. The numbers are of the '
            f'last epoch, on {counts["val"]} validation images.')


def _sections(folder, pretraining, runs):
    """The report's pictures."""
    Section, Picture = visualization.Section, visualization.Picture

    def load(run):
        config = experiments.ROOT / f'configs/shapes/{run.config}.py'
        return visualization.load_for_viewing(config, run.checkpoint(folder))

    model, dataset = load(pretraining)
    reconstructions = Picture(
        visualization.reconstruction_figure(model, dataset), visualization.reconstruction_caption(model),
        'Rows of pictures: input, what each branch saw and reconstructed, and the image assembled from both', 900)
    curves = [
        Picture(
            visualization.curve_figure({'CoMA': folder / pretraining.name}, title='Pre-training'),
            'Loss of pre-training: mean squared error over all patches.', 'Falling loss curve of pre-training')
    ]
    for task, _ in TASKS:
        curves.append(
            Picture(
                visualization.curve_figure({how: folder / runs[task, arm].name for arm, how in ARMS.items()}, title=task),
                f'Training loss of {task}, from CoMA’s weights and from scratch.', f'Two loss curves of {task}'))
    pictures = [
        Section('Reconstructions', 'What the pre-trained model makes of validation images.', pictures=[reconstructions]),
        Section('Loss', pictures=curves),
    ]
    # After minutes no score is high: the surest few are shown, whatever they are.
    for task, draw, what in (('UperNet', visualization.segmentation_figure, 'segmentations'),
                             ('Mask R-CNN', partial(visualization.detection_figure, score_threshold=.05,
                                                    max_detections=3), 'detections')):
        picture = Picture(
            draw(*load(runs[task, 'coma'])), f'Validation images: truth and {what} of the run from CoMA’s weights.',
            f'Rows of pictures: truth and {what}', 500)
        pictures.append(Section(f'{task}: {what}', pictures=[picture]))
    return pictures


if __name__ == '__main__':
    cli.main(main)
