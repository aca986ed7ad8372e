import datetime

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel

from ..helpers.small_models import small_batch, small_coma

COMPLEMENTS = ('frozen', 'decoder', 'full', 'none')
INTERVAL = 2  # of the complementary branch


def train(model, inner, part=slice(None), steps=2):
    """A few updates of momentum SGD on a part of the global batch; returns all weights, the evaluation model's too."""
    optimizer = torch.optim.SGD((p for p in inner.parameters() if p.requires_grad), lr=0.1, momentum=0.9)
    inner.follow(optimizer)
    for step in range(steps):
        batch = {name: value[part] for name, value in small_batch(4, seed=step).items()}
        optimizer.zero_grad()
        model(**batch, mode='loss', both_branches=step % INTERVAL == 0)['loss'].backward()
        optimizer.step()
    return inner.state_dict()


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2, timeout=datetime.timedelta(minutes=2))
    for complement in COMPLEMENTS:
        inner = small_coma(complement, seed=rank)  # DDP broadcasts the first process's weights
        model = MMDistributedDataParallel(inner, find_unused_parameters=False, broadcast_buffers=False)
        inner.sync_evaluation()  # as EvaluationModelHook does at the start: DDP broadcasts no buffers
        state = train(model, inner, slice(2 * rank, 2 * rank + 2))
        torch.save(state, f'{folder}/{complement}{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_are_one_at_the_same_global_batch(tmp_path):
    """Without searching for unused parameters: every trained one has a gradient in every reading."""
    mp.spawn(worker, (str(tmp_path), ), nprocs=2)
    for complement in COMPLEMENTS:
        inner = small_coma(complement)
        start = {name: value.clone() for name, value in inner.state_dict().items()}
        expected = train(inner, inner)
        assert all(not torch.equal(start[name], value) for name, value in expected.items())
        for rank in range(2):
            state = torch.load(tmp_path / f'{complement}{rank}.pth', weights_only=True)
            assert state.keys() == expected.keys()
            for name, value in state.items():
                torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-10, msg=f'{complement} {name}')
