"""What a run that is resumed validates first, says of settings that it does not use, and does at another length."""
import os
import signal
from contextlib import nullcontext

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS

from coma_mm.config.read import read_config
from coma_mm.engine import ComaRunner
from coma_mm.engine.hooks import RUN_HOOKS
from coma_mm.errors import Stopped, UserError
from coma_mm.visualization.logs import read_scalars
from coma_mm.weights import load_weights_only
from coma_mm.weights.load import latest_checkpoint

from ..helpers.faulty_runs import hook_of, make_cfg

EPOCHS = 4  # of 8 iterations


@METRICS.register_module()
class MeanError(BaseMetric):
    """Of each validation, a number that rises and falls with the weights."""

    def process(self, data_batch, data_samples):
        self.results += [float(sample['loss']) for sample in data_samples]

    def compute_metrics(self, results):
        return dict(score=torch.tensor(results).mean().item() * 1000 % 7)


@HOOKS.register_module()
class Rates(Hook):
    """Notes the learning rate of each iteration; amid a validation it may be killed, or get a signal."""
    priority = 'VERY_HIGH'

    def __init__(self, fault=None, at=None):
        self.fault, self.at, self.rates = fault, at, []

    def before_train_iter(self, runner, *_, **__):
        self.rates.append(runner.optim_wrapper.param_groups[0]['lr'])

    def after_val_iter(self, runner, *_, **__):
        if runner.iter == self.at and self.fault == 'kill':
            raise KeyboardInterrupt
        if runner.iter == self.at and self.fault == 'signal':
            os.kill(os.getpid(), signal.SIGTERM)


SCHEDULES = dict(
    cosine=[dict(type='LinearLR', start_factor=0.1, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', begin=1, end=EPOCHS, T_max=EPOCHS - 1, convert_to_iter_based=True)],
    steps=[dict(type='LinearLR', start_factor=0.1, begin=0, end=5, by_epoch=False),
           dict(type='MultiStepLR', milestones=[2, 3], end=EPOCHS, by_epoch=True)],
    poly=[dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=EPOCHS, by_epoch=True)])


def cfg_of(folder, fault=None, at=None, early=False, by_epoch=True, epochs=EPOCHS, schedule='cosine', **changes):
    hooks = [dict(type='Rates', fault=fault, at=at), dict(type='StopHook')]
    if early:
        hooks.append(dict(type='EarlyStoppingHook', monitor='score', rule='greater', patience=2))
    checkpoint = dict(type='CheckpointHook', interval=1 if by_epoch else 8, by_epoch=by_epoch, max_keep_ckpts=3,
                      save_best='score', rule='greater')
    sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)
    loader = dict(dataset=dict(type='NamedNoise'), batch_size=2, sampler=sampler)
    train_cfg = dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(
        by_epoch=False, max_iters=8 * epochs, val_interval=8)
    if not by_epoch:
        changes['param_scheduler'] = [dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=8 * epochs, by_epoch=False)]
    return make_cfg(folder, hooks=hooks, **dict(dict(
        model=dict(type='Scored'), train_cfg=train_cfg, param_scheduler=[dict(one) for one in SCHEDULES[schedule]],
        default_hooks=dict(checkpoint=checkpoint), train_dataloader=loader, val_dataloader=dict(
            dataset=dict(type='NamedNoise'), batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(), val_evaluator=dict(type='MeanError'), visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])), **changes))


def register_model():
    from mmengine.registry import MODELS

    from ..helpers.faulty_runs import Fragile

    @MODELS.register_module(force=True)
    class Scored(Fragile):

        def forward(self, inputs, data_samples=None, mode='loss'):
            if mode == 'loss':
                return super().forward(inputs, data_samples, mode)
            inputs = torch.stack(inputs)
            return [dict(loss=(one - two.sum()).abs().sum()) for one, two in zip(self.layers(inputs), inputs, strict=True)]


register_model()


def train(cfg, extends=False):
    runner = ComaRunner.from_cfg(cfg)
    runner.extends = extends
    runner.train()
    return runner


def resumed(folder, **settings):
    return cfg_of(folder, resume=True, load_from=latest_checkpoint(folder), **settings)


def left(folder):
    """The validations, the best checkpoint's name and weights, and the final state."""
    checkpoint = load_weights_only(latest_checkpoint(folder))
    curve = [(entry['step'], entry['score']) for entry in read_scalars(folder)[1]]
    best = {path.name: load_weights_only(path)['state_dict'] for path in folder.glob('best_*')}
    return curve, best, checkpoint['state_dict'], checkpoint['message_hub']['runtime_info'].get('best_score')


def assert_same(folder, other):
    (curve, best, weights, score), (curve_, best_, weights_, score_) = left(folder), left(other)
    assert curve == curve_ and score == score_ and best.keys() == best_.keys()
    for found, expected in [(weights, weights_), *((best[name], best_[name]) for name in best)]:
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('fault', ['kill', 'signal'])
def test_a_validation_that_was_interrupted_is_made_up(tmp_path, by_epoch, fault):
    train(cfg_of(tmp_path / 'whole', by_epoch=by_epoch))
    assert len(left(tmp_path / 'whole')[0]) == EPOCHS
    for at in (8, 24, 32):  # the last one, after all of training, too
        folder = tmp_path / f'at{at}'
        with pytest.raises((KeyboardInterrupt, Stopped)):
            train(cfg_of(folder, fault, at, by_epoch=by_epoch))
        train(resumed(folder, by_epoch=by_epoch))
        assert_same(folder, tmp_path / 'whole')
        assert not list(folder.glob('stopped_*'))
    train(resumed(folder, by_epoch=by_epoch))  # nothing is left to do
    assert_same(folder, tmp_path / 'whole')


def test_early_stopping_counts_on(tmp_path):
    whole = train(cfg_of(tmp_path / 'whole', early=True, epochs=12))
    assert whole.epoch < 12
    for at in (16, whole.iter):
        folder = tmp_path / f'at{at}'
        with pytest.raises(KeyboardInterrupt):
            train(cfg_of(folder, 'kill', at, early=True, epochs=12))
        runner = train(resumed(folder, early=True, epochs=12))
        assert runner.iter == whole.iter
        assert_same(folder, tmp_path / 'whole')
    assert train(resumed(folder, early=True, epochs=12)).iter == whole.iter  # it has stopped for good


def warnings_of(runner):
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
        return [line.partition('WARNING - ')[2].strip() for line in file if 'WARNING - ' in line and (
            'not used' in line or 'no schedule' in line)]


def test_settings_that_are_not_used_are_named(tmp_path):
    train(cfg_of(tmp_path, epochs=2))
    assert warnings_of(train(resumed(tmp_path, epochs=2))) == []
    longer = cfg_of(tmp_path, epochs=6, resume=True, load_from=latest_checkpoint(tmp_path),
                    optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.02, betas=(0.8, 0.9), weight_decay=0.3)))
    longer.param_scheduler[1].update(T_max=5, end=6)
    lines = warnings_of(train(longer))
    for words in ('optimizer.lr=0.02 is not used: the run goes on with 0.01', 'optimizer.betas=(0.8, 0.9) is not used',
                  'optimizer.weight_decay=0.3 is not used',
                  'param_scheduler[1].T_max=40 is not used: the run goes on with 24',
                  'param_scheduler[1].end=48 is not used', 'after epoch 4, and the run goes on to 6: --extend-to 6'):
        assert sum(words in line for line in lines) == 1, (words, lines)
    assert len(lines) == 6


def test_schedules_of_another_number_or_kind_are_refused_and_results_cannot_be_run_again(tmp_path):
    train(cfg_of(tmp_path, epochs=1, schedule='poly'))
    again = dict(resume=True, load_from=latest_checkpoint(tmp_path))
    for schedule in ([], SCHEDULES['cosine'], [dict(type='ExponentialLR', gamma=0.9, end=EPOCHS)]):
        with pytest.raises(UserError, match='cannot resume with other schedules: the checkpoint has 1'):
            train(cfg_of(tmp_path, epochs=2, param_scheduler=[dict(one) for one in schedule], **again))
    plateau = [dict(type='ReduceOnPlateauLR', monitor='score', rule='greater', patience=0, threshold=100.)]
    train(cfg_of(tmp_path / 'plateau', epochs=3, param_scheduler=plateau))
    again['load_from'] = latest_checkpoint(tmp_path / 'plateau')
    assert warnings_of(train(cfg_of(tmp_path / 'plateau', epochs=3, param_scheduler=plateau, **again))) == []
    with pytest.raises(UserError, match='--extend-to: a schedule that goes by the results of validations'):
        train(cfg_of(tmp_path / 'plateau', epochs=4, param_scheduler=plateau, **again), extends=True)
    train(cfg_of(tmp_path / 'constant', epochs=1, param_scheduler=None))
    again['load_from'] = latest_checkpoint(tmp_path / 'constant')
    line, = warnings_of(train(cfg_of(tmp_path / 'constant', epochs=2, param_scheduler=None, **again, optim_wrapper=dict(
        optimizer=dict(type='AdamW', lr=0.02, fused=True)))))
    assert line.startswith('optim_wrapper.optimizer.lr=0.02 is not used: the run goes on with 0.01')


@pytest.mark.parametrize('schedule', [*SCHEDULES])
def test_a_run_that_is_extended_goes_on_with_the_rates_of_a_longer_one(tmp_path, schedule):
    options = {'epochs': 8}
    from coma_mm.config.follow import set_length

    def of_length_eight(folder, **settings):
        cfg = cfg_of(folder, schedule=schedule, **settings)
        set_length(cfg, options)
        return cfg

    expected = hook_of(train(of_length_eight(tmp_path / 'long')), Rates).rates
    for at in (11, 32):  # amid an epoch, and at the end of the shorter run
        folder = tmp_path / f'at{at}'
        with pytest.raises(KeyboardInterrupt) if at < 32 else nullcontext():
            train(cfg_of(folder, schedule=schedule, default_hooks=dict(checkpoint=dict(
                type='CheckpointHook', interval=1, by_epoch=False)), custom_hooks=[
                    *map(dict, RUN_HOOKS), dict(type='Rates'), dict(type='Count', kill=at if at < 32 else None)]))
        again = dict(resume=True, load_from=latest_checkpoint(folder))
        runner = train(of_length_eight(folder, **again), extends=True)
        assert hook_of(runner, Rates).rates == expected[at:] and warnings_of(runner) == []
        assert runner.epoch == 8
    with pytest.raises(UserError, match='--extend-to: .* after 64 iterations, and the new end would be after 32; '):
        train(cfg_of(folder, schedule=schedule, resume=True, load_from=latest_checkpoint(folder)), extends=True)


def test_extend_to_is_for_a_run_that_is_resumed():
    path = 'configs/shapes/dyvit-tiny_scratch_shapes.py'
    cfg = read_config(path, resume='auto', extend_to=7)
    assert cfg.train_cfg.max_epochs == 7 and max(one.end for one in cfg.param_scheduler) == 7
    with pytest.raises(UserError, match='--extend-to is for a run that is resumed: add --resume'):
        read_config(path, extend_to=7)
    with pytest.raises(UserError, match='expected the length of the run as one whole number'):
        read_config(path, resume='auto', extend_to=-7)
