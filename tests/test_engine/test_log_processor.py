"""The lines that training logs, and the numbers beside them."""
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.logging import HistoryBuffer
from mmengine.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor

from coma_mm.engine import ComaRunner, ThroughputLogProcessor
from coma_mm.engine.log_processor import images

from .test_runs import log_of, make_cfg, train


def build(cfg):
    return ComaRunner.build_log_processor(object.__new__(ComaRunner), cfg)


@pytest.mark.parametrize('accumulation', [dict(), dict(accumulative_counts=2), dict(accumulative_counts='auto')])
def test_a_line_has_the_images_of_a_second_and_the_share_of_waiting(tmp_path, accumulation):
    auto = accumulation.get('accumulative_counts') == 'auto'
    cfg = make_cfg(tmp_path, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01), **accumulation),
                   default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
                   **(dict(auto_scale_lr=dict(base_batch_size=4)) if auto else {}))
    if not auto:  # else an update is of two batches of 2, and the epoch's last one of a single batch
        cfg.train_dataloader.batch_size = 4
    runner = train(cfg)
    lines = re.findall(r'Epoch\(train\) \[\d\]\[\d/2\]  lr: \S+  eta: \S+  \S+ images/s  data \d+%  loss: ', log_of(runner))
    entries = list(map(json.loads, Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()))
    assert len(lines) == len(entries) == 4
    for number, (entry, seen) in enumerate(zip(entries, (4, 6, 10, 12), strict=True), 1):
        assert entry['images_per_s'] * entry['time'] * number == pytest.approx(seen)
        assert entry['data_share'] == pytest.approx(entry['data_time'] / entry['time'])


class Loader:
    """Batches of 2, 2 and 1 on each of two processes."""
    sampler = range(5)

    def __len__(self):
        return 3


def test_all_processes_count_and_a_window_may_have_several_last_batches():
    runner = SimpleNamespace(train_dataloader=Loader(), images_per_update=8, iterations_per_update=2, world_size=2, iter=7)
    assert [images(runner, window) for window in (1, 2, 3, 8)] == [4, 8, 10, 28]
    runner.train_dataloader.sampler = object()  # without an end
    assert images(runner, 3) == 12


def test_names_with_a_mode_are_kept_and_no_line_is_of_validation():
    hub = SimpleNamespace(runtime_info={'validated': 2, 'val/note': 'a', 'eta': 1.}, log_scalars={})
    runner = SimpleNamespace(message_hub=hub)
    assert ThroughputLogProcessor()._collect_non_scalars(runner, 'val') == {'note': 'a'}
    assert ThroughputLogProcessor(log_with_hierarchy=True)._collect_non_scalars(runner, 'val') == {'val/note': 'a'}


def test_without_times_and_without_our_runner_the_line_is_mmengines():
    scalars = {'train/lr': HistoryBuffer([.1], [1]), 'train/loss': HistoryBuffer([2.], [1])}
    hub = SimpleNamespace(runtime_info={}, log_scalars=scalars)
    runner = SimpleNamespace(message_hub=hub, iter=0, epoch=0, max_iters=5, _train_loop=SimpleNamespace())
    tag, line = ThroughputLogProcessor(by_epoch=False).get_log_after_iter(runner, 0, 'train')
    assert line.startswith('Iter(train) [1/5]  lr: 1.0000e-01  loss: 2.0000') and 'images_per_s' not in tag


def test_a_processor_of_the_users_own_wins():
    @LOG_PROCESSORS.register_module(force=True)
    class Own(LogProcessor):
        pass

    assert type(build(dict(type='Own'))) is Own and type(build(LogProcessor())) is LogProcessor
    for cfg in (dict(), dict(type='LogProcessor', window_size=3), dict(type=LogProcessor, window_size=3)):
        assert type(build(cfg)) is ThroughputLogProcessor and build(cfg).window_size == cfg.get('window_size', 10)
