"""What the maps of a segmentation hold is said after the first batches, and maps of nothing end the run."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from coma_mm.engine.hooks.pixels import PixelHook
from coma_mm.errors import SharedError

CLASSES = ('disc', 'box', 'bar')


@pytest.fixture
def said(monkeypatch):
    """The lines that were logged, each with its level."""
    lines = []
    monkeypatch.setattr('coma_mm.engine.hooks.pixels.print_log', lambda line, logger, level=20: lines.append((level, line)))
    return lines


@pytest.fixture
def batch(tmp_path):
    """Makes a batch of the labels in a 2×2 px map, whose file holds other values."""

    def make(labels, values=None, reduce_zero_label=False):
        path = str(tmp_path / 'map.png')
        Image.fromarray(np.reshape(labels if values is None else values, (2, 2)).astype(np.uint8)).save(path)
        sample = SegDataSample(gt_sem_seg=PixelData(data=torch.tensor(labels).reshape(1, 2, 2)), metainfo=dict(
            seg_map_path=path, reduce_zero_label=reduce_zero_label))
        return dict(data_samples=[sample, sample])

    return make


def run(hook, batches, classes=CLASSES, head=True):
    """Run the hook's part of an epoch."""
    model = nn.Module()
    if head:
        model.decode_head = SimpleNamespace(num_classes=len(classes), ignore_index=255)
    runner = SimpleNamespace(model=model, iter=0, train_dataloader=SimpleNamespace(dataset=SimpleNamespace(
        metainfo=dict(classes=classes))))
    hook.before_train(runner)
    for runner.iter, one in enumerate(batches):
        hook.before_train_iter(runner, runner.iter, one)
    hook.after_train_epoch(runner)


def test_shares_of_the_first_batches_are_said_once(batch, said):
    run(PixelHook(2), [batch([0, 0, 1, 255]), [batch([0, 0, 0, 1]), batch([1, 0, 0, 0])], batch([2, 2, 2, 2])])
    assert said == [(20, 'pixels of the first 3 batches (6 images): disc 66.7 %, box 25 %; without a class 8.33 %; no '
                         'pixel of 1 class: bar')]
    said.clear()
    run(PixelHook(), [batch([0, 0, 1, 2])])
    assert said == [(20, 'pixels of the first 1 batch (2 images): disc 50 %, box 25 %, bar 25 %')]
    said.clear()
    run(PixelHook(), [batch([0, 1, 2, 3]), batch([4, 5, 6, 7]), batch([8, 9, 10, 10])], [f'c{i}' for i in range(20)])
    assert said[0][1].endswith(
        'c0 8.33 %, c1 8.33 %, c2 8.33 %, c3 8.33 %, c4 8.33 %, c5 8.33 %, c6 8.33 % and 3 more; no pixel of 9 classes: '
        'c11, c12, c13 and 6 more')


def test_a_batch_without_a_class_is_named_once(batch, said):
    empty = batch([255, 255, 255, 255])
    run(PixelHook(), [empty, batch([0, 1, 2, 2]), empty])
    (level, line), (_, shares) = said
    assert level == 30 and line.startswith('no pixel in the batch of iteration 1 has a class') and 'map.png' in line
    assert 'without a class 66.7 %' in shares


@pytest.mark.parametrize('values, reduced, expected', [
    ([255, 255, 255, 255], False, r'the maps hold 255 \(.*map.png\); write 1 in place of 255'),
    ([0, 0, 255, 255], True, r'the maps hold 0, 255 \(.*\); set reduce_zero_label=False, and write 1 in place of 255'),
    ([0, 0, 0, 0], True, r'the maps hold 0 \(.*\); expected class ids of 1 to 3, as reduce_zero_label=True makes'),
    ([254, 255, 255, 255], False, 'the maps hold 254, 255 .*; expected class ids of 0 to 2'),
])
def test_maps_without_a_class_end_the_run(batch, said, values, reduced, expected):
    one = batch([255] * 4, values, reduced)
    with pytest.raises(SharedError, match=r'no pixel of the first 4 batches \(8 images\) has a class, .*' + expected):
        run(PixelHook(4), [one] * 9)
    with pytest.raises(SharedError, match='first 2 batches'):  # an epoch is shorter
        run(PixelHook(4), [one] * 2)


def test_binary_maps_of_0_and_255_have_a_remedy(batch, said):
    run(PixelHook(), [batch([0, 0, 255, 255])], ('background', 'thing'))
    (_, shares), (level, line) = said
    assert 'background 50 %; without a class 50 %; no pixel of 1 class: thing' in shares
    assert level == 30 and 'the maps hold 0 and 255 alone' in line and 'MapClassIds' in line
    said.clear()
    run(PixelHook(), [batch([0, 0, 0, 255], [0, 0, 0, 7])], ('background', 'thing'))  # padded, or of other values
    run(PixelHook(), [batch([0, 1, 0, 255])], ('background', 'thing'))
    assert [level for level, _ in said] == [20, 20]


def test_the_last_class_may_be_missing_because_maps_count_from_0(batch, said):
    note = ' (reduce_zero_label=True: 0 in a map is no class, 1 is disc)'
    for labels, reduced in (([0, 1, 1, 255], True), ([0, 1, 1, 255], False), ([0, 1, 2, 2], True)):
        run(PixelHook(), [batch(labels, reduce_zero_label=reduced)])
        assert said.pop()[1].endswith(note) == (reduced and 2 not in labels)


def test_other_models_are_left_alone(batch, said):
    run(PixelHook(), [batch([0, 0, 1, 2])], head=False)
    run(PixelHook(), [dict(data_samples=[SegDataSample()]), dict()])
    assert not said
