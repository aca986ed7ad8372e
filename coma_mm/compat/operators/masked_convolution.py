"""A convolution at some positions alone: columns of the image at these, and back."""
import torch
import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(im: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, col: Tensor, kernel_h: int,
                          kernel_w: int, pad_h: int, pad_w: int) -> None:
    """Writes the surroundings of some positions into `col`.

    Args:
        im (Tensor): (1, C, H, W).
        mask_h_idx (Tensor): (N, ), int64, rows of the positions.
        mask_w_idx (Tensor): (N, ), int64, their columns.
        col (Tensor): (C * kernel_h * kernel_w, N), written to.
        kernel_h (int): rows of the surroundings.
        kernel_w (int): their columns.
        pad_h (int): rows of zeros on either side.
        pad_w (int): columns of zeros on either side.
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    taps = [padded[:, mask_h_idx + row, mask_w_idx + column] for row in range(kernel_h) for column in range(kernel_w)]
    col.copy_(torch.stack(taps, 1).reshape(col.shape))


def masked_col2im_forward(col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int,
                          channels: int) -> None:
    """Writes values at some positions into an image and leaves the others.

    Args:
        col (Tensor): (channels, N).
        mask_h_idx (Tensor): (N, ), int64, rows of the positions.
        mask_w_idx (Tensor): (N, ), int64, their columns.
        im (Tensor): (1, channels, height, width), written to.
        height (int): of the image.
        width (int): of the image.
        channels (int): of the image.
    """
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
