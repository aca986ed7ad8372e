"""CARAFE: upsampling with a kernel for each pixel, as https://arxiv.org/abs/1905.02188 defines it."""
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from .precision import widen


def carafe_forward(features: Tensor, masks: Tensor, rfeatures: Tensor, routput: Tensor, rmasks: Tensor, output: Tensor,
                   kernel_size: int, group_size: int, scale_factor: int) -> None:
    """Writes the upsampled features into `output`.

    Args:
        features (Tensor): (B, C, H, W).
        masks (Tensor): (B, group_size * kernel_size ** 2, H * scale_factor, W * scale_factor), the kernels.
        rfeatures (Tensor): (B, C, H, W), written to: mmcv hands it to `carafe_backward`, in the place of `features`.
        routput (Tensor): a buffer that is not needed.
        rmasks (Tensor): a buffer that is not needed.
        output (Tensor): (B, C, H * scale_factor, W * scale_factor), written to.
        kernel_size (int): rows and columns of a kernel; odd.
        group_size (int): groups of channels with kernels of their own.
        scale_factor (int): of the upsampling.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(top_grad: Tensor, rfeatures: Tensor, masks: Tensor, rtop_grad: Tensor, rbottom_grad_hs: Tensor,
                    rbottom_grad: Tensor, rmask_grad: Tensor, bottom_grad: Tensor, mask_grad: Tensor, kernel_size: int,
                    group_size: int, scale_factor: int) -> None:
    """Writes the gradients with respect to features and masks into `bottom_grad` and `mask_grad`.

    Four buffers are not needed; the other arguments are those of `carafe_forward`, and `top_grad` has the shape of its
    `output`.
    """
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, kernel_size, group_size, scale_factor)


def carafe_naive_forward(features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int,
                         scale_factor: int) -> None:
    """Writes the upsampled features into `output`; see `carafe_forward`."""
    features, masks = widen(features, masks)
    kernels = _kernels(masks, kernel_size, group_size, scale_factor)
    taps = _taps(_padded(features, kernel_size), kernel_size, group_size)
    output.copy_(sum(tap * kernels[:, :, None, i] for i, tap in enumerate(taps)).reshape(output.shape))


def carafe_naive_backward(top_grad: Tensor, features: Tensor, masks: Tensor, bottom_grad: Tensor, mask_grad: Tensor,
                          kernel_size: int, group_size: int, scale_factor: int) -> None:
    """Writes the gradients with respect to features and masks into `bottom_grad` and `mask_grad`; see `carafe_backward`."""
    top_grad, features, masks = widen(top_grad, features, masks)
    kernels = _kernels(masks, kernel_size, group_size, scale_factor)
    of_kernels = kernels.new_zeros(kernels.shape)
    padded = _padded(features, kernel_size)
    of_padded = padded.new_zeros(padded.shape)
    grad = top_grad.reshape(len(features), group_size, -1, *kernels.shape[3:])
    taps = zip(_taps(padded, kernel_size, group_size), _taps(of_padded, kernel_size, group_size), strict=True)
    for i, (tap, of_tap) in enumerate(taps):
        of_tap += (grad * kernels[:, :, None, i]).sum((4, 6), keepdim=True)
        of_kernels[:, :, i] = (grad * tap).sum(2)
    border = kernel_size // 2
    bottom_grad.copy_(of_padded[:, :, border:border + features.shape[2], border:border + features.shape[3]])
    mask_grad.copy_(of_kernels.reshape(masks.shape))


def _padded(features: Tensor, kernel_size: int) -> Tensor:
    return F.pad(features, [kernel_size // 2] * 4)


def _kernels(masks: Tensor, kernel_size: int, groups: int, scale: int) -> Tensor:
    """(B, G, taps, H, s, W, s): kernels of the s * s pixels above each one."""
    rows, columns = masks.shape[2] // scale, masks.shape[3] // scale
    return masks.reshape(len(masks), groups, kernel_size**2, rows, scale, columns, scale)


def _taps(padded: Tensor, kernel_size: int, groups: int) -> Iterator[Tensor]:
    """For each place in the kernel, what it sees of the features: views (B, G, C / G, H, 1, W, 1)."""
    rows, columns = padded.shape[2] - kernel_size + 1, padded.shape[3] - kernel_size + 1
    padded = padded.unflatten(1, (groups, -1))
    for row in range(kernel_size):
        for column in range(kernel_size):
            yield padded[:, :, :, row:row + rows, None, column:column + columns, None]
