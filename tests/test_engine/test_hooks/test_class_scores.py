"""A validation by class is noted while the metrics compute what they compute anyway."""
import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData, PixelData
from mmpretrain.evaluation import Accuracy
from mmpretrain.structures import DataSample
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample

from coma_mm.engine.hooks import RUN_HOOKS, ClassScoresHook

NAMES = ('cat', 'dog', 'eel')


def validated(folder, metric, samples, hook=None, log=None):
    """dict: The metrics of a validation, with a hook that looks on."""
    metric.dataset_meta = dict(classes=NAMES)
    evaluator = Evaluator([metric])
    runner = SimpleNamespace(val_loop=SimpleNamespace(evaluator=evaluator), epoch=3, iter=70, train_loop=None,
                             log_dir=str(folder), logger=SimpleNamespace(warning=[].append if log is None else log.append))
    if hook:
        hook.before_val_epoch(runner)
    evaluator.process(samples, None)
    metrics = evaluator.evaluate(len(samples))
    if hook:
        hook.after_val_epoch(runner, metrics)
    return metrics


def labels(pairs):
    return [DataSample().set_gt_label(truth).set_pred_score(torch.eye(3)[taken]) for truth, taken in pairs]


def maps(pairs):
    pixels = [[PixelData(data=torch.tensor([labels])) for labels in pair] for pair in pairs]
    return [SegDataSample(gt_sem_seg=truth, pred_sem_seg=taken) for truth, taken in pixels]


def boxes(pairs):
    samples = []
    for number, (truth, taken) in enumerate(pairs):
        box, mask = [0., 0., 8., 8.], torch.ones(1, 8, 8, dtype=torch.bool)
        instances = [dict(bbox=box, bbox_label=truth, mask=[[0., 0., 8., 0., 8., 8., 0., 8.]], ignore_flag=0)]
        pred = InstanceData(bboxes=torch.tensor([box]), labels=torch.tensor([taken]), scores=torch.tensor([.9]), masks=mask)
        samples.append(dict(img_id=number, ori_shape=(8, 8), pred_instances=pred, instances=instances))
    return samples


@pytest.mark.parametrize('make, samples, values, confusion', [
    (Accuracy, lambda: labels([(0, 0), (0, 1), (1, 1)]), {'top-1': [50, 100, None]}, [[1, 1, 0], [0, 1, 0], [0, 0, 0]]),
    (IoUMetric, lambda: maps([([[0, 0, 1]], [[0, 1, 1]])]), {'IoU': [50, 50, None], 'recall': [50, 100, None]}, None),
    (lambda: CocoMetric(metric=['bbox', 'segm']), lambda: boxes([(0, 0), (1, 1), (1, 2)]),
     {'box AP': [100, 50.49505, None], 'mask AP': [100, 50.49505, None]}, None)])
def test_what_is_noted_by_class_changes_no_metric(tmp_path, make, samples, values, confusion):
    hook, metric = ClassScoresHook(), make()
    expected = validated(tmp_path / 'x', make(), samples())
    for _ in range(2):  # the second replaces the first
        assert validated(tmp_path, metric, samples(), hook) == expected
    noted = json.loads((tmp_path / 'classes.json').read_text())
    assert noted['step'] == 3 and tuple(noted['classes']) == NAMES and noted.get('confusion') == confusion
    assert noted['values'] == {name: [one and pytest.approx(one, abs=.01) for one in row] for name, row in values.items()}
    assert 'compute_metrics' not in vars(metric) and [path.name for path in tmp_path.iterdir()] == ['classes.json']


class Broken(ClassScoresHook):
    """It finds what it cannot read."""

    def before_val_epoch(self, runner):
        super().before_val_epoch(runner)
        self.found = dict(classes=list(NAMES), values=5)


def test_what_cannot_be_noted_costs_a_line_and_no_result(tmp_path):
    log = []
    hook = Broken()
    for _ in range(2):
        metrics = validated(tmp_path, Accuracy(), labels([(0, 0), (1, 1)]), hook, log)
        assert metrics['accuracy/top1'] == 100
    assert len(log) == 1 and log[0].startswith('cannot note the validation by class (TypeError: ')


def test_it_draws_no_random_numbers_so_that_a_resumed_run_is_the_same(tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    validated(tmp_path, Accuracy(), labels([(0, 0), (1, 1)]), hook := ClassScoresHook())
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2] and hook.found and not hasattr(hook, 'state_dict')


def test_every_training_has_it():
    assert dict(type='ClassScoresHook') in RUN_HOOKS
