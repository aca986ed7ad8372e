"""Heads that read fewer maps than the backbone gives, in `DistributedDataParallel`."""
import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel

from coma_mm.models.unread_maps import read_together

from ..helpers.small_models import small_dyvit

ALL = (0, 1, 2, 3)


@pytest.fixture
def one_process(tmp_path):
    """Distributed training of a single process, which waits for its parameters like any number of them."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradients(read, wrap=None, steps=2, **settings):
    """dict: Those of a DyViT of whose maps some are read, after each of some steps."""
    backbone = small_dyvit(**settings).train()
    model = wrap(backbone) if wrap else backbone
    found = []
    for step in range(steps):
        backbone.zero_grad()
        torch.manual_seed(step)
        outs = model(torch.randn(1, 3, 32, 64, dtype=torch.float64))
        sum((outs[i] * torch.randn_like(outs[i])).sum() for i in read).backward()
        found.append({name: value.grad for name, value in backbone.named_parameters() if value.requires_grad})
    return found


def distributed(model):
    return MMDistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=False)


@pytest.mark.parametrize('read, settings', [
    ((1, 2, 3), dict(out_indices=ALL)),  # FPN with start_level=1
    ((3, ), dict(out_indices=ALL)),  # a segmenter's last map
    ((1, ), dict(out_indices=ALL)),  # and the stages after it are not read, either
    ((1, ), dict(out_indices=ALL, with_cp=True)),
    ((0, 1), dict(out_indices=(0, 1, 2), drop_path_rate=0.3)),  # there are stages after the last map
    ((1, 2), dict(out_indices=ALL, frozen_stages=1)),
    (ALL, dict(out_indices=ALL)),
    ((0, ), dict(out_indices=3, norm_cfg=None)),
])
def test_training_goes_on_with_the_gradients_of_a_single_process(one_process, read, settings):
    found = gradients(read, distributed, **settings)
    dist.destroy_process_group()
    expected = gradients(read, **settings)
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert torch.equal(ours[name], torch.zeros_like(ours[name]) if value is None else value), name


def test_without_it_training_stops_at_the_second_iteration(one_process, monkeypatch):
    monkeypatch.setattr('coma_mm.models.dyvit.read_together', lambda *tensors: tensors)
    with pytest.raises(RuntimeError, match='Expected to have finished reduction in the prior iteration'):
        gradients((1, 2, 3), distributed, out_indices=ALL)


def test_maps_may_be_changed_in_place_and_frozen_ones_stay_so(one_process):
    frozen, trained = torch.ones(2), torch.ones(2, requires_grad=True)
    first, second, third = read_together(frozen, trained * 1, trained * 2)
    assert first is frozen and second.requires_grad
    second.mul_(3)
    (second + frozen).sum().backward()
    assert trained.grad.tolist() == [3, 3]


def test_outside_of_distributed_training_nothing_is_done(tmp_path):
    tensors = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    assert all(a is b for a, b in zip(read_together(*tensors), tensors, strict=True))
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    with torch.no_grad():
        assert all(a is b for a, b in zip(read_together(*tensors), tensors, strict=True))
    dist.destroy_process_group()
