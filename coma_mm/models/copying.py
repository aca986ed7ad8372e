"""Copies to a GPU that do not wait for what it computes."""
from collections.abc import Callable
from functools import cache

import torch


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def copied_ahead(copy: Callable[[dict], dict], batch: dict, device: torch.device) -> dict:
    """Copy a batch to a device, on a GPU beside what it still computes for the batch before.

    A training step waits for no result, so its batch is there while the GPU is busy with the step before. On the stream of
    the computing the copy would start only after that; on one of its own it starts at once, and what follows waits for it
    alone. So a batch is copied ahead without being fetched ahead: the loader, and what resumes from it, see no difference.

    Args:
        copy (Callable): From a batch to the same on the device.
        batch (dict): With tensors among its values, in pinned memory if the copy is not to hold up the host.
        device (torch.device): Where to.

    Returns:
        dict: What `copy` returns.
    """
    if device.type != 'cuda' or not any(isinstance(value, torch.Tensor) and value.is_cpu for value in batch.values()):
        return copy(batch)
    current = torch.cuda.current_stream(device)
    stream = _copy_stream(current.device)
    with torch.cuda.stream(stream):
        copied = copy(batch)
    current.wait_stream(stream)
    for value in copied.values():
        if isinstance(value, torch.Tensor):
            value.record_stream(current)  # else its memory may be used again as soon as the host has dropped it
    return copied
