"""The demo: the whole path on the easy level of CoMA-Shapes in minutes, and a report on it."""
import os
from functools import partial
from pathlib import Path

import pandas
from mmengine.config import Config

from coma_mm import visualization
from coma_mm.benchmark.paper import report, tables
from coma_mm.benchmark.paper.collect import collect
from coma_mm.errors import UserError
from coma_mm.files import CONFIGS
from coma_mm.markdown import markdown_table

from . import experiments
from .experiments import AGAIN, METRICS, RECIPES, Experiment, Recipe, Run, pretrainings_of

MINUTES, ON_SLOW_CORES = 9, 21  # as measured on two cores of a newer and an old AMD EPYC, see docs/shapes.md
NOTES = [
    'One seed and a budget of minutes: make study repeats it with three seeds, a pre-training for each, and an untouched '
    'test split; its answer is in docs/results/study.md.',
]


def run_demo(work_dir: str, budget: float = 1.) -> None:
    """Make the data, pre-train with CoMA, fine-tune three ways, and report; what is done before stays done.

    Args:
        work_dir (str): Folder of the data, the runs and the report.
        budget (float): Factor on images and epochs. Defaults to 1.
    """
    folder = Path(work_dir).absolute()
    out = folder / 'report.html'
    out.unlink(missing_ok=True)  # of an earlier start: it would look as if this one had come to its end
    recipe = RECIPES['easy'].scaled(budget, test=0)
    runs = recipe.fine_tunings(recipe.pretrain())

    print(_plan(recipe, budget), flush=True)
    experiments.make_shapes(folder / 'data', recipe.level, recipe.size, **recipe.images)
    print(f'Twelve of the scenes: {folder / "data/preview.png"}', flush=True)
    experiment = Experiment(folder, folder / 'data')
    with experiment.progress:
        experiment.all([*pretrainings_of(runs.values()), *runs.values()])

    collected = collect(folder)
    _check_results(experiment, runs, collected[0])
    (*_, table), _ = tables.build(collected[0])
    shown = [table.columns.index(name) for name in ('Task', 'Metric, %', 'pre-trained', 'from scratch', 'difference')]
    lines = [[line[i] for i in shown] for line in (table.columns, *table.rows)]
    print(f'\n{markdown_table(lines[0], lines[1:], numbers=3, aligned=True)}\n' + '\n'.join(NOTES))
    base = runs['UperNet', 'coma'].base
    os.environ.update(SHAPES_ROOT=str(folder / 'data'), PRETRAINED=str(base.checkpoint(folder)))
    small, *others = report.sections(*collected, folder, folder, models=())
    small.notes = NOTES
    sections = [*_predictions(folder, runs), small, *others]
    visualization.write_report(out, 'CoMA on CoMA-Shapes', _summary(recipe), sections)
    print(f'\nreport: {out}')


def _check_results(experiment: Experiment, runs: dict[tuple[str, str], Run], frame: pandas.DataFrame) -> None:
    """See that every run has what the table shows, before it is shown.

    Raises:
        UserError: If one has not; it is gone on with at the next start.
    """
    lacking = []
    for (task, _), run in runs.items():
        rows = frame[(frame['run'] == run.name) & (frame['split'] == 'val')]
        states = frame[frame['run'] == run.name]['status'].unique()
        metrics = [key for name, _, key, _ in METRICS if name.endswith(task)]
        if 'diverged' not in states and not (set(states) == {'finished'} and set(metrics) <= set(rows['metric'])):
            experiment.forget(run)
            lacking.append(f'{run.title} ({", ".join(states) or "no log"})')
    if lacking:
        raise UserError(f'no result in the log of {"; ".join(lacking)}, in {experiment.folder}. {AGAIN}; '
                        'should that not help, remove the folder of that run')


def _plan(recipe: Recipe, budget: float) -> str:
    images = recipe.images
    minutes, on_slow_cores = (max(1, round(time * budget)) for time in (MINUTES, ON_SLOW_CORES))
    return (f'The demo draws scenes of {recipe.size} px and pre-trains a small DyViT with CoMA on {images["unlabelled"]} of '
            'them, without labels:\nonce with its last stage for the decoder, and once with all stages, for Mask R-CNN.\n'
            'Then it trains a classifier, UperNet and Mask R-CNN, each from those weights and from scratch, on '
            f'{images["train"]} others.\nThat takes about {minutes} min without a GPU, and {on_slow_cores} on slow cores. '
            'Interrupted and started again, it goes on where it was.')


def _summary(recipe: Recipe) -> str:
    images = recipe.images
    return (f'A DyViT of 1.5 million parameters was pre-trained with CoMA on {images["unlabelled"]} unlabelled images of '
            f'{recipe.size} px for {recipe.epochs["Pre-training"]} epochs, and once more for Mask R-CNN, with all stages '
            f'for the decoder. Then it was fine-tuned on {images["train"]} labelled ones as a classifier, as UperNet and as '
            'Mask R-CNN; each also from scratch, for as many epochs. The numbers are of the last epoch, on '
            f'{images["val"]} validation images.')


def _predictions(folder: Path, runs: dict[tuple[str, str], Run]) -> list[visualization.Section]:
    """Pictures of what the models predict after fine-tuning."""
    sections = []
    for task, draw, what, options, more in (
            ('UperNet', visualization.segmentation_figure, 'segmentations', {}, ''),
            # AP counts a box of each class; people look for one around each object.
            ('Mask R-CNN', partial(visualization.detection_figure, max_detections=4), 'detections',
             {'model.test_cfg.rcnn.nms.class_agnostic': True},
             ' Of boxes with an overlap (IoU) above 0.5 the most certain is drawn alone, whatever their classes.')):
        run = runs[task, 'coma']
        config = Config.fromfile(CONFIGS / f'shapes/{run.config}.py')
        config.merge_from_dict(options)
        picture = visualization.Picture(
            draw(*visualization.load_for_viewing(config, run.checkpoint(folder))),
            f'Validation images: truth and {what} of the run from CoMA’s weights.{more}',
            f'Rows of pictures: truth and {what}', 500)
        sections.append(visualization.Section(f'{task}: {what}', pictures=[picture]))
    return sections
