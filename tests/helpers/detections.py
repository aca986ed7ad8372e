"""Comparing detections, of which the order is not fixed where scores are equal but for rounding."""
import torch
from scipy.optimize import linear_sum_assignment


def reordered(found, like):
    """The objects that match those of another result, in their order: one to one, by label and by the nearest boxes.

    Args:
        found (InstanceData): With boxes and labels, as many objects as `like` has or more.
        like (InstanceData): With boxes and labels.
    """
    apart = torch.cdist(like.bboxes, found.bboxes, p=1)
    apart[like.labels[:, None] != found.labels] = 1e6
    return found[linear_sum_assignment(apart.detach().numpy())[1]]
