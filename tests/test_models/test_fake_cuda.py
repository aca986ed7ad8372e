"""What a GPU would do in a forward pass, found without one."""
import pytest
import torch

from coma_mm.benchmark.speed.fake_cuda import Trace, fake_cuda, to_fake
from coma_mm.models import CoMA, DyViT

from ..helpers.small_models import ARCH, model_settings

BATCH = 6


def check(trace):
    assert trace.kernels
    for name in ('mixed', 'on_cpu', 'waits'):
        assert +getattr(trace, name) == {}, name


@pytest.mark.parametrize('both_branches', [True, False])
@pytest.mark.parametrize('complement', CoMA.COPIES)
def test_the_loss_needs_one_device_no_wait_and_no_cast_of_activations(complement, both_branches):
    model = CoMA(**model_settings(), complement=complement).train()
    with fake_cuda() as mode:
        to_fake(model, mode)
        with mode, Trace() as trace, torch.autocast('cuda', torch.bfloat16):
            data = model.data_preprocessor(dict(
                inputs=torch.empty(BATCH, 3, 64, 64, dtype=torch.uint8, device='cuda'),
                ids_keep=torch.zeros(BATCH, 2, dtype=torch.int64, device='cuda'),
                ids_rest=torch.zeros(BATCH, 2, dtype=torch.int64, device='cuda')))
            losses = model(**data, mode='loss', both_branches=both_branches)
    check(trace)
    assert all(loss.device.type == 'cuda' and loss.dtype == torch.float32 for loss in losses.values())
    activations = [shape for shape in trace.casts if shape[:1] == (BATCH, ) and len(shape) == 3]
    # The predictions alone, which the error is computed of in float32, and the tokens that are to be predicted.
    assert {shape[1:] for shape in activations} <= {(2, 32 * 32 * 3), *([(2, ARCH['dims'][3])] * (complement == 'latent'))}


@pytest.mark.parametrize('size', [(64, 64), (90, 70)])
def test_dense_features_need_one_device_no_wait_and_no_cast_of_activations(size):
    backbone = DyViT(arch=ARCH, out_indices=(0, 1, 2, 3)).eval()
    with fake_cuda() as mode:
        to_fake(backbone, mode)
        with mode, Trace() as trace, torch.no_grad(), torch.autocast('cuda', torch.bfloat16):
            outs = backbone(torch.empty(BATCH, 3, *size, device='cuda'))
    check(trace)
    assert all(out.dtype == torch.bfloat16 for out in outs)
    assert [shape for shape in trace.casts if shape[:1] == (BATCH, ) and len(shape) == 3] == []
