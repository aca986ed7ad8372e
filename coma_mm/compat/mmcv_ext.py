"""`mmcv._ext` on torchvision's operators: NMS and RoIAlign, forward and backward, on CPU and CUDA.

Loaded under the name `mmcv._ext` where mmcv has no compiled operators (see `coma_mm.compat`). Function names and
arguments are those that `mmcv.ops` calls. Any other operator can be looked up, as `mmcv.ops` does on import, and
raises `NotImplementedError` when it is called.

Half precision (float16, bfloat16) is computed in float32 and rounded once at the end.
"""
import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

_AVG = 1


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes (Tensor): (N, 4), x1, y1, x2, y2 in pixels.
        scores (Tensor): (N, ).
        iou_threshold (float): a box that overlaps a kept one by more than this is dropped.
        offset (int): 0 or 1; a box is x2 - x1 + offset wide.

    Returns:
        Tensor: (K, ), int64, indices of the boxes kept, by descending score.
    """
    dtype = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torch.ops.torchvision.nms(boxes, scores, iou_threshold)


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Pools each RoI into a fixed grid of bilinear samples and writes the result into `output`.

    Args:
        input (Tensor): (B, C, H, W) features.
        rois (Tensor): (N, 5), index in the batch, then x1, y1, x2, y2 in pixels of the image.
        output (Tensor): (N, C, aligned_height, aligned_width), written to.
        argmax_y (Tensor): used by maximum pooling alone.
        argmax_x (Tensor): used by maximum pooling alone.
        aligned_height (int): rows of the grid.
        aligned_width (int): columns of the grid.
        spatial_scale (float): from pixels of the image to those of the features.
        sampling_ratio (int): samples per bin and side; 0 takes as many as the bin has pixels.
        pool_mode (int): 1 for the mean over a bin's samples; 0, their maximum, is not available.
        aligned (bool): whether pixel centres lie at half coordinates.

    Raises:
        NotImplementedError: for maximum pooling.
    """
    _require_avg(pool_mode)
    dtype = torch.promote_types(input.dtype, torch.float32)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input.to(dtype), rois.to(dtype), spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Writes the gradient with respect to the features into `grad_input`, (B, C, H, W).

    The other arguments are those of `roi_align_forward`; `grad_output` has the shape of its `output`.

    Raises:
        NotImplementedError: for maximum pooling.
    """
    _require_avg(pool_mode)
    dtype = torch.promote_types(grad_output.dtype, torch.float32)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.to(dtype), rois.to(dtype), spatial_scale, aligned_height, aligned_width, *grad_input.shape,
            sampling_ratio, aligned))


def get_compiler_version() -> str:
    """What mmcv reports in the environment section of a log."""
    return 'none (torchvision operators)'


def get_compiling_cuda_version() -> str:
    """What mmcv reports in the environment section of a log."""
    return 'none (torchvision operators)'


def _require_avg(pool_mode: int) -> None:
    if pool_mode != _AVG:
        raise NotImplementedError(_not_compiled("roi_align with pool_mode='max'"))


def _not_compiled(operator: str) -> str:
    return (f'mmcv operator {operator} is not available: mmcv is installed without compiled operators, and coma_mm '
            'replaces nms and roi_align alone. Use a model without it, or build mmcv with its operators from source '
            '(see docs/install.md, "Compiled mmcv operators").')


def __getattr__(name: str):
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def not_compiled(*args, **kwargs):
        raise NotImplementedError(_not_compiled(name))

    return not_compiled
