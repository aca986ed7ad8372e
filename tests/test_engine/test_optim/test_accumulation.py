"""Updates of a fixed number of images: the batches that make one must not show in anything but the memory."""
import logging
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

from coma_mm.engine import ComaRunner
from coma_mm.engine.hooks.checks import LabelCheckHook
from coma_mm.engine.optim.accumulation import batches_per_update
from coma_mm.errors import UserError

LINEAR = dict(type='LinearLR', start_factor=0.1, begin=0)
SCHEDULES = dict(
    iterations=dict(
        train_cfg=dict(by_epoch=False, max_iters=8, val_interval=4),
        param_scheduler=[
            dict(LINEAR, by_epoch=False, end=3),
            dict(type='PolyLR', power=0.9, eta_min=0.001, by_epoch=False, begin=3, end=8)
        ],
        sampler=dict(type='InfiniteSampler', shuffle=True)),
    epochs=dict(
        train_cfg=dict(by_epoch=True, max_epochs=3),
        param_scheduler=[
            dict(LINEAR, by_epoch=True, end=1, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=3, T_max=2)
        ]),
    iterations_then_epochs=dict(
        train_cfg=dict(by_epoch=True, max_epochs=3),
        param_scheduler=[
            dict(LINEAR, by_epoch=False, end=4),
            dict(type='MultiStepLR', by_epoch=True, milestones=[1, 2], gamma=0.5)
        ]),
)


@DATASETS.register_module()
class Points(Dataset):
    """Random points; each is the same whenever it is drawn."""

    def __init__(self, size):
        self.points = torch.randn(size, 3, generator=torch.Generator().manual_seed(0))

    def __getitem__(self, index):
        return dict(inputs=self.points[index])

    def __len__(self):
        return len(self.points)


@MODELS.register_module()
class Distance(BaseModel):
    """Its loss is a mean over samples."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=(self.layer(torch.stack(inputs)) - 1).square().mean())


@HOOKS.register_module()
class UpdateRecorder(Hook):
    """What happens at each update."""

    def before_train(self, runner):
        self.updates, self.losses = [], []
        runner.recorder = self

        def before_step(optimizer, args, kwargs):
            self.updates.append((runner.iter, optimizer.param_groups[0]['lr']))

        runner.optim_wrapper.optimizer.register_step_pre_hook(before_step)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'])


def run(folder, batch_size, schedule='iterations', size=24, drop_last=False, **changes):
    settings = dict(SCHEDULES[schedule])
    sampler = settings.pop('sampler', dict(type='DefaultSampler', shuffle=True))
    torch.manual_seed(5)
    runner = ComaRunner.from_cfg(Config(settings | dict(
        model=dict(type='Distance'), work_dir=str(folder), randomness=dict(seed=3),
        train_dataloader=dict(dataset=dict(type='Points', size=size), batch_size=batch_size, sampler=sampler,
                              drop_last=drop_last),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9), accumulative_counts='auto'),
        auto_scale_lr=dict(base_batch_size=4, enable=True),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=schedule != 'iterations', interval=2)),
        custom_hooks=[dict(type='UpdateRecorder'), dict(type='BatchSizeHook')]) | changes))
    runner.train()
    return runner


def assert_same(one, several):
    """Updates, learning rates, losses, weights and checkpoints."""
    assert one.recorder.updates == several.recorder.updates
    torch.testing.assert_close(one.recorder.losses, several.recorder.losses)
    torch.testing.assert_close(one.model.state_dict(), several.model.state_dict())
    names = [sorted(path.name for path in folder.glob('*.pth')) for folder in (one.folder, several.folder)]
    assert names[0] == names[1] != []


@pytest.mark.parametrize('size, drop_last', [(24, False), (22, False), (23, True)])
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_several_batches_are_one_of_their_size(tmp_path, schedule, size, drop_last):
    runs = []
    for batch_size in (4, 2, 1):
        runs.append(run(tmp_path / f'batch{batch_size}', batch_size, schedule, size, drop_last))
        runs[-1].folder = tmp_path / f'batch{batch_size}'
    assert_same(runs[0], runs[1])
    assert_same(runs[0], runs[2])
    iters = [iteration for iteration, _ in runs[0].recorder.updates]
    length = 8 if schedule == 'iterations' else 3 * (size // 4 if drop_last else -(-size // 4))
    assert iters == list(range(length))


def test_a_run_of_fewer_updates_than_batches_in_one(tmp_path):
    loop = dict(by_epoch=False, max_iters=2)
    one, four = (run(tmp_path / str(batch_size), batch_size, train_cfg=loop) for batch_size in (4, 1))
    assert len(one.recorder.updates) == len(four.recorder.updates) == 2
    torch.testing.assert_close(one.model.state_dict(), four.model.state_dict())


def test_the_schedule_is_the_one_in_the_config(tmp_path):
    rates = [rate for _, rate in run(tmp_path / 'run', 1).recorder.updates]
    poly = [0.001 + (0.1 - 0.001) * (1 - step / 4)**0.9 for step in range(5)]  # from its first to its last update
    assert rates == pytest.approx([0.01, 0.055, 0.1, *poly])


def test_a_run_goes_on_with_another_number_of_batches(tmp_path):
    whole = run(tmp_path / 'whole', 4)
    for batch_size in (2, 1):
        folder = tmp_path / f'part{batch_size}'
        part = run(folder, batch_size, load_from=str(tmp_path / 'whole' / 'iter_2.pth'), resume=True)
        assert part.recorder.updates == whole.recorder.updates[2:]
        torch.testing.assert_close(part.model.state_dict(), whole.model.state_dict())
        assert 'gradient of some iterations is lost' not in next(folder.rglob('*.log')).read_text()


def test_the_batch_is_told_and_the_dumped_config_keeps_auto(tmp_path):
    runner = run(tmp_path / 'run', 2)
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert '4 images per update: 1 process × 2 images × 2 batches (one iteration)' in log
    assert runner.images_per_update == 4 and 'is not divisible' not in log and 'updates see fewer' not in log
    assert "accumulative_counts='auto'" in runner.cfg.pretty_text
    assert 'Learning rate scaled from 0.1 to 0.1' in log
    run(tmp_path / 'small', 1, size=3)
    log = next((tmp_path / 'small').rglob('*.log')).read_text()
    assert 'accumulative_counts=4 is more than the 3 batches of an epoch: updates see fewer images' in log


def test_a_data_set_smaller_than_an_update_is_named(tmp_path):
    with pytest.raises(UserError, match='of 3 samples .* gives no update of 4 images with drop_last=True'):
        run(tmp_path / 'run', 1, size=3, drop_last=True)


@pytest.mark.parametrize('batch_size, size, base, expected', [
    (2, 7, 16, 'at most 6 images .--cfg-options auto_scale_lr.base_batch_size=6 '),
    (4, 6, 8, 'at most 6 images .--cfg-options train_dataloader.batch_size=3 auto_scale_lr.base_batch_size=6 '),
    (4, 3, 8, 'at most 3 images .--cfg-options train_dataloader.batch_size=3 auto_scale_lr.base_batch_size=3 '
              r'optim_wrapper.optimizer.lr=0.0375\), by which the learning rate, 0.1 for 8, is scaled by 3/8, or more data'),
    (4, 3, 4, 'of batch_size=4 .* at most 3 images .--cfg-options train_dataloader.batch_size=3 auto')])
def test_the_largest_update_that_the_data_have_is_named_and_runs(tmp_path, batch_size, size, base, expected):
    """A smaller batch_size alone would not help: an update keeps its number of images."""
    changes = dict(size=size, drop_last=True, schedule='epochs', auto_scale_lr=dict(base_batch_size=base))
    with pytest.raises(UserError, match=expected) as caught:
        run(tmp_path / 'refused', batch_size, **changes)
    options = dict(one.split('=') for one in re.search(r'--cfg-options (.*?)\)', str(caught.value))[1].split())
    images = int(options['auto_scale_lr.base_batch_size'])
    changes['auto_scale_lr'] = dict(base_batch_size=images)
    optimizer = dict(type='SGD', lr=float(options['optim_wrapper.optimizer.lr']))
    assert optimizer['lr'] == pytest.approx(0.1 * images / base, rel=0.01)
    runner = run(tmp_path / 'run', int(options.get('train_dataloader.batch_size', batch_size)), **changes,
                 optim_wrapper=dict(optimizer=optimizer, accumulative_counts='auto'))
    assert runner.images_per_update == images and len(runner.recorder.updates) == 3


def test_without_auto_the_batch_is_what_helps(tmp_path):
    plain = dict(optimizer=dict(type='SGD', lr=0.1))
    for enable, expected in ((True, r'train_dataloader.batch_size=3\), or more'), (False, r'\), with --auto-scale-lr')):
        with pytest.raises(UserError, match=f'of 3 samples .* at most 3 images .*{expected}'):
            run(tmp_path / str(enable), 4, size=3, drop_last=True, optim_wrapper=plain,
                auto_scale_lr=dict(base_batch_size=4, enable=enable))


def config(base, batch_size):
    return Config(dict(optim_wrapper=dict(accumulative_counts='auto'), auto_scale_lr=dict(base_batch_size=base),
                       train_dataloader=dict(batch_size=batch_size)))


@given(base=st.integers(1, 5000), processes=st.integers(1, 64), batch_size=st.integers(1, 600))
def test_the_update_has_the_size_asked_for_or_sizes_that_work_are_named(base, processes, batch_size):
    try:
        assert processes * batch_size * batches_per_update(config(base, batch_size), processes) == base
    except UserError as error:
        assert base % (processes * batch_size)
        hint = str(error).rpartition('; ')[2]
        named = [int(number) for number in re.findall(r'\d+', hint)]
        assert named
        for number in named:
            batch_sizes, n = (1, number) if 'number of processes' in hint else (number, processes)
            assert n * batch_sizes * batches_per_update(config(base, batch_sizes), n) == base


@pytest.mark.parametrize('base, processes, batch_size, expected', [
    (4096, 4, 96, '4 processes × train_dataloader.batch_size=96 cannot share out the 4096 images of one update '
                  '(auto_scale_lr.base_batch_size); take a batch_size of 64 or 32 or 16'),
    (16, 1, 512, '1 process × train_dataloader.batch_size=512 .*; take a batch_size of 16 or 8 or 4$'),
    (4096, 6, 64, 'nor would any other batch_size; take another number of processes, for instance 4$'),
    (None, 1, 4, r'needs auto_scale_lr=dict\(base_batch_size=...\) in the config'),
])
def test_errors_name_the_numbers(base, processes, batch_size, expected):
    with pytest.raises(UserError, match=expected.replace('(auto_scale_lr.base', r'\(auto_scale_lr.base').replace(
            'size);', r'size\);')):
        batches_per_update(config(base, batch_size), processes)


def test_labels_of_all_batches_are_checked():
    from mmpretrain.structures import DataSample
    hook = LabelCheckHook()
    hook.num_classes, hook.ignored = 2, 255
    batches = [dict(data_samples=[DataSample().set_gt_label(label)]) for label in (0, 7)]
    with pytest.raises(UserError, match='class id 7'):
        hook.before_train_iter(None, 0, batches)


def test_hooks_reach_the_loader_itself(tmp_path):
    loader = run(tmp_path / 'run', 2).train_dataloader
    loader._iterator = 'restarted'  # as mmdetection's PipelineSwitchHook does
    assert loader.loader._iterator == 'restarted' and loader.batch_size == 4
    assert loader.dataset is loader.loader.dataset


@pytest.fixture(autouse=True)
def quiet():
    yield
    for name in list(MMLogger._instance_dict):
        logging.getLogger(name).handlers.clear()
