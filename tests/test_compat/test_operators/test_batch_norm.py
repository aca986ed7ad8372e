"""mmcv's MMSyncBN is PyTorch's batch norm, in one process."""
import pytest
import torch
from mmcv.ops import SyncBatchNorm

from ...helpers.operators import DEVICES


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_it_is_torchs_batch_norm(dtype, device, monkeypatch):
    # Both take the sums over all processes apart; mmcv asks for a process group.
    monkeypatch.setattr('torch.distributed.get_world_size', lambda group=None: 1)
    ours = SyncBatchNorm(3, stats_mode='N').to(device)
    theirs = torch.nn.BatchNorm2d(3).to(device)
    for layer in (ours, theirs):
        layer.weight.data = torch.tensor([1., 2., 3.], device=device)
        layer.bias.data = torch.tensor([.5, 0., -1.], device=device)
    image = (torch.randn(4, 3, 5, 2, device=device) * 2 + 1).to(dtype)
    images = [image.clone().requires_grad_(), image.float().requires_grad_()]
    for _ in range(2):
        outputs = [layer(one) for layer, one in zip((ours, theirs), images, strict=True)]
    grad = torch.randn_like(outputs[1]).to(dtype)
    for output in outputs:
        output.backward(grad.to(output.dtype))
    close = dict(rtol=2e-3, atol=4e-3) if dtype == torch.float16 else dict(rtol=1e-4, atol=1e-5)
    assert outputs[0].dtype == dtype
    torch.testing.assert_close(outputs[0].float(), outputs[1], **close)
    torch.testing.assert_close(images[0].grad.float(), images[1].grad, **close)
    for name in ('running_mean', 'running_var'):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, **close)
