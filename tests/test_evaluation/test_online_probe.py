"""A pre-training with the probe: what it says, and that it is the same training."""
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from PIL import Image

from coma_mm.config.read import read_config
from coma_mm.engine import ComaRunner, sharing
from coma_mm.engine.agreement.metric_names import check_metric_names
from coma_mm.engine.agreement.parts import parts_of
from coma_mm.engine.hooks import RUN_HOOKS
from coma_mm.errors import Stopped, UserError
from coma_mm.evaluation import OnlineProbeHook, choose_images
from coma_mm.evaluation.beside_training import TimeShare
from coma_mm.models import MaskedAutoencoder
from coma_mm.weights import load_weights_only
from coma_mm.weights.load import latest_checkpoint
from coma_mm.weights.safe_pickle import plain
from tests.helpers.small_models import model_settings

KINDS = ('knn', 'linear', 'rankme')
SMALL = dict(type='OnlineProbeHook', k=3, max_share=1.)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Eight images to train on, and two classes of six, dark ones and bright ones."""
    folder = tmp_path_factory.mktemp('probe')
    rng = np.random.default_rng(0)
    for name, low, high, count in (('images', 0, 256, 8), ('classes/dark', 0, 90, 6), ('classes/light', 160, 256, 6)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(low, high, (64, 64, 3), np.uint8)).save(folder / name / f'{index}.png')
    return folder


def make_cfg(folder, work_dir, *hooks, model='CoMA', **changes):
    """Three epochs of four iterations, validated after each; what trains draws from all generators."""
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='default_collate'),
                  dataset=dict(type='ImageFolder', data_root=str(folder / 'images'), pipeline=[
                      dict(type='LoadImage'), dict(type='PatchMask'), dict(type='PackMaskedImage')]))
    own = [dict(type='EvaluationModelHook')] if model == 'CoMA' else []
    return Config(dict(dict(
        default_scope='mmpretrain', work_dir=str(work_dir), randomness=dict(seed=3),
        model=dict(type=model, **model_settings(drop_path_rate=.2)), train_dataloader=loader,
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)), val_cfg=dict(),
        val_evaluator=dict(type='ReconstructionError'), train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=dict(type='AdamW', lr=.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[*map(dict, RUN_HOOKS), *own, *hooks, dict(type='StopHook')]), **changes))


def train(cfg, stop_after=None):
    runner = ComaRunner.from_cfg(cfg)
    if stop_after:
        loss = runner.model.loss

        def stopped(*args, **kwargs):
            if runner.iter + 1 == stop_after:
                next(hook for hook in runner.hooks if type(hook).__name__ == 'StopHook').reason = 'the test'
            return loss(*args, **kwargs)

        runner.model.loss = stopped
    runner.train()
    return runner


def resume(folder, work_dir, *hooks, **changes):
    return train(make_cfg(folder, work_dir, *hooks, resume=True, load_from=latest_checkpoint(work_dir), **changes))


def weights(work_dir):
    return load_weights_only(work_dir / 'epoch_3.pth')['state_dict']


def scalars(runner):
    """The entries of validation in the log."""
    lines = map(json.loads, Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines())
    return [entry for entry in lines if 'lr' not in entry]


@pytest.fixture(scope='module')
def probed(folder):
    """The runner of a run with all that judges it, which was stopped in its second epoch, and resumed."""
    hooks = dict(SMALL, probe_root=str(folder / 'classes')), dict(type='ReconstructionsHook', keep=2, max_share=1.)
    cfg = make_cfg(folder, folder / 'probed', *hooks)
    with pytest.raises(Stopped):
        train(cfg, stop_after=6)
    return resume(folder, folder / 'probed', *hooks)


def test_every_stage_is_probed_before_training_and_at_each_validation(probed, folder):
    first, = (path for path in (folder / 'probed').glob('*/vis_data/scalars.json') if str(probed.timestamp) not in str(path))
    entries = [entry for entry in map(json.loads, first.read_text().splitlines()) if 'lr' not in entry]
    assert [entry['step'] for entry in entries] == [0, 1] and [entry['step'] for entry in scalars(probed)] == [2, 3]
    assert 'reconstruction/masked' not in entries[0] and 'reconstruction/masked' in entries[1]
    assert entries[0]['probe/linear_stage1'] == 100  # dark or light
    for entry in entries + scalars(probed):
        names = [name for name in entry if name.startswith('probe/')]
        assert sorted(names) == sorted(f'probe/{kind}_stage{stage}' for kind in KINDS for stage in (1, 2, 3, 4))
        assert all(1 <= entry[f'probe/rankme_stage{stage}'] <= 8 for stage in (1, 2, 3, 4))
    text = Path(probed.log_dir, f'{probed.timestamp}.log').read_text()
    assert '4 images of 2 classes by 8 others of ' in text and '% of the time of this run' in text
    assert text.count('Probe, by stage (guessing: 50.0): k-NN top-1 ') == 2 and 'before training' not in text


def test_a_run_with_it_that_was_stopped_too_has_the_last_bits_of_one_without(folder, probed):
    train(make_cfg(folder, folder / 'bare'))
    bare, found = weights(folder / 'bare'), weights(folder / 'probed')
    assert found.keys() == bare.keys() and all(torch.equal(value, found[name]) for name, value in bare.items())


def test_the_best_checkpoint_may_be_chosen_by_each_of_its_metrics(probed):
    hook = next(hook for hook in probed.hooks if isinstance(hook, OnlineProbeHook))
    names = hook.metric_names(probed.model)
    assert set(names) == {name for entry in scalars(probed) for name in entry if name.startswith('probe/')}
    saver, parts = CheckpointHook(save_best=names, rule='greater'), parts_of(probed)
    check_metric_names(replace(parts, hooks=[saver, hook]))
    with pytest.raises(UserError, match="save_best='probe/knn_stage1' is no metric .* which gives .* probe/rankme_stage4"):
        check_metric_names(replace(parts, hooks=[saver, OnlineProbeHook()]))
    assert OnlineProbeHook().metric_names(torch.nn.Identity()) == []


def test_a_collapse_of_the_last_stage_is_said_once_and_after_a_resume_too(folder, monkeypatch):
    """Against the features before training, which a run that goes on has not seen."""
    def with_values(*of_last_stage):
        values = iter([value for last in of_last_stage for value in (9., 9., 1., last)])
        monkeypatch.setattr('coma_mm.evaluation.online_probe.rank_me', lambda features: next(values))

    def warnings(runner):
        log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
        return [line.split(' - WARNING - ')[1] for line in log.splitlines() if 'WARNING - RankMe' in line]

    with_values(8., 4., 3.9, 1.)  # half of it is not below
    line, = warnings(train(make_cfg(folder, folder / 'collapsed', dict(SMALL))))
    assert line.startswith('RankMe of the last stage is 3.9, and was 8.0 at the start: ') and '=(3,)); docs/' in line
    with_values(8., 4.)
    with pytest.raises(Stopped):
        train(make_cfg(folder, folder / 'resumed', dict(SMALL)), stop_after=6)
    with_values(9., 3.9)
    line, = warnings(resume(folder, folder / 'resumed', dict(SMALL)))
    assert 'is 3.9, and was 8.0 ' in line
    foreign = SimpleNamespace(model=SimpleNamespace(backbone=torch.nn.Identity()), message_hub=None, iter=8)
    OnlineProbeHook()._warn_of_collapse(foreign, {'probe/rankme_stage4': 1.})  # that of a ViT falls in runs that learn


def test_each_validation_has_its_picture(probed, folder):
    found = {file.name: np.asarray(Image.open(file)) for file in (folder / 'probed').glob('*/vis_data/vis_image/*.png')}
    assert sorted(found) == [f'reconstructions_{iteration}.png' for iteration in (12, 4, 8)]
    first, later = found['reconstructions_4.png'], found['reconstructions_12.png']
    assert first.shape == later.shape and first.shape[1] == 6 * 132 - 4 and first.shape[0] > 4 * 128
    image, made = (slice(39, 167), slice(0, 128)), (slice(39, 167), slice(264, 392))
    assert (first[image] == later[image]).all() and first[image].std() > 20
    assert (first[made] != later[made]).any() and (first[made] == first[image]).any()
    assert 'Drawing 2 pictures of reconstructions took ' in Path(probed.log_dir, f'{probed.timestamp}.log').read_text()


def test_other_classes_or_images_than_before_a_resume_are_said(folder):
    said, lines = {}, []
    runner = SimpleNamespace(iter=8, message_hub=SimpleNamespace(runtime_info=said, update_info=said.__setitem__),
                             logger=SimpleNamespace(warning=lines.append))

    def compare(**changes):
        hook = OnlineProbeHook(str(folder / 'classes'), k=3)
        hook.folders = replace(choose_images(hook.probe_root, k=3), **changes)
        hook._compare(runner)

    compare()  # of a run that had no such folder
    compare()
    assert not lines and plain(said) == said
    compare(test=[(f'{folder}/classes/dark/7.png', 0)])
    assert len(lines) == 1 and 'others than before the resume: the curves of the probe may make a step here' in lines[0]
    with pytest.raises(UserError, match=r'other classes than before the resume \(new: bright; gone: light\), so the'):
        compare(classes=['bright', 'dark'])
    runner.iter = 0  # a new run that begins with the weights of another
    compare(classes=['bright', 'dark'])
    said['probe_classes'] = 'of a foreign checkpoint'
    compare()


def test_without_labels_rank_me_remains_and_a_mode_that_was_set_stays(folder, monkeypatch):
    runner = ComaRunner.from_cfg(make_cfg(folder, folder / 'unlabelled', dict(SMALL), model='MaskedAutoencoder'))
    runner.model.backbone.stages[0].eval()
    modes = {name: module.training for name, module in runner.model.named_modules()}
    hook = next(hook for hook in runner.hooks if isinstance(hook, OnlineProbeHook))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner._val_loop = runner.build_val_loop(runner._val_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    before = torch.get_rng_state()
    hook.before_run(runner)
    with pytest.raises(UserError, match='k=20 is more than the 8 images of probe_root .*classes to compare with'):
        OnlineProbeHook(str(folder / 'classes')).before_run(runner)
    hook.before_train(runner)
    entry, = scalars(runner)
    assert {name for name in entry if name != 'step'} == {f'probe/rankme_stage{stage}' for stage in (1, 2, 3, 4)}
    assert len(set(modes.values())) == 2
    assert modes == {name: module.training for name, module in runner.model.named_modules()}
    assert torch.equal(before, torch.get_rng_state())
    assert not any(name.startswith('probe_') for name in runner.message_hub.runtime_info)
    # What takes too long is left out, but for the last one; so is what falls between.
    hook.max_share, metrics = 0., {}
    runner._train_loop._epoch, runner._train_loop._iter = 1, 4
    hook.after_val_epoch(runner, metrics)
    assert metrics == {}
    hook.interval, hook.max_share = 2, 1.
    hook.after_val_epoch(runner, metrics)
    assert metrics == {}
    hook.max_share, runner._train_loop._epoch = 0., 3
    hook.after_val_epoch(runner, metrics)
    assert len(metrics) == 4
    # Other processes take what the main one found.
    monkeypatch.setattr(sharing, 'is_main_process', lambda: False)
    monkeypatch.setattr(sharing, 'broadcast_object_list', lambda result: result.__setitem__(0, metrics))
    others = {}
    hook.after_val_epoch(runner, others)
    assert others == metrics
    text = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert '8 training images without labels, for RankMe alone' in text
    assert 'with it and the last one probing would take more of the time of this run than max_share=0\n' in text


def test_without_labels_nothing_stands_in_the_way_of_training(folder, caplog):
    def hook(model, loop, val_loop=None, **changes):
        runner = SimpleNamespace(
            model=model, _train_loop=loop, val_loop=val_loop, iter=0, logger=logging.getLogger('run'), **changes)
        for one in (OnlineProbeHook(), OnlineProbeHook(str(folder / 'classes'), k=3)):
            one.before_run(runner)
            one.before_train(runner)
            one.after_val_epoch(runner, {})
        return one

    loop = object.__new__(IterBasedTrainLoop)
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match='is for pre-training, the model is Identity: leave'):
        hook(torch.nn.Identity(), loop)
    assert caplog.messages == ['No RankMe: it is of masked autoencoders, the model is Identity']
    caplog.clear()
    loader = SimpleNamespace(dataset=[0] * 8, batch_size=2)
    loop.val_interval, loop._max_iters = 1, 12
    hook(object.__new__(MaskedAutoencoder), loop, train_loop=loop, train_dataloader=loader)
    assert caplog.messages == ['OnlineProbeHook: this run does not validate, so nothing is probed; set val_dataloader, '
                               'val_cfg and val_evaluator, or leave probe_root out']  # of the second hook
    caplog.clear()
    one, runner = OnlineProbeHook(), SimpleNamespace(logger=logging.getLogger('run'))
    with one._going_on(runner):
        raise RuntimeError('out of memory\nby 3 GB')
    assert caplog.messages == ['no RankMe of the features (RuntimeError: out of memory); training goes on without it']
    one.chooses = True  # the best checkpoint
    with pytest.raises(RuntimeError, match='out of memory'), one._going_on(runner):
        raise RuntimeError('out of memory')


@pytest.mark.parametrize('by_epoch, interval, numbers', [
    (True, 1, (100, 300, 150)), (True, 5, (500, 500, 250)), (True, 50, (1000, 1000, 500)),
    (False, 100, (160, 300, 150)), (False, 5000, (320, 320, 160))])
def test_as_many_images_as_cost_little_between_two_validations(by_epoch, interval, numbers):
    loop = object.__new__(EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop)
    vars(loop).update(val_interval=interval, _max_epochs=90, _max_iters=200)
    runner = SimpleNamespace(train_loop=loop, train_dataloader=SimpleNamespace(dataset=range(2000), batch_size=32))
    assert OnlineProbeHook()._numbers(runner) == numbers
    assert OnlineProbeHook(train_images=700, test_images=3)._numbers(runner) == (700, 700, 3)
    assert OnlineProbeHook('here', train_images=700)._numbers(runner) == (min(numbers[0], 700), 700, numbers[2])


def test_where_all_of_it_would_take_too_long_rank_me_of_the_same_images_remains(probed):
    hook, last = next(hook for hook in probed.hooks if isinstance(hook, OnlineProbeHook)), scalars(probed)[-1]
    hook.max_share, hook.time.seconds, hook.time.cost, hook.time.start = .018, 0., 10., time.monotonic() - 1000
    every, hook.of_rank_me = hook.of_rank_me, [0, 7]
    found = hook._probe_here(probed, always=False)
    assert list(found) == [f'probe/rankme_stage{stage}' for stage in (1, 2, 3, 4)]
    assert all(1 <= value <= 2 for value in found.values()) and hook.time.cost == 10
    assert every == list(range(8))  # of twelve
    hook.of_rank_me, hook.time.seconds = every, 0.
    found = hook._probe_here(probed, always=False)
    assert found == pytest.approx({name: last[name] for name in found})
    text = Path(probed.log_dir, f'{probed.timestamp}.log').read_text()
    assert text.count('(more would take too long this time)\n') == 2
    hook.max_share = .001
    assert hook._probe_here(probed, always=False) == {}


def test_the_share_of_the_time_counts_the_last_probe_that_is_still_to_come(monkeypatch):
    now = [0.]
    monkeypatch.setattr('coma_mm.evaluation.beside_training.time.monotonic', lambda: now[0])
    share, run = TimeShare(), SimpleNamespace(iter=100, max_iters=200)
    share.begin(run)
    with share.timed():
        now[0] += 2
    with share.timed(whole=False):
        now[0] += 1
    now[0] = 98.
    run.iter = 150  # half of what it does from here on
    assert share.of_run() == 3 / 98 and share.so_far() == 7 / 100
    assert share.by_the_end(run) == 7 / (2 * 95 + 7) and share.by_the_end(run, .5) == 6 / (2 * 95 + 6)


def test_rank_me_is_in_every_pre_training_of_ours_and_the_folder_comes_from_the_command_line_or_the_config(tmp_path, folder):
    path = str(Path(__file__).parents[2] / 'configs/shapes/coma_dyvit-tiny-p16_shapes-easy.py')

    def hooks(cfg):
        found = [*cfg.default_hooks.values(), *cfg.custom_hooks]
        return [dict(hook) for hook in found if hook and hook.type == 'OnlineProbeHook']

    assert hooks(read_config(path)) == hooks(read_config(path, {'probe_root': ''})) == [dict(type='OnlineProbeHook')]
    cfg = read_config(path, {'probe_root': 'here', 'default_hooks.probe.k': 5})
    assert hooks(cfg) == [dict(type='OnlineProbeHook', k=5, probe_root='here')]
    dumped = tmp_path / 'dumped.py'
    cfg.dump(dumped)
    again = read_config(str(dumped), probe_root=str(folder))
    assert hooks(again) == [dict(type='OnlineProbeHook', k=5, probe_root=str(folder))] and again.probe_root == str(folder)
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = '{path}'\n"
                   "custom_hooks = [dict(type='EvaluationModelHook'), dict(type='OnlineProbeHook', k=9), "
                   "dict(type='ReconstructionsHook', number=8)]")
    assert read_config(str(own)).default_hooks.reconstructions is None
    assert hooks(read_config(str(own))) == [dict(type='OnlineProbeHook', k=9)]  # it takes the place of ours
    assert hooks(read_config(str(own), probe_root='here')) == [dict(type='OnlineProbeHook', k=9, probe_root='here')]
    off = read_config(path, {'default_hooks.probe': None})
    assert hooks(off) == [] and off.default_hooks.probe is None
    assert hooks(read_config(path, {'default_hooks.probe': None}, probe_root='here'))[0]['probe_root'] == 'here'
    with pytest.raises(UserError, match='OnlineProbeHook: k=0: expected a whole number, 1 or more'):
        OnlineProbeHook(k=0)
    assert HOOKS.get('OnlineProbeHook') is OnlineProbeHook
