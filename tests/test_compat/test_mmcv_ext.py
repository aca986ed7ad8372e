"""The torchvision-backed `mmcv._ext` against literal references, through `mmcv.ops`."""
import re

import mmcv.ops
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mmcv import _ext
from torch import nn

from coma_mm.errors import UserError

from ..helpers import operators as reference
from ..helpers.operators import DEVICES

pytestmark = pytest.mark.skipif(
    not _ext.__file__.endswith('.py'), reason='mmcv has compiled operators, which coma_mm leaves alone')
# Multiples of 1/4, exact in float16 and bfloat16 too; from outside to outside of a 16 px image.
coordinates = st.integers(-32, 96).map(lambda i: i / 4)


@st.composite
def scored_boxes(draw, max_size=12):
    """(N, 4) boxes, possibly of no width or height, and (N, ) scores without ties."""
    corners = draw(st.lists(st.tuples(*[coordinates] * 4), max_size=max_size))
    boxes = torch.tensor([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]).reshape(-1, 4)
    scores = torch.tensor(draw(st.permutations(range(1, len(corners) + 1))), dtype=torch.float32) / 64
    return boxes, scores


@st.composite
def feature_rois(draw):
    """(2, 3, H, W) float64 features and (N, 5) RoIs, some of them outside the image."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    boxes, _ = draw(scored_boxes(max_size=3))
    index = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=len(boxes), max_size=len(boxes)))).reshape(-1, 1)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    features = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)
    return features, torch.cat([index.double(), boxes.double()], dim=1)


@pytest.mark.parametrize('device', DEVICES)
@given(scored_boxes(), st.sampled_from([0.1, 0.3, 0.51, 0.71]), st.sampled_from([0, 1]))
def test_nms(device, boxes_and_scores, iou_threshold, offset):
    boxes, scores = boxes_and_scores
    dets, kept = mmcv.ops.nms(boxes.to(device), scores.to(device), iou_threshold, offset)
    assert kept.tolist() == reference.nms(boxes.tolist(), scores.tolist(), iou_threshold, offset)
    assert torch.equal(dets.cpu(), torch.cat([boxes, scores[:, None]], 1)[kept.cpu()])


def test_nms_offset_decides():
    # IoU of two 3 px boxes, 1 px apart: 6 / 12 with offset 0, 12 / 20 with offset 1.
    boxes, scores = torch.tensor([[0., 0., 3., 3.], [1., 0., 4., 3.]]), torch.tensor([0.9, 0.8])
    assert mmcv.ops.nms(boxes, scores, 0.55, offset=0)[1].tolist() == [0, 1]
    assert mmcv.ops.nms(boxes, scores, 0.55, offset=1)[1].tolist() == [0]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@given(scored_boxes(), st.sampled_from([0, 1]))
def test_nms_half_precision(device, dtype, boxes_and_scores, offset):
    # Coordinates and scores are exact in both types, so the choice must be that of float32.
    boxes, scores = boxes_and_scores
    dets, kept = mmcv.ops.nms(boxes.to(device, dtype), scores.to(device, dtype), 0.3, offset)
    assert dets.dtype == dtype
    assert kept.tolist() == reference.nms(boxes.tolist(), scores.tolist(), 0.3, offset)


@given(scored_boxes(), st.booleans(), st.randoms(use_true_random=False))
def test_batched_nms(boxes_and_scores, class_agnostic, random):
    # mmcv moves each class by the largest coordinate, which parts them where none is negative; it takes no empty input.
    boxes, scores = boxes_and_scores
    boxes = boxes.clamp(min=0)
    assume(len(boxes))
    labels = torch.tensor([random.randrange(3) for _ in boxes], dtype=torch.long)
    cfg = dict(type='nms', iou_threshold=0.3, class_agnostic=class_agnostic)
    _, kept = mmcv.ops.batched_nms(boxes, scores, labels, cfg)
    groups = [list(range(len(boxes)))] if class_agnostic else [(labels == c).nonzero()[:, 0].tolist() for c in range(3)]
    expected = [group[i] for group in groups
                for i in reference.nms(boxes[group].tolist(), scores[group].tolist(), 0.3, 0)]
    assert kept.tolist() == sorted(expected, key=lambda i: -scores[i])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@given(feature_rois(), st.sampled_from([(1, 1), (2, 3)]), st.sampled_from([1., 0.25]))
def test_roi_align(device, aligned, sampling_ratio, features_and_rois, output_size, spatial_scale):
    features, rois = features_and_rois
    features, ours = features.requires_grad_(), features.detach().to(device).requires_grad_()
    expected = reference.roi_align(features, rois, output_size, spatial_scale, sampling_ratio, aligned)
    output = mmcv.ops.roi_align(ours, rois.to(device), output_size, spatial_scale, sampling_ratio, 'avg', aligned)
    torch.testing.assert_close(output.cpu(), expected)

    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).reshape(expected.shape)
    (output * weights.to(device)).sum().backward()
    expected_grad = torch.zeros_like(features)
    if expected.requires_grad:  # Some sample lies inside the image.
        expected_grad, = torch.autograd.grad((expected * weights).sum(), features)
    torch.testing.assert_close(ours.grad.cpu(), expected_grad)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@given(feature_rois())
def test_roi_align_half_precision(device, dtype, features_and_rois):
    features, rois = features_and_rois
    features = features.to(device, dtype).requires_grad_()
    output = mmcv.ops.roi_align(features, rois.to(device, dtype), (2, 2), 0.25, 2, 'avg', True)
    output.backward(torch.ones_like(output))
    exact = features.detach().double().requires_grad_()
    expected = mmcv.ops.roi_align(exact, rois.to(device), (2, 2), 0.25, 2, 'avg', True)
    expected.backward(torch.ones_like(expected))
    # Rounded once, at the end: as close as the type allows.
    assert output.dtype == features.grad.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype))
    torch.testing.assert_close(features.grad, exact.grad.to(dtype))


def test_roi_align_module_as_mmdet_builds_it():
    layer = mmcv.ops.RoIAlign(output_size=7, spatial_scale=1 / 4, sampling_ratio=0)
    output = layer(torch.ones(1, 2, 16, 16), torch.tensor([[0., 8., 8., 40., 40.]]))
    assert torch.equal(output, torch.ones(1, 2, 7, 7))


def test_empty_input():
    dets, kept = mmcv.ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5) and kept.shape == (0, ) and kept.dtype == torch.long
    features = torch.randn(1, 2, 4, 4, requires_grad=True)
    output = mmcv.ops.roi_align(features, torch.zeros(0, 5), (3, 3), 1., 0, 'avg', True)
    output.sum().backward()
    assert output.shape == (0, 2, 3, 3)
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_other_operators_name_themselves_and_the_remedy():
    for error in (NotImplementedError, UserError):
        with pytest.raises(error, match=r'^mmcv operator nms_rotated .* PyTorch 2\.13 \(docs/install\.md, [^\n]*$'):
            mmcv.ops.nms_rotated(torch.zeros(1, 5), torch.zeros(1), 0.5)
    assert not hasattr(_ext, '__wrapped__')


@pytest.mark.parametrize('name', ['TINShift', 'RoIAlignRotated', 'BorderAlign'])
def test_a_model_that_needs_an_absent_operator_is_refused_when_it_is_built(name):
    operator = re.sub('(?<=.)(?=[A-Z])', '_', name.replace('TIN', 'Tin').replace('RoI', 'Roi')).lower() + '_forward'
    with pytest.raises(UserError, match=f'^mmcv operator {operator} is not available'):
        getattr(mmcv.ops, name)(3)
    with pytest.raises(UserError, match=f'mmcv operator {operator} is not available'):
        nn.Sequential(nn.Identity(), getattr(mmcv.ops, name)(1, 2, 3))


@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
@given(scored_boxes(), scored_boxes(), st.sampled_from([0, 1]))
def test_bbox_overlaps(aligned, mode, first, second, offset):
    boxes, others = first[0], (first[0].flip(0) if aligned else second[0])
    assume(len(boxes) and len(others))
    found = mmcv.ops.bbox_overlaps(boxes, others, mode, aligned, offset)
    for i, box in enumerate(boxes.tolist()):
        for j, other in [(i, others[i].tolist())] if aligned else enumerate(others.tolist()):
            one = found[i] if aligned else found[i, j]
            width, height = (min(box[k + 2], other[k + 2]) - max(box[k], other[k]) + offset for k in (0, 1))
            area, area2 = ((b[2] - b[0] + offset) * (b[3] - b[1] + offset) for b in (box, other))
            shared = max(width, 0) * max(height, 0)
            whole = max(area + area2 - shared if mode == 'iou' else area, offset)
            assert one == pytest.approx(shared / whole, 1e-5) if whole else one.isnan()
