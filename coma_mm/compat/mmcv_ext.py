"""`mmcv._ext` on PyTorch's and torchvision's operators, on CPU and CUDA: the entrance to `coma_mm.compat.operators`.

Loaded under the name `mmcv._ext` where mmcv has no compiled operators (see `coma_mm.compat`). Function names and
arguments are those that `mmcv.ops` calls. Any other operator can be looked up, as `mmcv.ops` does on import, and
raises `AbsentOperatorError` when it is called; a module that needs it refuses to be built.
"""
from coma_mm.compat.operators.absent import refusal
from coma_mm.compat.operators.attention_mask import psamask_backward, psamask_forward
from coma_mm.compat.operators.batch_norm import (
    sync_bn_backward_data,
    sync_bn_backward_param,
    sync_bn_forward_mean,
    sync_bn_forward_output,
    sync_bn_forward_var,
)
from coma_mm.compat.operators.boxes import bbox_overlaps
from coma_mm.compat.operators.carafe import carafe_backward, carafe_forward, carafe_naive_backward, carafe_naive_forward
from coma_mm.compat.operators.deformable_attention import ms_deform_attn_backward, ms_deform_attn_forward
from coma_mm.compat.operators.deformable_convolution import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from coma_mm.compat.operators.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from coma_mm.compat.operators.masked_convolution import masked_col2im_forward, masked_im2col_forward
from coma_mm.compat.operators.nms import nms, nms_match, softnms
from coma_mm.compat.operators.roi import (
    deform_roi_pool_backward,
    deform_roi_pool_forward,
    roi_align_backward,
    roi_align_forward,
    roi_pool_backward,
    roi_pool_forward,
)

__all__ = [
    'bbox_overlaps', 'carafe_backward', 'carafe_forward', 'carafe_naive_backward', 'carafe_naive_forward',
    'deform_conv_backward_input', 'deform_conv_backward_parameters', 'deform_conv_forward',
    'deform_roi_pool_backward', 'deform_roi_pool_forward', 'masked_col2im_forward', 'masked_im2col_forward',
    'modulated_deform_conv_backward', 'modulated_deform_conv_forward', 'ms_deform_attn_backward',
    'ms_deform_attn_forward', 'nms', 'nms_match', 'psamask_backward', 'psamask_forward', 'roi_align_backward',
    'roi_align_forward', 'roi_pool_backward', 'roi_pool_forward', 'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward', 'softmax_focal_loss_backward', 'softmax_focal_loss_forward', 'softnms',
    'sync_bn_backward_data', 'sync_bn_backward_param', 'sync_bn_forward_mean', 'sync_bn_forward_output',
    'sync_bn_forward_var'
]
"""The operators there are; `docs/heads.md` lists them."""


def get_compiler_version() -> str:
    """What mmcv reports in the environment section of a log."""
    return 'none (torchvision operators)'


def get_compiling_cuda_version() -> str:
    """What mmcv reports in the environment section of a log."""
    return 'none (torchvision operators)'


def __getattr__(name: str):
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return refusal(name)
