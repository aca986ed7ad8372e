"""PSANet's masks against their definition, one value at a time."""
import pytest
import torch
from mmcv.ops import PSAMask

from ...helpers import operators as reference
from ...helpers.operators import DEVICES


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('kind', ['collect', 'distribute'])
@pytest.mark.parametrize('mask_size', [(3, 5), (4, 2), (9, 9)])
def test_masks_are_their_definition(kind, mask_size, device):
    masks = torch.randn(2, mask_size[0] * mask_size[1], 3, 4, dtype=torch.float64, requires_grad=True)
    ours = masks.detach().to(device).requires_grad_()
    found, expected = PSAMask(kind, mask_size)(ours), reference.psa_mask(masks, kind, mask_size)
    assert torch.equal(found.cpu(), expected)
    grad = torch.randn_like(expected)
    found, = torch.autograd.grad(found, ours, grad.to(device))
    assert torch.equal(found.cpu(), torch.autograd.grad(expected, masks, grad)[0])
