"""A run that was stopped and resumed ends with the same bits as one that was not."""
import errno
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

from coma_mm.engine import ComaRunner, StopHook, WholeCheckpointHook
from coma_mm.engine.hooks import RUN_HOOKS
from coma_mm.engine.hooks.stop import seconds
from coma_mm.errors import Stopped, UserError
from coma_mm.files import write_whole
from coma_mm.weights import load_weights_only
from coma_mm.weights.load import latest_checkpoint

ITERATIONS = 12  # three epochs of four


@DATASETS.register_module()
class NoisySamples(Dataset):
    """Samples with augmentation from two libraries' generators."""

    def __init__(self, size=8):
        self.size = size

    def __getitem__(self, index):
        return dict(inputs=torch.full((4, ), float(index)) + torch.rand(4) + np.random.rand())

    def __len__(self):
        return self.size


@MODELS.register_module()
class Stochastic(BaseModel):
    """Draws from all generators while it trains; notes what it saw."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.seen = []

    def forward(self, inputs, mode='tensor'):
        if mode == 'predict':
            return [0]
        inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
        self.seen.append(inputs)
        return dict(loss=(self.layers(inputs) * np.random.rand()).square().mean())


def make_cfg(work_dir, by_epoch=True, accumulation=1, **changes):
    length = dict(by_epoch=True, max_epochs=3) if by_epoch else dict(by_epoch=False, max_iters=ITERATIONS)
    return Config(dict(dict(
        model=dict(type='Stochastic'), work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dict(type='NoisySamples', size=16 if accumulation == 'auto' else 8), batch_size=2,
            sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)),
        auto_scale_lr=dict(base_batch_size=4), train_cfg=length, randomness=dict(seed=3),
        custom_hooks=[*map(dict, RUN_HOOKS), dict(type='StopHook')],
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=accumulation),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=ITERATIONS, by_epoch=False),
                         dict(type='ExponentialLR', gamma=0.9, by_epoch=True)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=by_epoch, max_keep_ckpts=2)),
    ), **changes))


def run(cfg, stop_after=None):
    """Train; with `stop_after`, SIGTERM comes during that iteration."""
    runner = ComaRunner.from_cfg(cfg)
    if stop_after:
        forward = runner.model.forward

        def interrupted(*args, **kwargs):
            if runner.iter + 1 == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            return forward(*args, **kwargs)

        runner.model.forward = interrupted
    runner.train()
    return runner


def resume(work_dir, **settings):
    return run(make_cfg(work_dir, resume=True, load_from=latest_checkpoint(work_dir), **settings))


def final(work_dir):
    """All that training left: weights, and the optimiser's and the schedules' states."""
    checkpoint = load_weights_only(latest_checkpoint(work_dir))
    assert checkpoint['meta']['iter'] == ITERATIONS
    state = checkpoint['optimizer']['state']
    tensors = {f'{key}.{name}': value for key, values in state.items() for name, value in values.items()}
    return {**checkpoint['state_dict'], **tensors}, checkpoint['param_schedulers']


def assert_same(work_dir, other):
    (tensors, schedules), (expected, expected_schedules) = final(work_dir), final(other)
    assert tensors.keys() == expected.keys() and schedules == expected_schedules
    for name, value in expected.items():
        assert torch.equal(tensors[name], value), name


@pytest.mark.parametrize('by_epoch, accumulation, stops', [
    # After every iteration, within an epoch, at its end, and within an accumulation or not; the other kinds of loop differ
    # in how they count, so these stop once in each place.
    (True, 3, range(1, 9)), (False, 1, (1, 4, 10)), (True, 1, (1, 4, 10)), (False, 3, (1, 3, 4)), (True, 'auto', (1, 4, 10)),
    (False, 'auto', (2, 4))])
def test_a_run_stopped_after_any_update_ends_with_the_same_bits(tmp_path, by_epoch, accumulation, stops):
    settings = dict(by_epoch=by_epoch, accumulation=accumulation)
    whole = run(make_cfg(tmp_path / 'whole', **settings))
    batches, iterations = (2, 1) if accumulation == 'auto' else (1, accumulation)  # of an iteration, of an update
    for stop_after in stops:
        folder = tmp_path / str(stop_after)
        with pytest.raises(Stopped, match='stopped by SIGTERM after'):
            run(make_cfg(folder, **settings), stop_after)
        update = -(-stop_after // iterations) * iterations
        assert latest_checkpoint(folder) == str(folder / f'stopped_{update}.pth')
        rest = resume(folder, **settings)
        assert torch.equal(torch.stack(rest.model.seen), torch.stack(whole.model.seen[update * batches:]))
        assert_same(folder, tmp_path / 'whole')
        # The run's own two latest checkpoints are left; that of the stop is gone.
        assert not list(folder.glob('stopped_*')) and len(list(folder.glob('*.pth'))) == 2


def test_a_checkpoint_between_two_updates_holds_the_gradients(tmp_path):
    """Epochs of four batches end amid an accumulation of three; a run killed there loses nothing."""
    run(make_cfg(tmp_path / 'whole', accumulation=3))
    folder = tmp_path / 'killed'
    with pytest.raises(KeyboardInterrupt):
        killed = ComaRunner.from_cfg(make_cfg(folder, accumulation=3))
        killed.register_hook(Kill(5))
        killed.train()
    checkpoint = load_weights_only(latest_checkpoint(folder))
    assert checkpoint['meta']['iter'] == 4 and len(checkpoint['gradients']) == 1
    assert not resume(folder, accumulation=3)._loaded  # a copy of all weights' size
    assert_same(folder, tmp_path / 'whole')


class Kill(StopHook):
    """Ends the run without saving."""

    def __init__(self, iteration):
        super().__init__()
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            raise KeyboardInterrupt


def test_what_was_seen_is_not_loaded_again_with_any_number_of_workers(tmp_path):
    whole = run(make_cfg(tmp_path / 'whole'))
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        with pytest.raises(Stopped):
            run(make_cfg(folder), 6)
        cfg = make_cfg(folder, resume=True, load_from=latest_checkpoint(folder))
        cfg.train_dataloader.update(num_workers=workers, persistent_workers=bool(workers))
        rest = run(cfg)
        assert torch.equal(torch.stack(rest.model.seen), torch.stack(whole.model.seen[6:]))
        assert_same(folder, tmp_path / 'whole')


def test_the_time_limit_stops_too(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    hooks = [*map(dict, RUN_HOOKS), dict(type='StopHook', max_time='0s')]
    with pytest.raises(Stopped, match='stopped by the time limit after 1 of 12 iterations; saved in .*stopped_1.pth; go on'):
        run(make_cfg(tmp_path, custom_hooks=hooks))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize('text, expected', [
    (90, 90), ('90', 90), ('1.5h', 5400), ('30m', 1800), ('2d', 172800), ('10:30', 630), ('23:50:00', 85800),
    ('1-02:00:00', 93600)])
def test_times_are_read_as_people_write_them(text, expected):
    assert seconds(text) == expected


def test_other_times_are_refused():
    with pytest.raises(UserError, match="cannot read the time 'soon'; expected seconds"):
        seconds('soon')


@pytest.mark.parametrize('damage', ['cut', 'empty', 'flipped', 'missing'])
def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, damage, monkeypatch):
    run(make_cfg(tmp_path / 'whole'))
    run(make_cfg(tmp_path / 'run'))
    newest = latest_checkpoint(tmp_path / 'run')
    assert newest.endswith('epoch_3.pth')
    content = bytearray(open(newest, 'rb').read())
    if damage == 'missing':
        os.remove(newest)
    else:
        weight = load_weights_only(newest)['state_dict']['layers.0.weight'].numpy().tobytes()
        content[content.index(weight) + 5] ^= 1
        new = dict(cut=content[:-100], empty=b'', flipped=content)[damage]
        open(newest, 'wb').write(new)
    lines = []
    monkeypatch.setattr('coma_mm.weights.load.print_log', lambda line, **kwargs: lines.append(line))
    assert latest_checkpoint(tmp_path / 'run').endswith('epoch_2.pth')
    assert len(lines) == 1 and 'epoch_3.pth is damaged or missing; going on from' in lines[0]
    resume(tmp_path / 'run')
    assert_same(tmp_path / 'run', tmp_path / 'whole')
    for path in (tmp_path / 'run').glob('*.pth'):
        path.write_bytes(b'')
    with pytest.raises(UserError, match='no checkpoint in .* is whole'):
        latest_checkpoint(tmp_path / 'run')
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize('background', [False, True])
def test_when_saving_fails_the_older_checkpoints_stay(tmp_path, monkeypatch, background):
    real = os.fsync

    def fsync(descriptor):
        if 'epoch_2' in os.readlink(f'/proc/self/fd/{descriptor}'):
            raise OSError(28, 'No space left on device')
        real(descriptor)

    monkeypatch.setattr('os.fsync', fsync)
    cfg = make_cfg(tmp_path / 'run')
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, background=background)
    runner = run(cfg)  # the checkpoint of the second epoch cannot be written
    log = open(f'{runner.log_dir}/{runner.timestamp}.log').read()
    assert 'epoch_2.pth: No space left on device; the older checkpoints are kept, training goes on' in log
    assert [path.name for path in (tmp_path / 'run').glob('*.pth*')] == ['epoch_3.pth']

    cfg = make_cfg(tmp_path / 'stopping')
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=1, on_error='stop')
    with pytest.raises(UserError, match='cannot write .*epoch_2.pth: No space left on device; the older'):
        run(cfg)
    assert latest_checkpoint(tmp_path / 'stopping').endswith('epoch_1.pth')


def test_curves_that_cannot_be_written_do_not_stop_a_run(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmengine.visualization.LocalVisBackend._dump', full)
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=dict(type='LoggerHook', interval=1))
    runner = run(make_cfg(tmp_path, default_hooks=hooks))
    log = open(f'{runner.log_dir}/{runner.timestamp}.log').read()
    assert runner.iter == ITERATIONS and log.count('cannot write the curves: No space left on device') == 1


def test_the_folder_is_on_the_disk_after_the_renaming(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append((os.readlink(f'/proc/self/fd/{descriptor}'), (tmp_path / 'a').exists()))
        real(descriptor)

    monkeypatch.setattr('os.fsync', fsync)
    write_whole(tmp_path / 'a', b'content')
    assert synced == [(f'{tmp_path}/a.tmp', False), (str(tmp_path), True)]


@pytest.mark.parametrize('number, remedy', [
    (errno.ENOSPC, 'make room and go on'), (errno.ENOENT, 'see that this run, and no ot')])
def test_a_run_whose_end_is_not_saved_fails(tmp_path, monkeypatch, number, remedy):
    def failing(path, data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr('coma_mm.engine.hooks.checkpoint.write_whole', failing)
    with pytest.raises(UserError, match=f'{os.strerror(number)}; training is done, but its end is not saved: {remedy}'):
        run(make_cfg(tmp_path))


def test_the_checkpoint_hook_takes_the_place_of_mmengines():
    with pytest.raises(UserError, match="on_error='never': expected"):
        WholeCheckpointHook(on_error='never')


def test_a_restart_goes_on_from_the_checkpoint_that_was_named(tmp_path):
    run(make_cfg(tmp_path))
    named = str(tmp_path / 'epoch_2.pth')

    class Crash(StopHook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            raise RuntimeError('died before its first checkpoint')

    runner = ComaRunner.from_cfg(make_cfg(tmp_path, resume=True, load_from=named))
    runner.register_hook(Crash())
    with pytest.raises(RuntimeError, match='died'):
        runner.train()
    assert latest_checkpoint(tmp_path) == named  # not epoch_3.pth


def test_a_run_with_other_epochs_is_not_resumed(tmp_path):
    run(make_cfg(tmp_path))
    for batch_size in (1, 4):
        cfg = make_cfg(tmp_path, resume=True, load_from=str(tmp_path / 'epoch_2.pth'))
        cfg.train_dataloader.batch_size = batch_size
        with pytest.raises(UserError, match=f'in epoch 3, but an epoch of this run has {8 // batch_size}'):
            run(cfg)


def test_when_the_best_checkpoint_cannot_be_written_the_previous_one_stays(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    runner = run(make_cfg(tmp_path, default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', interval=1, save_best='acc', rule='greater'))))
    hook = next(hook for hook in runner.hooks if isinstance(hook, WholeCheckpointHook))
    hook._save_best_checkpoint(runner, dict(acc=1.))
    runner.train_loop._epoch += 1
    monkeypatch.setattr(runner, 'save_checkpoint', full)
    hook._save_best_checkpoint(runner, dict(acc=2.))
    hook.save(runner, 'next.pth', dict(epoch=3, iter=ITERATIONS))
    assert [path.name for path in tmp_path.glob('best_acc_*.pth')] == ['best_acc_epoch_3.pth']


def test_a_checkpoint_holds_plain_values_and_the_curves_come_back(tmp_path):
    cfg = make_cfg(tmp_path, param_scheduler=[dict(type='OneCycleLR', eta_max=0.1, total_steps=12, by_epoch=False)])
    first = run(cfg)
    path = latest_checkpoint(tmp_path)
    hub = torch.load(path, weights_only=True)['message_hub']  # torch alone: no class is allowed beside its own
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta'].update(epoch=2, iter=8)
    torch.save(checkpoint, tmp_path / 'earlier.pth')
    rest = run(make_cfg(tmp_path / 'rest', resume=True, load_from=str(tmp_path / 'earlier.pth'),
                        param_scheduler=cfg.param_scheduler))
    name = next(name for name in hub['log_scalars'] if name.endswith('loss'))
    before, after = (runner.message_hub.get_scalar(name).data[0] for runner in (first, rest))
    assert len(before) == 12 and after[:12].tolist() == before.tolist() and len(after) == 16


def test_what_a_checkpoint_says_is_neither_run_nor_removed(tmp_path, monkeypatch):
    """Config text, and paths of files to remove, come with a checkpoint."""
    run(make_cfg(tmp_path / 'run'))
    checkpoint = torch.load(latest_checkpoint(tmp_path / 'run'), weights_only=True)
    text = f'open({str(tmp_path / "created")!r}, "w")'
    checkpoint['meta'].update(epoch=1, iter=4, config=text, cfg=text)
    document, folder = tmp_path / 'thesis.tex', tmp_path / 'documents'
    folder.mkdir()
    for path in (document, folder / 'letter.tex'):
        path.write_text('dear')
    for best, interrupted in ((document, document), (folder, folder), (f'{folder}/', '..'), ('', '.')):
        hub = dict(interrupted_ckpt=str(interrupted), best_ckpt=str(best), best_score=-1., keep_ckpt_ids=[1, 2, 3])
        checkpoint['message_hub']['runtime_info'].update(hub)
        checkpoint['message_hub']['resumed_keys'].update(dict.fromkeys(hub, True))
        torch.save(checkpoint, tmp_path / 'hostile.pth')
        cfg = make_cfg(tmp_path / 'rest', resume=True, load_from=str(tmp_path / 'hostile.pth'))
        cfg.update(val_cfg=dict(), val_dataloader=cfg.train_dataloader, val_evaluator=dict(type='Score'))
        cfg.default_hooks.checkpoint.update(save_best='score', rule='greater')
        run(cfg)
        assert not (tmp_path / 'created').exists()
        assert document.exists() and (folder / 'letter.tex').exists()
        assert (tmp_path / 'rest' / 'best_score_epoch_3.pth').exists()


@METRICS.register_module()
class Score(BaseMetric):
    """Is better after every epoch."""
    value = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Score.value += 1
        return dict(score=self.value)


def test_a_checkpoint_of_another_training_is_refused_in_one_line(tmp_path):
    run(make_cfg(tmp_path / 'run'))
    path = latest_checkpoint(tmp_path / 'run')
    for damage in (lambda one: one['optimizer'].update(param_groups=[]), lambda one: one['meta'].pop('iter'),
                   lambda one: one['message_hub'].pop('log_scalars'), lambda one: one.update(param_schedulers=5),
                   lambda one: one['message_hub']['log_scalars'].update(loss={}), lambda one: one.update(gradients=[{}, {}]),
                   lambda one: one['meta'].update(seed='seven')):
        checkpoint = torch.load(path, weights_only=True)
        damage(checkpoint)
        torch.save(checkpoint, tmp_path / 'other.pth')
        with pytest.raises(UserError) as caught:
            run(make_cfg(tmp_path / 'rest', resume=True, load_from=str(tmp_path / 'other.pth')))
        assert 'other.pth' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['', '\0', 'a' * 5000, '/etc/passwd', '../../x.pth\nmore', '/', '~', '\xff\n'])
def test_whatever_last_checkpoint_says(tmp_path, text):
    (tmp_path / 'last_checkpoint').write_text(text)
    with pytest.raises(UserError, match='no checkpoint in .* is whole') as caught:
        latest_checkpoint(tmp_path)
    assert '\n' not in str(caught.value)
    run(make_cfg(tmp_path / 'run'))
    (tmp_path / 'run' / 'last_checkpoint').write_text(text)
    assert latest_checkpoint(tmp_path / 'run').endswith('epoch_3.pth')


def test_a_copied_folder_is_resumed_from_its_own_checkpoint(tmp_path):
    run(make_cfg(tmp_path / 'run'))
    copy = shutil.copytree(tmp_path / 'run', tmp_path / 'copy')
    assert latest_checkpoint(copy) == str(copy / 'epoch_3.pth')


def test_a_signal_is_acknowledged_and_a_second_ctrl_c_ends_at_once(monkeypatch, capfd):
    hook, now, ended = StopHook(), [0.], []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    monkeypatch.setattr('coma_mm.engine.hooks.stop.time.monotonic', lambda: now[0])
    monkeypatch.setattr('coma_mm.engine.hooks.stop.end_at_once', lambda code, line: ended.append((code, line)))
    hook.before_train(SimpleNamespace(world_size=1))
    try:
        for second, number in ((0., signal.SIGINT), (.2, signal.SIGINT), (.3, signal.SIGTERM), (2., signal.SIGTERM)):
            now[0] = second  # a launcher passes a signal on that the terminal has sent to all; schedulers repeat theirs
            os.kill(os.getpid(), number)
        assert not ended and hook.reason == 'SIGINT'
        assert capfd.readouterr().err == ('SIGINT: stops after this update and saves (Ctrl-C now ends at once, without '
                                          'saving)\n')
        os.kill(os.getpid(), signal.SIGINT)
        assert [code for code, _ in ended] == [130]
    finally:
        hook.release()
        signal.signal(signal.SIGINT, before)
