import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, HOOKS

from coma_mm.engine import ComaRunner, EvaluationModelHook
from coma_mm.errors import UserError
from coma_mm.models import CoMA
from coma_mm.visualization.logs import read_scalars
from coma_mm.weights import load_weights_only

from ...helpers.small_models import model_settings, randomise, small_batch, small_coma


def start(model, iteration):
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), 0.1)
    runner = SimpleNamespace(model=model, iter=iteration, optim_wrapper=SimpleNamespace(optimizer=optimizer))
    HOOKS.build(dict(type='EvaluationModelHook')).before_train(runner)
    return optimizer


def equal(model):
    theirs = model.evaluation['backbone'].state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in model.backbone.state_dict().items())


def test_a_new_run_starts_equal():
    """Also one that has loaded weights into the adaptive model alone."""
    model = small_coma()
    randomise(model.backbone, seed=9)
    start(model, 0)
    assert equal(model)


def test_a_resumed_run_keeps_the_lag():
    model = small_coma()
    randomise(model.evaluation, seed=9)
    lagged = {name: value.clone() for name, value in model.evaluation.state_dict().items()}
    start(model, 7)
    assert all(torch.equal(value, lagged[name]) for name, value in model.evaluation.state_dict().items())


@pytest.mark.parametrize('complement', ['frozen', 'decoder', 'full', 'latent', 'none'])
def test_follows_the_optimizer(complement):
    model = small_coma(complement)
    optimizer = start(model, 0)
    for step in range(2):
        before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
        optimizer.zero_grad()
        model(**small_batch(seed=step), mode='loss')['loss'].backward()
        optimizer.step()
    assert not torch.equal(model.backbone.stem.weight, before['stem.weight'])
    if model.evaluation:
        assert torch.equal(model.evaluation['backbone'].stem.weight, before['stem.weight'])


# The complementary branch in some iterations only


@DATASETS.register_module()
class MaskedNoise(torch.utils.data.Dataset):
    """Eight masked images of 2×3 patches, of which 5 are masked: multiplied by 5/6, a mean over 5 is rounded otherwise."""

    def __getitem__(self, index):
        sample = {key: value[0] for key, value in small_batch(1, (2, 3), 0.8, index).items()}
        return dict(sample, inputs=sample['inputs'].mul(50).add(128).clamp(0, 255).byte())

    def __len__(self):
        return 8


class Losses(Hook):
    """What each iteration's loss consisted of."""

    def __init__(self):
        self.parts = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.parts[runner.iter] = sorted(outputs)


def run(tmp_path, interval, name, **changes):
    """Two epochs of four iterations of two images, with a checkpoint after each epoch; returns the hook."""
    cfg = Config(dict(dict(
        default_scope='mmpretrain', work_dir=str(tmp_path / name),
        model=dict(type='CoMA', **model_settings()), randomness=dict(seed=0),
        train_dataloader=dict(dataset=dict(type='MaskedNoise'), batch_size=2, collate_fn=dict(type='default_collate'),
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[dict(type='EvaluationModelHook', interval=interval)],
        log_processor=dict(mean_pattern=r'.*(loss|mse).*'),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           checkpoint=dict(type='CheckpointHook', interval=1))), **changes))
    runner, losses = ComaRunner.from_cfg(cfg), Losses()
    runner.register_hook(losses)
    runner.train()
    return losses


@pytest.fixture
def quiet():
    yield
    for name in list(MMLogger._instance_dict):
        logging.getLogger(name).handlers.clear()


ALONE = ['loss', 'mse_adaptive']
BOTH = ['loss', 'mse_adaptive', 'mse_evaluation']


def test_every_kth_iteration_in_a_run_and_when_it_is_resumed(tmp_path, quiet):
    whole = run(tmp_path, 3, 'whole')
    assert whole.parts == {i: BOTH if i in (0, 3, 6) else ALONE for i in range(8)}
    train, _ = read_scalars(tmp_path / 'whole')
    assert [entry['step'] for entry in train] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(set(BOTH) <= set(entry) for entry in train)
    evaluation = [entry['mse_evaluation'] for entry in train]
    assert evaluation == [evaluation[0]] * 3 + [evaluation[3]] * 3 + [evaluation[6]] * 2 and len(set(evaluation)) == 3

    checkpoint = str(tmp_path / 'whole' / 'epoch_1.pth')
    resumed = run(tmp_path, 3, 'resumed', resume=True, load_from=checkpoint)
    assert resumed.parts == {i: whole.parts[i] for i in range(4, 8)}
    ends = [load_weights_only(tmp_path / name / 'epoch_2.pth') for name in ('whole', 'resumed')]
    for name, value in ends[0]['state_dict'].items():
        assert torch.equal(value, ends[1]['state_dict'][name]), name


@pytest.mark.parametrize('setting', ['bf16', 'accumulated'])
def test_a_moving_average_whose_momentum_changes_is_resumed_to_the_bit(tmp_path, quiet, setting, monkeypatch):
    sync, momenta = CoMA.sync_evaluation, []
    monkeypatch.setattr(CoMA, 'sync_evaluation', lambda self, momentum=0., unless=None: (
        momenta.append(momentum), sync(self, momentum, unless))[1])
    model = dict(type='CoMA', complement='latent', momentum=0.5, end_momentum=0.9, **model_settings())
    whole = run(tmp_path, 1, 'whole', model=model, **SETTINGS[setting])
    assert whole.parts == {i: ['loss', 'mse_adaptive', 'mse_latent', 'target_std'] for i in range(len(whole.parts))}
    count = len(whole.parts)  # of updates: with 'auto' an iteration is one
    assert count == (4 if setting == 'accumulated' else 8)
    expected = momenta[-count:]
    assert expected == pytest.approx([0.5 + 0.4 * i / count for i in range(count)])
    checkpoint = str(tmp_path / 'whole' / 'epoch_1.pth')
    run(tmp_path, 1, 'resumed', resume=True, load_from=checkpoint, model=model, **SETTINGS[setting])
    assert momenta[-count // 2:] == expected[count // 2:]
    ends = [load_weights_only(tmp_path / name / 'epoch_2.pth')['state_dict'] for name in ('whole', 'resumed')]
    assert 'evaluation.backbone.stem.weight' in ends[0] and 'latent_head.predict.weight' in ends[0]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


SGD = dict(type='SGD', lr=0.01)
SETTINGS = dict(
    float32=dict(optim_wrapper=dict(optimizer=SGD)),
    bf16=dict(optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=dict(type='AdamW', lr=0.001, fused=True))),
    accumulated=dict(auto_scale_lr=dict(base_batch_size=4), optim_wrapper=dict(accumulative_counts='auto', optimizer=SGD)))


@pytest.mark.parametrize('setting', SETTINGS)
def test_the_interval_changes_no_bit_of_what_the_literal_reading_learns_at_its_share_of_the_cost(tmp_path, quiet, setting,
                                                                                                 monkeypatch):
    reconstruct, branches = CoMA.reconstruct, []
    monkeypatch.setattr(CoMA, 'reconstruct', lambda self, images, keep, branch=None, ids=None: (
        branches.append(branch is not None), reconstruct(self, images, keep, branch, ids))[1])
    ends, cost = [], []
    for interval in (1, 4):
        branches.clear()
        run(tmp_path, interval, f'{setting}{interval}', **SETTINGS[setting])
        ends.append(load_weights_only(tmp_path / f'{setting}{interval}' / 'epoch_2.pth')['state_dict'])
        cost.append(branches.count(True) / branches.count(False))
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name
    assert cost == [1, 1 / 4]


@pytest.mark.parametrize(('complement', 'refused'), [
    ('frozen', True), ('decoder', True), ('latent', True), ('full', False), ('none', False)])
def test_a_run_that_would_not_update_the_evaluation_model_is_refused(tmp_path, quiet, complement, refused):
    def start():
        model = dict(type='CoMA', complement=complement, **model_settings())
        return run(tmp_path, 1, complement, custom_hooks=[], model=model)

    if not refused:
        assert len(start().parts) == 8
        return
    with pytest.raises(UserError, match="evaluation model of CoMA: add dict.type='EvaluationModelHook'. to custom_hooks"):
        start()
    assert not list(tmp_path.rglob('*.pth')) and not list(tmp_path.rglob('scalars.json'))  # no iteration was done


@pytest.mark.parametrize(('complement', 'interval', 'warned'), [
    ('frozen', 3, False), ('full', 1, False), ('full', 3, True), ('decoder', 3, True)])
def test_a_complement_that_teaches_is_not_left_out_silently(tmp_path, quiet, complement, interval, warned):
    run(tmp_path, interval, complement, model=dict(type='CoMA', complement=complement, **model_settings()))
    log, = (tmp_path / complement).rglob('*.log')
    said = [line for line in log.read_text().splitlines() if 'EvaluationModelHook: complement=' in line]
    assert len(said) == warned
    assert all(f"complement={complement!r} teaches in one of {interval} iterations only" in line for line in said)


@pytest.mark.parametrize('interval', [0, -1, 1.5, '2'])
def test_no_interval(interval):
    with pytest.raises(UserError, match='expected a number of iterations, 1 or more'):
        EvaluationModelHook(interval)
