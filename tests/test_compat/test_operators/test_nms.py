"""Soft NMS and NMS with its groups against the values in mmcv's own tests and against plain loops."""
import mmcv.ops
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ...helpers import operators as reference
from ...helpers.operators import DEVICES

# From mmcv's tests/test_ops/test_nms.py; IoU threshold 0.3, sigma 0.5, least score 0.01.
BOXES = [[6., 3., 8., 7.], [3., 6., 9., 11.], [3., 7., 10., 12.], [1., 4., 13., 7.]]
SCORES = [0.6, 0.9, 0.7, 0.2]
PUBLISHED = dict(linear=([1, 0, 2, 3], [0.9, 0.6, 0.29024392, 0.2]),
                 gaussian=([1, 0, 2, 3], [0.9, 0.59630775, 0.35275510, 0.18650459]),
                 naive=([1, 0, 3], [0.9, 0.6, 0.2]))
# Few distinct boxes and scores, for many ties.
rows = st.lists(st.tuples(*map(st.sampled_from, ([0., 1., 2.], [0., 2.], [.25, .5, .75, 1.]))), max_size=12)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('method', PUBLISHED)
def test_soft_nms_has_mmcvs_published_values(method, device):
    boxes, scores = torch.tensor(BOXES, device=device), torch.tensor(SCORES, device=device)
    dets, index = mmcv.ops.soft_nms(boxes, scores, 0.3, 0.5, 0.01, method)
    expected, lowered = PUBLISHED[method]
    assert index.tolist() == expected and dets.device == boxes.device
    kept = [[*BOXES[i], score] for i, score in zip(expected, lowered, strict=True)]
    torch.testing.assert_close(dets.cpu(), torch.tensor(kept))
    assert scores.tolist() == torch.tensor(SCORES).tolist() and boxes.tolist() == BOXES  # they are not written to


@pytest.mark.parametrize('method', PUBLISHED)
@given(rows, st.sampled_from([0., 0.3]), st.sampled_from([0, 1]))
def test_soft_nms_is_mmcvs_loop_with_its_order_of_ties(method, drawn, min_score, offset):
    boxes = [[x, y, x + 3, y + 3] for x, y, _ in drawn]
    scores = [score for *_, score in drawn]
    dets, index = mmcv.ops.soft_nms(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
                                    torch.tensor(scores, dtype=torch.float64), 0.4, 0.5, min_score, method, offset)
    expected = reference.soft_nms(boxes, scores, 0.4, 0.5, min_score, method, offset)
    assert index.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(dets, torch.tensor([[*boxes[i], score] for i, score in expected],
                                                  dtype=torch.float64).reshape(-1, 5))


def test_soft_nms_takes_arrays_and_tensors_with_gradients():
    dets, index = mmcv.ops.soft_nms(np.array(BOXES, np.float32), np.array(SCORES, np.float32), 0.3, min_score=0.01)
    assert isinstance(dets, np.ndarray) and index.tolist() == PUBLISHED['linear'][0]
    boxes, scores = torch.tensor(BOXES, requires_grad=True), torch.tensor(SCORES, requires_grad=True)
    assert mmcv.ops.soft_nms(boxes, scores, 0.3, min_score=0.01)[1].tolist() == PUBLISHED['linear'][0]
    cfg = dict(type='soft_nms', iou_threshold=0.3, min_score=0.01)
    kept, _ = mmcv.ops.batched_nms(torch.tensor(BOXES), torch.tensor(SCORES), torch.tensor([0, 0, 1, 1]), cfg)
    # In classes of their own, no two boxes are in each other's way.
    torch.testing.assert_close(kept[:, 4], torch.tensor([0.9, 0.7, 0.6, 0.2]))


@given(rows, st.sampled_from([0.2, 0.4]))
def test_nms_match_groups_what_a_box_suppresses(drawn, threshold):
    boxes = [[x, y, x + 3, y + 3] for x, y, _ in drawn]
    dets = torch.tensor([[*box, score] for box, (*_, score) in zip(boxes, drawn, strict=True)]).reshape(-1, 5)
    left, expected = sorted(range(len(boxes)), key=lambda i: -drawn[i][2]), []
    while left:
        group = [left[0], *(i for i in left[1:] if reference.iou(boxes[left[0]], boxes[i], 0) >= threshold)]
        expected.append(group)
        left = [i for i in left if i not in group]
    assert [group.tolist() for group in mmcv.ops.nms_match(dets, threshold)] == expected


def test_nms_match_has_mmcvs_published_values():
    dets = np.array([[49.1, 32.4, 51.0, 35.9, 0.9], [49.3, 32.9, 51.0, 35.3, 0.9], [35.3, 11.5, 39.9, 14.5, 0.4],
                     [35.2, 11.7, 39.7, 15.7, 0.3]], dtype=np.float32)
    assert [group.tolist() for group in mmcv.ops.nms_match(dets, 0.6)] == [[0, 1], [2, 3]]
