"""What was skipped so far is reported, once for each number."""
from types import SimpleNamespace

import numpy as np

from coma_mm.engine.hooks import checks


def test_samples_without_data_are_reported_beside_unreadable_ones(monkeypatch):
    lines, bad, empty = [], np.zeros(5, np.uint8), np.zeros(5, np.uint8)
    monkeypatch.setattr(checks, 'print_log', lambda line, **_: lines.append(line))
    dataset = SimpleNamespace(bad_images=lambda: bad, without_data=lambda: empty)
    runner, hook = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset)), checks.BadImageHook()
    for flags, index in (bad, None), (empty, 3), (empty, 3), (empty, 1), (bad, 0):
        flags[[] if index is None else index] = 1
        hook.after_train_epoch(runner)
    assert lines == [f'{count} images had no data in a sample so far, and others were taken in its place, of 5' for count in
                     (1, 2)] + ['1 unreadable images skipped so far, of 5']
    del dataset.without_data
    hook.after_train_epoch(SimpleNamespace(train_dataloader=SimpleNamespace(dataset=SimpleNamespace())))
