"""Focal loss on sigmoids and on a softmax, as https://arxiv.org/abs/1708.02002 defines it."""
from collections.abc import Callable

import torch
from torch import Tensor

from .precision import widen

_SMALLEST = torch.finfo(torch.float32).tiny
"""No probability below this goes into a logarithm."""


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Writes the loss of each sample and class into `output`.

    Args:
        input (Tensor): (N, C) logits.
        target (Tensor): (N, ), int64 classes; any outside [0, C) is of no class, as the background is.
        weight (Tensor): (C, ) factors for the samples of each class; empty for none.
        output (Tensor): (N, C), written to.
        gamma (float): how much less a sample counts that is classified well.
        alpha (float): weight of the target's class; the others have 1 - alpha.
    """
    logits, weight = widen(input, weight)
    p = logits.sigmoid()
    output.copy_(_by_target(
        -(1 - alpha) * p.pow(gamma) * _log(1 - p), lambda p: -alpha * (1 - p).pow(gamma) * _log(p), p, target, weight))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """Writes the derivative of each loss with respect to its logit into `grad_input`, (N, C).

    The other arguments are those of `sigmoid_focal_loss_forward`.
    """
    logits, weight = widen(input, weight)
    p = logits.sigmoid()
    grad_input.copy_(_by_target(
        -(1 - alpha) * p.pow(gamma) * (gamma * (1 - p) * _log(1 - p) - p),
        lambda p: -alpha * (1 - p).pow(gamma) * (1 - p - gamma * p * _log(p)), p, target, weight))


def softmax_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Writes the loss of each sample into `output`.

    Args:
        input (Tensor): (N, C) probabilities.
        target (Tensor): (N, ), int64 classes; a negative one has no loss.
        weight (Tensor): (C, ) factors for the samples of each class; empty for none.
        output (Tensor): (N, ), written to.
        gamma (float): how much less a sample counts that is classified well.
        alpha (float): weight of all losses.
    """
    p, factor = _of_target(input, target, weight)
    output.copy_(-alpha * (1 - p).pow(gamma) * _log(p) * factor)


def softmax_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor,
                                gamma: float, alpha: float) -> None:
    """Writes the derivative of each loss with respect to its logits, before the softmax, into `grad_input`, (N, C).

    `buff`, (N, ), is not needed; the other arguments are those of `softmax_focal_loss_forward`.
    """
    p, factor = _of_target(input, target, weight)
    # (1 - p) ** gamma is 0 at p = 1 and its derivative infinite where gamma < 1, but times log(1) = 0.
    slope = torch.where(p < 1, (1 - p).pow(gamma - 1), 0)
    of_p = alpha * factor * (gamma * slope * p * _log(p) - (1 - p).pow(gamma))
    probabilities, = widen(input)
    is_target = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(of_p[:, None] * (is_target.to(p.dtype) - probabilities))


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=_SMALLEST).log()


def _by_target(others: Tensor, of_target: Callable[[Tensor], Tensor], p: Tensor, target: Tensor,
               weight: Tensor) -> Tensor:
    # Most classes are not the target, so the other formula is computed for N values and not for N * C.
    if not others.numel():
        return others
    valid = (target >= 0) & (target < others.shape[1])
    index = target.where(valid, 0)[:, None]
    own = torch.where(valid[:, None], of_target(p.gather(1, index)), others.gather(1, index))
    found = others.scatter(1, index, own)
    if weight.numel():
        found = found * torch.where(valid[:, None], weight[index], 1)
    return found


def _of_target(input: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    # The probability of each sample's target, and the factor of its loss.
    probabilities, weight = widen(input, weight)
    valid = target >= 0
    index = target.where(valid, 0)
    factor = valid.to(probabilities.dtype)
    if weight.numel():
        factor = factor * weight[index]
    return probabilities.gather(1, index[:, None])[:, 0], factor
