"""Feature maps that nothing reads, in distributed training."""
import torch
from torch import distributed


class _ReadTogether(torch.autograd.Function):
    """The same tensors; whoever goes back through one of them goes back through all, with no gradient to bring."""

    @staticmethod
    def forward(ctx, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        # Not the tensors themselves: autograd would take them for views, which a head must not change in place.
        return tuple(one.detach() for one in tensors)

    @staticmethod
    def backward(ctx, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        return gradients


def read_together(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Let the backward pass reach what every one of some tensors was computed by, if it reaches one of them.

    `DistributedDataParallel` waits for each trained parameter, and stops at the second iteration if it waited in vain. A
    neck or head that reads fewer maps than a backbone gives (FPN from the second on, a segmenter's last map alone) leaves
    the norms of the others, and the stages after the last map that is read, without a gradient. Behind this function they
    have one of zeros there, which costs microseconds, where `find_unused_parameters` walks through the whole graph in every
    iteration. What is read gets the same gradient as without it.

    Args:
        *tensors (Tensor): Of any shapes.

    Returns:
        tuple[Tensor]: The same values; the very tensors except in distributed training.
    """
    if torch.compiler.is_compiling():  # then they are one step of the backward pass anyhow
        return tensors
    if not (torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized()):
        return tensors
    if sum(one.requires_grad for one in tensors) < 2:
        return tensors
    trained = iter(_ReadTogether.apply(*(one for one in tensors if one.requires_grad)))  # the others stay without
    return tuple(next(trained) if one.requires_grad else one for one in tensors)
