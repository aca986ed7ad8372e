"""Updates that are not finite are left out, bit for bit."""
import datetime
import itertools
import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import nn

from coma_mm.engine import ComaRunner, FiniteHook, LossSpikeHook, WholeCheckpointHook
from coma_mm.errors import SharedError, UserError
from coma_mm.weights.load import latest_checkpoint

from ...helpers.faulty_runs import (
    ADAMW,
    Count,
    Fragile,
    hook_of,
    make_cfg,
    run,
    same,
    sample,
    state_of,
    warnings_of,
)
from ...helpers.small_models import small_batch, small_coma

# Updates left out

OPTIMIZERS = [
    ADAMW, dict(type='AdamW', lr=0.01), dict(type='Adam', lr=0.01, fused=True, amsgrad=True),
    dict(type='SGD', lr=0.01, momentum=0.9), dict(type='SGD', lr=0.01, momentum=0.9, fused=True),
    dict(type='mmpretrain.LARS', lr=0.01, momentum=0.9)
]


@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=lambda cfg: f'{cfg["type"]}-{cfg.get("fused", False)}')
@pytest.mark.parametrize('fault', ['inputs', 'gradient', 'loss'])
def test_an_update_that_is_not_finite_changes_nothing(tmp_path, optimizer, fault):
    """The first update of all is one of them: some optimisers set up their state there."""
    faults = {1: fault, 4: fault, 5: fault}
    runner = run(tmp_path, faults=faults, optimizer=optimizer)
    states = hook_of(runner, Count).states
    states[8] = state_of(runner)
    for done in range(8):
        before, after = states[done], {name: states[done + 1][name] for name in states[done]}
        left_out = [name for name in before if torch.equal(before[name], after[name])]
        assert len(left_out) == (len(before) if done + 1 in faults else 0), (done + 1, left_out)
    count = hook_of(runner, Count)
    assert len(set(count.rates[1:])) == 7  # schedules go on

    # The same in plain torch, where only the good batches are trained on.
    model = Fragile()
    settings = {name: value for name, value in optimizer.items() if name not in ('type', 'lr')}
    plain = type(runner.optim_wrapper.optimizer)(model.parameters(), lr=0.01, **settings)
    for iteration, (batch, rate) in enumerate(zip(count.batches, count.rates, strict=True), 1):
        plain.param_groups[0]['lr'] = rate
        if iteration not in faults:
            plain.zero_grad()
            model(batch['inputs'])['loss'].backward()
            plain.step()
    for name, value in model.state_dict().items():
        assert torch.equal(runner.model.state_dict()[name], value), name


def test_weights_do_not_depend_on_whether_anybody_watches(tmp_path):
    watched = run(tmp_path / 'watched')
    cfg = make_cfg(tmp_path / 'unwatched')
    cfg.custom_hooks = cfg.custom_hooks[:-2]
    unwatched = run(cfg)
    assert not [hook for hook in unwatched.hooks if isinstance(hook, FiniteHook | LossSpikeHook)]
    assert same(state_of(watched), state_of(unwatched))


@pytest.mark.parametrize('fault, images', [('loss', 2), ('gradient', 6)])
def test_one_bad_batch_of_an_accumulated_update_spoils_it_all(tmp_path, fault, images):
    runner = run(tmp_path, faults={5: fault}, accumulation=3, iterations=9)
    states = hook_of(runner, Count).states
    assert same(states[6], states[3]) and not same(states[3], states[0])
    assert not same(state_of(runner), states[6])
    line, = warnings_of(runner)
    assert '1 of 1 updates left out' in line and f'iteration 6 ({fault}; images' in line
    entry = json.loads((tmp_path / 'skipped_updates.jsonl').read_text())
    seen = [[sample.img_path for sample in batch['data_samples']] for batch in hook_of(runner, Count).batches]
    assert entry['images'] == (seen[4] if fault == 'loss' else seen[3] + seen[4] + seen[5])
    assert len(entry['images']) == images and entry['iteration'] == 6 and entry['not_finite'] == fault


def test_one_bad_batch_spoils_an_iteration_of_several(tmp_path):
    cfg = make_cfg(tmp_path, faults={2.25: 'loss'}, accumulation='auto', iterations=4, auto_scale_lr=dict(base_batch_size=6))
    runner = run(cfg)
    count = hook_of(runner, Count)
    assert same(count.states[2], count.states[1]) and not same(count.states[3], count.states[2])
    entry = json.loads((tmp_path / 'skipped_updates.jsonl').read_text())
    assert entry['iteration'] == 2
    assert entry['images'] == [sample.img_path for sample in count.batches[1][1]['data_samples']]


def test_a_look_names_what_was_left_out_and_the_last_checkpoint(tmp_path):
    faults = {iteration: 'loss' for iteration in (2, 6, 7, 9, 11)}
    runner = run(tmp_path, faults=faults, iterations=12, hooks=[dict(type='FiniteHook', interval=3)])
    first, second, third = warnings_of(runner)  # before checkpoints, too
    assert '1 of 3 updates left out, as the loss or a gradient was not finite: iteration 2 (loss; images ' in first
    assert first.endswith('checkpoint before: none')
    assert '2 of 3 updates' in second and second.endswith(f'last checkpoint before: {tmp_path}/iter_4.pth')
    assert '2 of 3 updates' in third and third.endswith(f'last checkpoint before: {tmp_path}/iter_8.pth')
    entries = [json.loads(line) for line in (tmp_path / 'skipped_updates.jsonl').read_text().splitlines()]
    assert [entry['iteration'] for entry in entries] == [2, 6, 7, 9, 11]
    assert all(len(entry['images']) == 2 for entry in entries)
    assert not warnings_of(run(tmp_path / 'good'))


def test_before_a_checkpoint_is_written_all_updates_are_looked_at(tmp_path):
    """Else a run that is stopped, or killed and resumed, would never report those since the last look."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, faults={3: 'loss'}, kill=5)
    assert json.loads((tmp_path / 'skipped_updates.jsonl').read_text())['iteration'] == 3
    assert latest_checkpoint(tmp_path) == f'{tmp_path}/iter_4.pth'


def test_a_run_stops_after_so_many_updates_in_a_row(tmp_path):
    faults = {n: 'inputs' for n in (3, 4, 6, 7, 8, 9)}
    watch = dict(type='FiniteHook', interval=2, max_skips=3)
    words = r'the last 3 updates had a loss .* from iteration 6 \(loss; images \d+.png, \d+.png\) on; last good checkpoint: '
    with pytest.raises(UserError, match=f'{words}{tmp_path}/iter_4.pth'):
        run(tmp_path, faults=faults, hooks=[watch], iterations=12)
    run(tmp_path / 'longer', faults=faults, hooks=[dict(watch, max_skips=5)], iterations=12)
    with pytest.raises(UserError, match='the last 1 updates .* last good checkpoint: none is left from before; look at'):
        run(tmp_path / 'strict', faults={2: 'gradient'}, hooks=[dict(watch, max_skips=1)])


def test_a_gradient_whose_squares_overflow_counts_as_infinite():
    hook, parameter = FiniteHook(), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    for size, skipped in ((1e18, 0), (1e20, 1), (0, 0)):
        parameter.grad = torch.full((3, ), float(size))
        hook.before_step(optimizer, (), {})
        assert optimizer.found_inf == skipped


@pytest.mark.parametrize('fused', [False, True])
def test_an_update_left_out_is_none_for_the_evaluation_model(fused):
    model = small_coma().float()
    hook, optimizer = FiniteHook(), torch.optim.AdamW(model.parameters(), fused=fused)
    optimizer.register_step_pre_hook(hook.before_step)
    model.follow(optimizer)
    batch = {**small_batch(), 'inputs': small_batch()['inputs'].float()}
    weight, lagged = model.decoder.mask_token, dict(model.evaluation.named_buffers())['decoder.mask_token']
    history = [weight.detach().clone()]
    for finite in (False, True, True, False, False, True):
        optimizer.zero_grad()
        (model(**batch, mode='loss')['loss'] * (1 if finite else math.nan)).backward()
        optimizer.step()
        history += [weight.detach().clone()] if finite else []
        assert torch.equal(weight, history[-1]) and torch.equal(lagged, history[max(len(history) - 2, 0)])
    assert len({tuple(value.flatten().tolist()) for value in history}) == 4


def test_the_evaluation_hook_sees_whether_an_update_is_left_out(tmp_path):
    """The hooks are registered with the optimiser in the right order, whatever their order in the config."""
    seen = []

    @MODELS.register_module(force=True)
    class Followed(Fragile):
        def sync_evaluation(self):
            pass

        def follow(self, optimizer, dtype=None):
            optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.found_inf.item()))

    run(tmp_path, model=dict(type='Followed', faults={2: 'loss'}), iterations=3, hooks=[dict(type='EvaluationModelHook')])
    assert seen == [0, 1, 0]


@pytest.mark.parametrize('fused', [False, True])
def test_a_gradient_scaler_keeps_its_say(tmp_path, fused):
    """It leaves updates out to find its scale, which count for nothing; a loss that is not finite does."""
    runner = ComaRunner.from_cfg(make_cfg(tmp_path, faults={3: 'loss'}, iterations=6))
    wrapper = AmpOptimWrapper.__new__(AmpOptimWrapper)  # its constructor asks for a GPU
    OptimWrapper.__init__(wrapper, torch.optim.AdamW(runner.model.parameters(), lr=0.01, fused=fused))
    wrapper.loss_scaler, wrapper._scale_update_param, wrapper.cast_dtype = torch.amp.GradScaler('cpu', 2.**126), None, None
    wrapper.optim_context = lambda model: nullcontext()  # no autocast
    runner.optim_wrapper = wrapper
    runner.train()
    states = hook_of(runner, Count).states
    weights = [states[n]['layers.0.weight'] for n in range(6)] + [runner.model.layers[0].weight]
    changed = [not torch.equal(*pair) for pair in itertools.pairwise(weights)]
    assert not changed[0] and not changed[2] and changed[-1], changed  # 2^126 is too large a scale
    assert all(value.isfinite().all() for value in state_of(runner).values())
    line, = warnings_of(runner)
    assert '1 of 4 updates left out' in line and 'iteration 3 (loss' in line


# Off the hot path


def step_on_meta(hook, runner, model, optimizer):
    hook.before_train_iter(runner, 0, dict(data_samples=[BaseDataElement(metainfo=dict(img_path='a.png'))]))
    loss = model()
    runner.optim_wrapper.scale_loss(loss).backward()
    hook.before_step(optimizer, (), {})
    hook.after_train_iter(runner, 0)


def test_between_two_looks_the_host_asks_for_no_value():
    """On the device 'meta' there are none to be had: asking raises."""
    layer = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to('meta')
    for fused in (True, False):
        optimizer = torch.optim.AdamW(layer.parameters(), fused=fused)
        runner = SimpleNamespace(model=layer, iter=0, optim_wrapper=OptimWrapper(optimizer), hooks=[], work_dir='')
        hook = FiniteHook(interval=4)
        hook.before_train(runner)
        for runner.iter in range(3 if fused else 0):
            step_on_meta(hook, runner, lambda: layer(torch.ones(4, 3, device='meta')).mean(), optimizer)
        with pytest.raises((RuntimeError, NotImplementedError), match='meta|Meta'):  # the look, or the plain optimiser
            step_on_meta(hook, runner, lambda: layer(torch.ones(4, 3, device='meta')).mean(), optimizer)
        assert len(hook.pending) == (4 if fused else 0)


def test_the_evaluation_model_follows_without_a_look():
    model = small_coma().to('meta')
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    model.follow(optimizer)
    FiniteHook().before_step(optimizer, (), {})
    for before_step in optimizer._optimizer_step_pre_hooks.values():
        before_step(optimizer, (), {})
    with pytest.raises(RuntimeError, match='meta'):
        optimizer.found_inf.item()


# Several processes


KINDS = 'fused', 'plain', 'scaler'


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2,
                            timeout=datetime.timedelta(minutes=2))
    # The second process alone meets the faults.
    inner = Fragile({3: 'loss', 4: 'gradient', 6: 'inputs'} if rank else {})
    model = MMDistributedDataParallel(inner, broadcast_buffers=False)
    saver = SimpleNamespace(newest=None if rank else 'first.pth')
    for kind in KINDS:
        wrapper = OptimWrapper(torch.optim.AdamW(inner.parameters(), fused=kind == 'fused'), accumulative_counts=2)
        if kind == 'scaler':
            wrapper.loss_scaler = None  # the hook leaves the gradients alone then
        runner = SimpleNamespace(model=model, iter=0, optim_wrapper=wrapper, hooks=[], work_dir=f'{folder}/{kind}',
                                 cfg=Config({}), seed=0)
        hook = FiniteHook(interval=2 if kind == 'scaler' else 4)
        hook.before_train(runner)
        hook.saver = saver
        states = []
        for runner.iter in range(2 * hook.interval):
            inner.iteration = runner.iter + 1
            batch = pseudo_collate([sample(4 * runner.iter + 2 * rank + i) for i in range(2)])
            hook.before_train_iter(runner, 0, batch)
            model.train_step(batch, wrapper)
            hook.after_train_iter(runner, 0)
            states.append({name: value.clone() for name, value in inner.state_dict().items()})
        torch.save(states, f'{folder}/{kind}/{rank}.pth')
    with open(f'{folder}/stop{rank}', 'w') as file:
        file.writelines(f'{line}\n' for line in stops_that_cannot_be_saved(folder))
    dist.barrier()
    dist.destroy_process_group()


def stops_that_cannot_be_saved(folder):
    """Iterator[str]: The line that this process leaves with."""
    for on_error in ('continue', 'stop'):
        saver = WholeCheckpointHook(on_error=on_error)
        saver.out_dir = f'{folder}/is_gone'
        runner = SimpleNamespace(model=Fragile(), message_hub=MessageHub(on_error),
                                 collect_checkpoint=lambda *_: None if dist.get_rank() else {})
        try:
            yield saver.save_interrupted(runner, dict(iter=8))
        except SharedError as error:
            yield str(error)


def test_all_processes_leave_the_same_updates_out(tmp_path):
    for kind in KINDS:
        (tmp_path / kind).mkdir()
    mp.start_processes(worker, (str(tmp_path), ), nprocs=2, start_method='fork')  # without importing everything anew
    reports = {kind: [json.loads(line) for line in (tmp_path / kind / 'skipped_updates.jsonl').read_text().splitlines()]
               for kind in KINDS}
    assert reports['fused'] == reports['plain'] == [
        dict(iteration=4, not_finite='loss', images=['10.png', '11.png'], checkpoint='first.pth'),
        dict(iteration=6, not_finite='loss', images=['22.png', '23.png'], checkpoint='first.pth')]
    assert reports['scaler'] == reports['plain'][:1]  # the processes' losses differ, their reports do not
    for kind in KINDS:  # the process whose loss it was leaves a file to run it again
        assert [path.name for path in (tmp_path / kind).glob('replay_*')] == ['replay_iter_4_rank_1.pt']
    # They also agree that a checkpoint could not be written, which the first one alone knows.
    line = f'cannot write {tmp_path}/is_gone/stopped_8.pth: No such file or directory'
    for rank in range(2):
        assert (tmp_path / f'stop{rank}').read_text().splitlines() == [
            f'{line}; go on from the older checkpoint with --resume', f'{line}; the older checkpoints are whole']
    for rank in range(2):  # the scaler's update 4 is left out for its loss: on both, with the running statistics
        states = torch.load(tmp_path / 'scaler' / f'{rank}.pth', weights_only=True)
        assert torch.equal(states[3]['layers.1.running_mean'], states[1]['layers.1.running_mean'])
    for kind in ('fused', 'plain'):
        folder = tmp_path / kind
        states = [torch.load(folder / f'{rank}.pth', weights_only=True) for rank in range(2)]
        weights = [{name: value for name, value in state.items() if 'layers.1.r' not in name and 'num' not in name}
                   for state in states[0]]
        for rank in range(2):
            assert same(states[rank][3], states[rank][1]) and same(states[rank][5], states[rank][1])
            assert not same(states[rank][7], states[rank][5])
            assert all(torch.equal(states[rank][n][name], value) for n in range(8) for name, value in weights[n].items())


# Checkpoints


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    runner = run(tmp_path)
    saver = hook_of(runner, WholeCheckpointHook)
    for tensor in (runner.model.layers[0].weight, runner.model.layers[1].running_var):
        kept = tensor.detach().clone()
        tensor.data[0] = math.nan
        with pytest.raises(UserError, match='tensors of the model are not finite .*layers.*; go on from the older'):
            saver.save_interrupted(runner, dict(epoch=0, iter=8))
        assert latest_checkpoint(tmp_path) == saver.newest == f'{tmp_path}/iter_8.pth'
        with pytest.raises(UserError, match='its end is not saved: go on from an older .* and a lower learning rate'):
            saver.after_train(runner)
        tensor.data.copy_(kept)
    assert saver.save_interrupted(runner, dict(epoch=0, iter=8)) == saver.newest


@pytest.mark.parametrize('make, words', [
    (lambda: FiniteHook(max_skips=0), 'FiniteHook: max_skips=0: expected a number of updates'),
    (lambda: FiniteHook(interval=1.5), 'FiniteHook: interval=1.5'),
])
def test_bad_arguments(make, words):
    with pytest.raises(UserError, match=words):
        make()
