"""What a run says of itself, in words."""
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import ImageClassifier
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import nn

from coma_mm.engine.summary import _schedule, learning_line, model_line, next_lines, short, tool, unread_weights

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(('cfg', 'words'), [
    (None, []),
    (dict(type='CosineAnnealingLR', T_max=2), ['cosine to 0 until epoch 2']),
    ([dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50), dict(type='CosineAnnealingLR', end=7.5,
                                                                                        eta_min=1e-6)],
     ['linear from × 0.01 until iteration 50', 'cosine to 1e-06 until epoch 7.5']),
    (dict(type='MultiStepLR', milestones=[8, 11], gamma=0.1), ['× 0.1 after epochs 8, 11']),
    (dict(type='StepLR', step_size=30), ['× 0.1 every 30 epochs']),
    ([dict(type='mmengine.PolyLR', power=0.9, by_epoch=False, end=160000, eta_min=0.)],
     ['polynomial of power 0.9 to 0 until iteration 160000']),
    (dict(decoder=[dict(type='ExponentialLR', gamma=.9, begin=3)]), ['ExponentialLR from epoch 3']),
    (dict(type='CosineAnnealingMomentum', T_max=2), []),
])
def test_schedules_are_said_in_words(cfg, words):
    assert list(_schedule(cfg)) == words


def test_the_learning_rate_is_the_highest_before_the_schedule():
    optimizer = torch.optim.SGD([dict(params=[nn.Parameter(torch.zeros(1))], lr=rate) for rate in (.1, .2)])
    for group in optimizer.param_groups:
        group.update(initial_lr=group['lr'], lr=0.001)
    wrapper = SimpleNamespace(optimizer=optimizer, param_groups=optimizer.param_groups)
    assert learning_line(SimpleNamespace(optim_wrapper=wrapper, cfg={})) == 'Learning rate 0.2 (SGD): constant'


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(999, 1000)
        self.head = nn.Linear(499, 1000).requires_grad_(False)


@pytest.mark.parametrize(('init_cfg', 'provenance', 'load_from', 'resume', 'origin'), [
    (None, None, None, False, 'random weights'),
    (None, None, 'a.pth', False, 'weights from a.pth'),
    (None, None, 'a.pth', True, 'goes on from a.pth'),
    (dict(type='Pretrained', checkpoint='b.pth'), None, None, False, 'backbone from b.pth'),
    (None, dict(checkpoint='c\x1b.pth'), None, False, r'backbone from c\x1b.pth'),
])
def test_a_model_is_named_with_its_size_and_where_its_weights_come_from(init_cfg, provenance, load_from, resume, origin):
    net = Net()
    net.backbone.provenance = provenance
    cfg = Config(dict(model=dict(backbone=dict(arch='tiny', init_cfg=init_cfg))))
    line = model_line(SimpleNamespace(model=net, cfg=cfg, _load_from=load_from, _resume=resume))
    assert line == f'Net with Linear tiny, 1.5 million parameters (1 of them trained), {origin}'


def test_commands_are_started_as_this_one_was_and_paths_are_short(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools/train.py')])
    monkeypatch.setattr(sys, 'executable', '/no where/python')
    assert tool('test') == "'/no where/python' tools/test.py"
    monkeypatch.setattr(sys, 'argv', ['coma-mm'])
    assert tool('test') == 'coma-mm test'
    assert short(ROOT / 'a/b.pth') == 'a/b.pth' and short(tmp_path) == str(tmp_path)


class Pretraining(BaseSelfSupervisor):
    def __init__(self):
        nn.Module.__init__(self)

    def loss(self, *args):
        """Nothing is learnt here."""


@pytest.mark.parametrize(('pretrained', 'model', 'checkpoint', 'load_from', 'warned'), [
    ('a.pth', Net, None, None, True),  # as of a config that `new` has written without --pretrained
    ('a.pth', Net, 'b.pth', None, True),
    ('a.pth', Net, 'a.pth', None, False),
    ('folder', Net, 'folder/a.pth', None, False),
    ('a.pth', Net, None, 'c.pth', False),  # all weights are replaced anyway
    ('a.pth', Pretraining, None, None, False),  # where the variable may be set for what follows
    ('', Net, None, None, False),
    (None, Net, None, None, False),
])
def test_weights_that_PRETRAINED_names_and_the_config_does_not_read_are_warned_of(
        monkeypatch, pretrained, model, checkpoint, load_from, warned):
    monkeypatch.delenv('PRETRAINED', raising=False)
    if pretrained is not None:
        monkeypatch.setenv('PRETRAINED', pretrained)
    cfg = Config(dict(pretrained=pretrained, model=dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)))))
    line = unread_weights(SimpleNamespace(model=model(), cfg=cfg, _load_from=load_from))
    assert (line is not None) == warned
    if warned:
        assert line.startswith('PRETRAINED=a.pth is set, and this config does not start from it; ')
        assert '--pretrained a.pth' in line


def test_a_pretraining_ends_with_how_to_fine_tune_on_data_of_ones_own(tmp_path):
    lines = next_lines(SimpleNamespace(model=Pretraining(), work_dir=str(tmp_path), cfg=Config({})), 'a.pth')
    assert [line for line in lines if 'coma-mm new TASK … --pretrained a.pth' in line and 'PRETRAINED=a.pth' in line]


def test_a_model_that_can_predict_ends_with_how(tmp_path):
    classifier = ImageClassifier(dict(type='mmpretrain.LeNet5', num_classes=2))
    for pipeline, expected in ([dict(type='LoadImageFromFile')], 1), (None, 0):
        path = tmp_path / 'my.py'
        path.write_text(f'test_dataloader = dict(dataset=dict(pipeline={pipeline}))\n'
                        'test_cfg = dict()\ntest_evaluator = dict()\n')
        cfg = Config.fromfile(path)
        lines = next_lines(SimpleNamespace(model=classifier, work_dir=str(tmp_path), cfg=cfg), 'a.pth')
        assert lines[0].startswith('Next: coma-mm test ')
        assert len([line for line in lines if line == 'or use it: coma-mm predict a.pth IMAGES --out found']) == expected
