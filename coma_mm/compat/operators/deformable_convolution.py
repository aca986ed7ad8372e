"""Deformable convolution, with and without a mask (https://arxiv.org/abs/1703.06211, https://arxiv.org/abs/1811.11168)."""
import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

from coma_mm.errors import UserError

from .precision import widen


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor,
                        kW: int, kH: int, dW: int, dH: int, padW: int, padH: int, dilationW: int, dilationH: int,
                        group: int, deformable_group: int, im2col_step: int) -> None:
    """Writes the convolution of samples at moved places into `output`.

    Args:
        input (Tensor): (B, C, H, W).
        weight (Tensor): (C', C / group, kH, kW).
        offset (Tensor): (B, 2 * deformable_group * kH * kW, H', W'), y and x of each sample from its regular place.
        output (Tensor): (B, C', H', W'), written to.
        columns (Tensor): a buffer that is not needed.
        ones (Tensor): a buffer that is not needed.
        kW (int): columns of the kernel.
        kH (int): rows of the kernel.
        dW (int): stride of columns.
        dH (int): stride of rows.
        padW (int): columns of zeros on either side.
        padH (int): rows of zeros on either side.
        dilationW (int): distance of the kernel's columns.
        dilationH (int): distance of the kernel's rows.
        group (int): groups of channels that are convolved apart.
        deformable_group (int): groups of channels with offsets of their own.
        im2col_step (int): not needed.
    """
    _Convolution(input, weight, offset, None, None, (dH, dW), (padH, padW), (dilationH, dilationW), group,
                 deformable_group).write(output)


def deform_conv_backward_input(input: Tensor, offset: Tensor, gradOutput: Tensor, gradInput: Tensor, gradOffset: Tensor,
                               weight: Tensor, columns: Tensor, kW: int, kH: int, dW: int, dH: int, padW: int,
                               padH: int, dilationW: int, dilationH: int, group: int, deformable_group: int,
                               im2col_step: int) -> None:
    """Writes the gradients with respect to `input` and `offset` into `gradInput` and `gradOffset`.

    The other arguments are those of `deform_conv_forward`; `gradOutput` has the shape of its `output`.
    """
    found = _Convolution(input, weight, offset, None, None, (dH, dW), (padH, padW), (dilationH, dilationW), group,
                         deformable_group).gradients(gradOutput)
    gradInput.copy_(found['input'])
    gradOffset.copy_(found['offset'])
    # The weight's gradient comes with them; `deform_conv_backward_parameters` is called next, with the same two.
    columns.of_weight = gradOutput, found['weight']


def deform_conv_backward_parameters(input: Tensor, offset: Tensor, gradOutput: Tensor, gradWeight: Tensor,
                                    columns: Tensor, ones: Tensor, kW: int, kH: int, dW: int, dH: int, padW: int,
                                    padH: int, dilationW: int, dilationH: int, group: int, deformable_group: int,
                                    scale: float, im2col_step: int) -> None:
    """Adds the gradient with respect to the weight, times `scale`, to `gradWeight`.

    The other arguments are those of `deform_conv_forward`; `gradOutput` has the shape of its `output`.
    """
    of_output, of_weight = columns.__dict__.pop('of_weight', (None, None))
    if of_output is not gradOutput:
        of_weight = _Convolution(input, gradWeight, offset, None, None, (dH, dW), (padH, padW), (dilationH, dilationW),
                                 group, deformable_group).gradients(gradOutput)['weight']
    gradWeight.copy_(gradWeight + scale * of_weight)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                  mask: Tensor, output: Tensor, columns: Tensor, kernel_h: int, kernel_w: int,
                                  stride_h: int, stride_w: int, pad_h: int, pad_w: int, dilation_h: int,
                                  dilation_w: int, group: int, deformable_group: int, with_bias: bool) -> None:
    """Writes the convolution of samples at moved places, each times its mask, into `output`.

    Args:
        input (Tensor): (B, C, H, W).
        weight (Tensor): (C', C / group, kernel_h, kernel_w).
        bias (Tensor): (C', ), read if `with_bias`.
        ones (Tensor): a buffer that is not needed.
        offset (Tensor): (B, 2 * deformable_group * kernel_h * kernel_w, H', W'), y and x of each sample from its
            regular place. As in mmcv, one of a larger map is read in the order in which it lies in memory: DyHead
            gives that of the finer level.
        mask (Tensor): (B, deformable_group * kernel_h * kernel_w, H', W'), read likewise.
        output (Tensor): (B, C', H', W'), written to.
        columns (Tensor): a buffer that is not needed.
        kernel_h (int): rows of the kernel.
        kernel_w (int): columns of the kernel.
        stride_h (int): stride of rows.
        stride_w (int): stride of columns.
        pad_h (int): rows of zeros on either side.
        pad_w (int): columns of zeros on either side.
        dilation_h (int): distance of the kernel's rows.
        dilation_w (int): distance of the kernel's columns.
        group (int): groups of channels that are convolved apart.
        deformable_group (int): groups of channels with offsets and masks of their own.
        with_bias (bool): whether there is a bias.
    """
    _Convolution(input, weight, offset, mask, bias if with_bias else None, (stride_h, stride_w), (pad_h, pad_w),
                 (dilation_h, dilation_w), group, deformable_group).write(output)


def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                   mask: Tensor, columns: Tensor, grad_input: Tensor, grad_weight: Tensor,
                                   grad_bias: Tensor, grad_offset: Tensor, grad_mask: Tensor, grad_output: Tensor,
                                   kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
                                   dilation_h: int, dilation_w: int, group: int, deformable_group: int,
                                   with_bias: bool) -> None:
    """Writes the gradients with respect to all five inputs into the tensors of these names.

    The other arguments are those of `modulated_deform_conv_forward`; `grad_output` has the shape of its `output`.
    """
    found = _Convolution(input, weight, offset, mask, bias if with_bias else None, (stride_h, stride_w),
                         (pad_h, pad_w), (dilation_h, dilation_w), group, deformable_group).gradients(grad_output)
    outputs = dict(input=grad_input, weight=grad_weight, offset=grad_offset, mask=grad_mask)
    if with_bias:
        outputs['bias'] = grad_bias
    for name, output in outputs.items():
        output.copy_(found[name])


class _Convolution:
    """torchvision's operator, with mmcv's conventions.

    The arguments are those of `modulated_deform_conv_forward`; a mask or a bias that is None is not used.
    """

    def __init__(self, input, weight, offset, mask, bias, stride, padding, dilation, groups, offset_groups):
        self.shapes = dict(offset=offset.shape, mask=None if mask is None else mask.shape)
        self.kernel, self.stride, self.padding, self.dilation = weight.shape[2:], stride, padding, dilation
        self.input_size = input.shape[2:]
        self.size = [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for size, pad, dilation, kernel, stride in zip(
                self.input_size, padding, dilation, self.kernel, stride, strict=True)]
        none = input.new_zeros(0)
        bias = input.new_zeros(weight.shape[0]) if bias is None else bias
        input, weight, offset, mask, bias = widen(input, weight, offset, none if mask is None else mask, bias)
        use_mask = self.shapes['mask'] is not None
        self.offset = self._fitting(offset, 2 * offset_groups, 'offset')
        mask = self._fitting(mask, offset_groups, 'mask') if use_mask else mask.new_zeros(input.shape[0], 1)
        self.tensors = input, weight, self.offset, mask, bias
        self.settings = *stride, *padding, *dilation, groups, offset_groups, use_mask

    def _fitting(self, values, groups, name):
        # mmcv reads as many as it needs of each image's offsets and masks, whatever the size of their maps.
        channels = groups * self.kernel[0] * self.kernel[1]
        needed = channels * self.size[0] * self.size[1]
        flat = values.flatten(1)
        if flat.shape[1] < needed:
            raise UserError(f'deformable convolution: {name} of shape {tuple(values.shape)}: expected at least '
                            f'({len(values)}, {channels}, {self.size[0]}, {self.size[1]})')
        return flat[:, :needed].reshape(-1, channels, *self.size)

    def write(self, output):
        with torch.autocast(output.device.type, enabled=False):
            output.copy_(torch.ops.torchvision.deform_conv2d(*self.tensors, *self.settings))

    def gradients(self, grad_output):
        """dict[str, Tensor]: Those with respect to input, weight, offset, mask and bias, of the given shapes."""
        grad_output = grad_output.to(self.tensors[0].dtype).contiguous()
        with torch.autocast(grad_output.device.type, enabled=False):
            found = dict(zip(('input', 'weight', 'offset', 'mask', 'bias'), torch.ops.torchvision._deform_conv2d_backward(
                grad_output, *self.tensors, *self.settings), strict=True))
        found['offset'] = found['offset'] * self._inside()
        for name, shape in self.shapes.items():
            if shape is not None:
                flat = found[name].flatten(1)
                rest = flat.new_zeros(shape[0], shape[1:].numel() - flat.shape[1])
                found[name] = torch.cat([flat, rest], 1).view(shape)
        return found

    def _inside(self):
        # Where a sample is exactly a pixel outside, torchvision's gradient is the slope on the inner side, and mmcv's
        # is 0, as further out. Offsets that begin as zeros have many such samples.
        moved = self.offset.unflatten(1, (-1, *self.kernel, 2))
        inside = True
        for axis in range(2):
            regular = torch.arange(self.size[axis], device=moved.device) * self.stride[axis] - self.padding[axis]
            tap = torch.arange(self.kernel[axis], device=moved.device) * self.dilation[axis]
            place = regular.view([-1 if i == axis else 1 for i in range(2)])
            tap = tap.view([-1 if i == axis else 1 for i in range(2)])[..., None, None]
            where = (place + tap) + moved[:, :, :, :, axis]
            inside = inside & (where > -1) & (where < self.input_size[axis])
        return inside.unsqueeze(4).expand(moved.shape).reshape(self.offset.shape)
