"""The attention masks of PSANet, as https://hszhao.github.io/papers/eccv18_psanet.pdf defines them."""
import torch
from torch import Tensor

_COLLECT = 0


def psamask_forward(input: Tensor, output: Tensor, psa_type: int, num_: int, h_feature: int, w_feature: int,
                    h_mask: int, w_mask: int, half_h_mask: int, half_w_mask: int) -> None:
    """Writes each position's mask of its surroundings into `output`, as attention over all positions.

    Args:
        input (Tensor): (B, h_mask * w_mask, H, W), for each position a mask around it.
        output (Tensor): (B, H * W, H, W), written to: where masks are collected, [:, j, i] is what position i gives to
            j, and where they are distributed, [:, i, j].
        psa_type (int): 0 to collect, 1 to distribute.
        num_ (int): B.
        h_feature (int): H.
        w_feature (int): W.
        h_mask (int): rows of a mask.
        w_mask (int): columns of a mask.
        half_h_mask (int): the mask's row that lies on the position itself.
        half_w_mask (int): the mask's column that does.
    """
    index, inside = _places(input.device, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    found = input.flatten(2).gather(1, index.expand(num_, -1, -1)) * inside
    output.copy_((found if psa_type == _COLLECT else found.transpose(1, 2)).reshape(output.shape))


def psamask_backward(grad_output: Tensor, grad_input: Tensor, psa_type: int, num_: int, h_feature: int, w_feature: int,
                     h_mask: int, w_mask: int, half_h_mask: int, half_w_mask: int) -> None:
    """Writes the gradient with respect to `input` into `grad_input`; the arguments are those of `psamask_forward`."""
    index, inside = _places(grad_output.device, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    grad = grad_output.flatten(2)
    grad = (grad if psa_type == _COLLECT else grad.transpose(1, 2)) * inside
    # At most one of those that go to a place is inside, so that nothing is rounded.
    found = grad.new_zeros(grad_input.flatten(2).shape).scatter_add(1, index.expand(num_, -1, -1), grad)
    grad_input.copy_(found.reshape(grad_input.shape))


def _places(device, rows: int, columns: int, mask_rows: int, mask_columns: int, half_rows: int,
            half_columns: int) -> tuple[Tensor, Tensor]:
    """Where position j lies in the mask of position i, (H * W of j, H * W of i), and whether it does."""
    y = torch.arange(rows, device=device).repeat_interleave(columns)
    x = torch.arange(columns, device=device).repeat(rows)
    row, column = y[:, None] - y + half_rows, x[:, None] - x + half_columns
    inside = (row >= 0) & (row < mask_rows) & (column >= 0) & (column < mask_columns)
    return (row * mask_columns + column).where(inside, 0), inside
