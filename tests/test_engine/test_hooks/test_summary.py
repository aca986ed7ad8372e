"""The first lines of a run and its last."""
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub

from coma_mm.engine import SummaryHook
from coma_mm.engine.hooks.checkpoint import WholeCheckpointHook
from coma_mm.engine.hooks.summary import main_metric


class Log:
    def __init__(self):
        self.lines = []

    def info(self, line):
        self.lines.append(line)


@pytest.fixture
def runner(tmp_path):
    """A run by epochs that does not save."""
    return SimpleNamespace(hooks=[], message_hub=MessageHub(tmp_path.name), train_loop=None, epoch=0, iter=0, logger=Log(),
                           work_dir=str(tmp_path), cfg=Config(dict()), model=None)


@pytest.mark.parametrize(('metrics', 'expected'), [
    ({'coco/bbox_mAP': .4, 'coco/segm_mAP': .3}, ('coco/segm_mAP', True)),
    ({'aAcc': 80., 'mIoU': np.float32(40.)}, ('mIoU', True)),
    ({'reconstruction/masked': 1., 'reconstruction/complement': 1.}, ('reconstruction/masked', False)),
    ({'note': 'x', 'mine/precision': .5}, ('mine/precision', True)),
    ({'val_loss': .5}, ('val_loss', False)),
    ({'roughness': .5}, ('roughness', None)),
    ({'probe/rankme_stage1': 5., 'roughness': .5}, ('roughness', None)),
    ({'probe/rankme_stage1': 5.}, (None, None)),
    ({'note': 'x'}, (None, None)),
    ({}, (None, None)),
])
def test_one_metric_stands_for_the_others(runner, metrics, expected):
    assert main_metric(runner, metrics) == expected


def test_the_metric_of_the_best_checkpoint_comes_first(runner):
    runner.hooks = [WholeCheckpointHook(save_best='roughness', rule='less')]
    assert main_metric(runner, {'mIoU': 40., 'roughness': .5}) == ('roughness', False)


def test_the_best_and_the_last_result_are_said_also_of_a_run_that_was_resumed(runner):
    first, second = SummaryHook(), SummaryHook()
    for hook, values in ((first, (float('nan'), 42.)), (second, (41., 39.))):
        for value in values:
            runner.epoch += 1
            hook.after_val_epoch(runner, {'mIoU': value})
    second.after_train(runner)
    assert runner.logger.lines[0] == 'mIoU: 42 at epoch 2, the best; 39 at epoch 4, the last'
    assert len(runner.logger.lines) == 2 and '0 iterations took ' in runner.logger.lines[1]


def test_what_a_checkpoint_says_of_the_best_is_numbers_or_nothing(runner):
    runner.message_hub.update_info('best_validation', ['x\x1b', 1])
    hook = SummaryHook()
    hook.after_val_epoch(runner, {'roughness': 1.})
    hook.after_train(runner)
    assert runner.logger.lines[0] == 'roughness: 1 at epoch 0'
    hook.after_val_epoch(runner, {'mIoU': 1.})
    assert runner.message_hub.get_info('best_validation') == [1., 0]
