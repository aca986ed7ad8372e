"""A run goes back before a spike of its loss."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from coma_mm.engine import LossSpikeHook
from coma_mm.errors import UserError
from coma_mm.files import write_whole
from coma_mm.weights import load_weights_only
from coma_mm.weights.load import latest_checkpoint

from ...helpers.faulty_runs import ADAMW, Count, hook_of, make_cfg, run, same, state_of, warnings_of

SPIKE = dict(type='LossSpikeHook', factor=2, window=8, interval=4, action='rollback')


def spike_cfg(work_dir, faults=None, spike=SPIKE, iterations=40, **settings):
    return make_cfg(work_dir, faults=faults, iterations=iterations, hooks=[spike],
                    **{'optimizer': dict(ADAMW, lr=1e-3), **settings})


def test_the_run_goes_back_before_the_spike(tmp_path):
    runner = run(spike_cfg(tmp_path, {22: 'weights'}))
    line, = warnings_of(runner)
    assert 'loss spike in iteration 24: the median loss is' in line
    # Those of iterations 16 and 20 were not yet there at a look after which a whole interval was in order.
    assert f'went back to the weights of {tmp_path}/iter_12.pth, 1 of at most 3 times' in line
    states = hook_of(runner, Count).states
    assert same(states[24], states[12]) and not same(states[23], states[12])
    plain = run(spike_cfg(tmp_path / 'plain'))
    assert [g['lr'] for g in runner.optim_wrapper.param_groups] == [g['lr'] for g in plain.optim_wrapper.param_groups]
    assert not warnings_of(plain)


@pytest.mark.parametrize('background', [False, True])
def test_a_checkpoint_that_could_not_be_written_never_becomes_a_good_one(tmp_path, monkeypatch, background):
    def write(path, data):
        if 'iter_12' in str(path):
            raise OSError(28, 'No space left on device')
        write_whole(path, data)

    monkeypatch.setattr('coma_mm.engine.hooks.checkpoint.write_whole', write)
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=6, max_keep_ckpts=5, background=background)
    runner = run(spike_cfg(tmp_path, {22: 'weights'}, iterations=24, default_hooks=dict(checkpoint=checkpoint)))
    line, = warnings_of(runner)
    assert f'went back to the weights of {tmp_path}/iter_6.pth' in line
    assert same(state_of(runner), hook_of(runner, Count).states[6])


def test_a_checkpoint_of_the_spike_never_becomes_a_good_one(tmp_path):
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=15)
    faults = {30: 'weights', 42: 'weights'}
    runner = run(spike_cfg(tmp_path, faults, iterations=44, default_hooks=dict(checkpoint=checkpoint)))
    states = hook_of(runner, Count).states
    spoilt = load_weights_only(tmp_path / 'iter_30.pth')['state_dict']['layers.2.bias']
    assert spoilt > 20 and torch.equal(states[30]['layers.2.bias'], spoilt)
    assert same(states[32], states[15]) and same(state_of(runner), states[15])


@pytest.mark.parametrize('settings, kills', [
    (dict(), (18, 23, 24, 25, 36, 39)), (dict(accumulation=2), (25, 37)), (dict(epochs=True), (23, 25))])
def test_a_run_that_went_back_resumes_to_the_same_bits(tmp_path, settings, kills):
    settings = dict(settings)
    if settings.pop('epochs', False):
        settings.update(
            train_cfg=dict(by_epoch=True, max_epochs=5),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3)),
            train_dataloader=dict(dataset=dict(type='NamedNoise'), batch_size=2, sampler=dict(type='DefaultSampler')))
    faults = {22: 'weights', 35: 'weights', 37: 'loss'}
    whole = run(spike_cfg(tmp_path / 'whole', faults, **settings))
    assert len([line for line in warnings_of(whole) if 'went back' in line]) == 2
    for kill in kills:
        folder = tmp_path / str(kill)
        with pytest.raises(KeyboardInterrupt):
            run(spike_cfg(folder, faults, kill=kill, **settings))
        rest = run(spike_cfg(folder, faults, resume=True, load_from=latest_checkpoint(folder), **settings))
        assert same(state_of(rest), state_of(whole)), kill
        assert rest.message_hub.runtime_info['rollbacks'] == 2


def test_a_run_goes_back_only_so_often(tmp_path):
    faults = {22: 'weights', 35: 'weights'}
    with pytest.raises(UserError, match='in iteration 36: .* stopped, as the run went back 1 times before .* '
                       f'--resume {tmp_path}/iter_24.pth'):
        run(spike_cfg(tmp_path, faults, dict(SPIKE, max_rollbacks=1)))


def test_losses_that_are_not_finite_are_a_spike(tmp_path):
    runner = run(spike_cfg(tmp_path, {n: 'inputs' for n in range(21, 25)}))
    assert any('loss spike in iteration 24: the median loss is inf' in line for line in warnings_of(runner))


def test_going_back_starts_the_count_of_updates_left_out_anew(tmp_path):
    faults = {n: 'inputs' for n in range(21, 29)}
    watch = dict(type='FiniteHook', interval=4, max_skips=5)
    run(make_cfg(tmp_path, faults, hooks=[SPIKE, watch], iterations=32))
    with pytest.raises(UserError, match='the last 8 updates'):
        run(make_cfg(tmp_path / 'no', faults, hooks=[dict(SPIKE, action='warn'), watch], iterations=32))


def test_a_warning_comes_once_for_each_spike(tmp_path):
    spike = dict(SPIKE, action='warn', window=12)
    line, = warnings_of(run(spike_cfg(tmp_path, {22: 'weights'}, spike, default_hooks={})))
    assert 'loss spike in iteration 24' in line and 'went back' not in line


def test_what_is_a_spike():
    """Against the definition, on many series."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        losses = rng.lognormal(0, 1, 30)
        losses[rng.random(30) < 0.1] = rng.choice([np.nan, np.inf, 50.])
        losses[rng.integers(15, 30):] *= rng.choice([1, 5, 100])
        hub = MessageHub('spikes')
        hook = LossSpikeHook(factor=4, window=10, interval=5)
        hook.go_back = hook.action = None
        for iteration, loss in enumerate(losses):
            hub.update_scalar('train/loss', float(loss))
            wrapper = SimpleNamespace(should_update=lambda: True)
            runner = SimpleNamespace(iter=iteration, message_hub=hub, optim_wrapper=wrapper)
            hook.after_train_iter(runner, 0)
            if (iteration + 1) % 5 == 0 and iteration >= 14:
                finite = [loss if math.isfinite(loss) else math.inf for loss in losses[iteration - 14:iteration + 1]]
                middle = sorted(finite[:10])[4:6]
                expected = sorted(finite[10:])[2] > 4 * sum(middle) / 2
                assert hook.spiking == expected
                found.append(expected)
        hook.spiking = None
        hook.after_train_iter(SimpleNamespace(**vars(runner) | dict(optim_wrapper=SimpleNamespace(should_update=bool))), 0)
        assert hook.spiking is None  # not between two updates
    assert 0.1 < np.mean(found) < 0.9


def test_without_a_good_checkpoint_the_run_stops(tmp_path):
    with pytest.raises(UserError, match='loss spike in iteration 24: .*there is no checkpoint from before'):
        run(spike_cfg(tmp_path, {22: 'weights'}, default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', by_epoch=False, interval=100))))
    with pytest.raises(UserError, match='there is no checkpoint from before; save more often .*, keep more of them'):
        run(spike_cfg(tmp_path, {22: 'weights'}, default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=2))))


@pytest.mark.parametrize('make, words', [
    (lambda: LossSpikeHook(action='stop'), "action='stop': expected one of warn, rollback"),
    (lambda: LossSpikeHook(factor=1), 'LossSpikeHook: factor=1: expected a number above 1'),
    (lambda: LossSpikeHook(factor=float('nan')), 'LossSpikeHook: factor=nan: expected a number above 1'),
    (lambda: LossSpikeHook(window=0), 'LossSpikeHook: window=0: expected a whole number, 1 or more'),
])
def test_bad_arguments(make, words):
    with pytest.raises(UserError, match=words):
        make()


@pytest.mark.parametrize('checkpoint', [dict(max_keep_ckpts=1), dict(save_optimizer=False)])
def test_going_back_needs_checkpoints(tmp_path, checkpoint):
    with pytest.raises(UserError, match="action='rollback' needs default_hooks.checkpoint"):
        run(spike_cfg(tmp_path, default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, **checkpoint))))
    assert not list(tmp_path.glob('*.pth'))
