"""Focal losses against the values in mmcv's own tests and against the definition, one number at a time."""
import math

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss

from ...helpers import operators as reference
from ...helpers.operators import DEVICES, HALVES

# logits, classes; then mean loss and gradients with gamma 2 and alpha 0.25, from mmcv's tests/test_ops/test_focal_loss.py
INPUTS = [([[1., 0], [0, 1.]], [0, 1]), ([[1., 0, -1.], [0, 1., 2.]], [2, 1])]
PUBLISHED = {
    softmax_focal_loss: [(0.00566451, [[-0.00657264, 0.00657264], [0.00657264, -0.00657264]]),
                         (0.34956908, [[0.10165970, 0.03739851, -0.13905823], [0.01227554, -0.10298023, 0.09070466]])],
    sigmoid_focal_loss: [(0.13562961, [[-0.00657264, 0.11185755], [0.11185755, -0.00657264]]),
                         (1.10251057, [[0.28808805, 0.11185755, -0.09602935], [0.11185755, -0.00657264, 0.40376765]])],
}


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('loss', PUBLISHED)
def test_losses_have_mmcvs_published_values(loss, device):
    for (logits, target), (expected, gradient) in zip(INPUTS, PUBLISHED[loss], strict=True):
        logits = torch.tensor(logits, device=device, requires_grad=True)
        found = loss(logits, torch.tensor(target, device=device), 2.0, 0.25, None, 'mean')
        found.backward()
        torch.testing.assert_close(found.item(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(logits.grad.cpu(), torch.tensor(gradient), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('gamma', [0., 0.5, 2.])
@pytest.mark.parametrize('weight', [None, [0.5, 2., 1.]])
def test_sigmoid_focal_loss_is_its_definition(device, gamma, weight):
    logits = 3 * torch.randn(5, 3, dtype=torch.float64)
    target = [0, 2, 1, 1, 0] if weight else [0, 3, 1, -1, 2]  # 3 and -1 are the background, which has no weight
    factors = weight and torch.tensor(weight, dtype=torch.float64, device=device)
    found = sigmoid_focal_loss(logits.to(device), torch.tensor(target, device=device), gamma, 0.25, factors, 'none')
    torch.testing.assert_close(found.cpu(), torch.tensor(reference.focal(logits.tolist(), target, gamma, 0.25, weight),
                                                         dtype=torch.float64))


@pytest.mark.parametrize('device', DEVICES)
def test_softmax_focal_loss_is_its_definition(device):
    logits, target, weight = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, -1, 1]), torch.tensor([1., 2., .5])
    p = F.softmax(logits, 1)
    expected = [-weight[t] * 0.25 * (1 - p[i, t])**2 * p[i, t].log() if t >= 0 else torch.zeros(()).double()
                for i, t in enumerate(target)]
    found = softmax_focal_loss(logits.to(device), target.to(device), 2., 0.25, weight.double().to(device), 'none')
    torch.testing.assert_close(found.cpu(), torch.stack(expected))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('loss', PUBLISHED)
@pytest.mark.parametrize('gamma', [0.5, 2.])
def test_gradients_are_those_of_the_losses(loss, gamma, device):
    logits = torch.randn(4, 3, dtype=torch.float64, device=device, requires_grad=True)
    weight = torch.rand(3, dtype=torch.float64, device=device)
    target = torch.tensor([0, 2, 1, 2], device=device)
    for factors in (None, weight):
        assert torch.autograd.gradcheck(lambda x, w=factors: loss(x, target, gamma, 0.25, w, 'sum'), logits)


@pytest.mark.parametrize('loss', PUBLISHED)
def test_the_surest_and_the_most_wrong_samples_have_finite_losses(loss):
    logits = torch.tensor([[200., -200.], [-200., 200.]], requires_grad=True)
    # As in mmcv, no probability below the smallest float32 goes into the logarithm.
    largest = -math.log(torch.finfo(torch.float32).tiny)
    for gamma in (0.5, 2.):
        found = loss(logits, torch.tensor([0, 0]), gamma, 0.25, None, 'none')
        found.sum().backward()
        share = 0.75 if loss is sigmoid_focal_loss else 0.25  # the worst one is a class that is not the target
        assert found.max().item() == pytest.approx(share * largest, 1e-5)
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_is_rounded_once(dtype, device):
    logits = torch.randn(6, 4, device=device).to(dtype).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    target = torch.arange(6, device=device) % 5
    for x in (logits, exact):
        x.found = sigmoid_focal_loss(x, target, 2., 0.25, None, 'none')
        x.found.backward(torch.ones_like(x))
    assert logits.found.dtype == dtype
    torch.testing.assert_close(logits.found, exact.found.to(dtype))
    torch.testing.assert_close(logits.grad, exact.grad.to(dtype))


@pytest.mark.parametrize('loss', PUBLISHED)
def test_losses_compile_without_a_break(loss):
    logits, target = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    compiled = torch.compile(lambda x, t: loss(x, t, 2., 0.25, None, 'mean'), backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target, 2., 0.25, None, 'mean'))


def test_no_samples_and_no_classes():
    for loss in PUBLISHED:
        logits = torch.zeros(0, 3, requires_grad=True)
        loss(logits, torch.zeros(0, dtype=torch.long), 2., 0.25, None, 'sum').backward()
        assert logits.grad.shape == (0, 3)
    assert sigmoid_focal_loss(torch.zeros(2, 0), torch.zeros(2, dtype=torch.long), 2., 0.25, None, 'none').shape == (2, 0)
