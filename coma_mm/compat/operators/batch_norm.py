"""The steps of mmcv's `MMSyncBN`, between which it sums over all processes itself."""
from torch import Tensor

from .precision import widen


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Writes the mean of each channel.

    Args:
        input (Tensor): (B, C, N).
        mean (Tensor): (C, ), float32, written to.
    """
    input, = widen(input)
    mean.copy_(input.mean((0, 2)))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Writes the mean square distance from `mean` of each channel into `var`, both (C, ) in float32."""
    input, = widen(input)
    var.copy_((input - mean[:, None]).square().mean((0, 2)))


def sync_bn_forward_output(input: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor,
                           running_var: Tensor, norm: Tensor, std: Tensor, output: Tensor, eps: float, momentum: float,
                           group_size: int) -> None:
    """Writes the normalised input, and brings the running statistics up to date.

    Args:
        input (Tensor): (B, C, N).
        mean (Tensor): (C, ), of all processes.
        var (Tensor): (C, ), biased, of all processes.
        weight (Tensor): (C, ) factors.
        bias (Tensor): (C, ) summands.
        running_mean (Tensor): (C, ), written to.
        running_var (Tensor): (C, ), unbiased, written to.
        norm (Tensor): (B, C, N), written to: the input without mean and scale.
        std (Tensor): (C, ), written to.
        output (Tensor): (B, C, N), written to.
        eps (float): added to the variance.
        momentum (float): the new statistics' share in the running ones.
        group_size (int): how many processes there are.
    """
    wide, = widen(input)
    std.copy_((var + eps).sqrt())
    norm.copy_((wide - mean[:, None]) / std[:, None])
    output.copy_(norm * weight[:, None] + bias[:, None])
    count = input.shape[0] * input.shape[2] * group_size
    unbiased = var * count / (count - 1) if count > 1 else var
    running_mean.copy_(momentum * mean + (1 - momentum) * running_mean)
    running_var.copy_(momentum * unbiased + (1 - momentum) * running_var)


def sync_bn_backward_param(grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor) -> None:
    """Writes the gradients with respect to weight and bias, (C, ), from those of the output, (B, C, N)."""
    grad_output, = widen(grad_output)
    grad_weight.copy_((grad_output * norm).sum((0, 2)))
    grad_bias.copy_(grad_output.sum((0, 2)))


def sync_bn_backward_data(grad_output: Tensor, weight: Tensor, grad_weight: Tensor, grad_bias: Tensor, norm: Tensor,
                          std: Tensor, grad_input: Tensor) -> None:
    """Writes the gradient with respect to the input, (B, C, N).

    Args:
        grad_output (Tensor): (B, C, N).
        weight (Tensor): (C, ).
        grad_weight (Tensor): (C, ), the mean over all processes.
        grad_bias (Tensor): (C, ), the mean over all processes.
        norm (Tensor): (B, C, N), of `sync_bn_forward_output`.
        std (Tensor): (C, ), of `sync_bn_forward_output`.
        grad_input (Tensor): (B, C, N), written to.
    """
    wide, = widen(grad_output)
    count = grad_output.shape[0] * grad_output.shape[2]
    shared = (grad_weight[:, None] * norm + grad_bias[:, None]) / count
    grad_input.copy_((wide - shared) * (weight / std)[:, None])
