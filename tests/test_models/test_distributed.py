import datetime
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.testing import demo_mm_inputs
from mmengine.model import MMDistributedDataParallel

from coma_mm.config.read import read_config
from coma_mm.engine.models import build_model

from ..helpers.small_models import ARCH, small_batch, small_coma

COMPLEMENTS = ('frozen', 'decoder', 'full', 'latent', 'none')
INTERVAL = 2  # of the complementary branch
CONFIGS = Path(__file__).parents[2] / 'configs/shapes'


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
    for name, cfg in detectors():
        torch.save(detect(cfg, rank), f'{folder}/{name}{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def detectors():
    """Iterator: Name and config of detectors that leave a part of the backbone unread, as a third of the libraries' do."""
    for name, maps, more in (('retinanet', (0, 1, 2, 3), dict(start_level=1)), ('dino-4scale', (0, 1, 2), {})):
        cfg = read_config(str(CONFIGS / f'{name}_dyvit-tiny-p16_coma_shapes-easy.py'))
        cfg.model.backbone.update(arch=ARCH, out_indices=maps, init_cfg=None)
        cfg.model.neck.update(in_channels=[ARCH['dims'][i] for i in maps], **more)
        yield name, cfg


def detect(cfg, rank):
    """The weights of a detector before and after three updates on images that differ between the processes."""
    torch.manual_seed(rank)
    inner = build_model(cfg).train()
    for name, value in inner.named_parameters():
        if name == 'level_embed':  # DINO allocates it, and leaves its values to `init_weights`
            torch.nn.init.normal_(value)
    model = MMDistributedDataParallel(inner, find_unused_parameters=False, broadcast_buffers=False)
    before = {name: value.clone() for name, value in inner.backbone.state_dict().items()}
    optimizer = torch.optim.SGD(inner.parameters(), lr=1e-3)
    for _ in range(3):
        batch = demo_mm_inputs(2, (3, 64, 64), num_items=[2, 1 + rank], num_classes=5, device='cpu')
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(batch_input_shape=(64, 64)))
        batch = inner.data_preprocessor(batch, True)
        loss, _ = inner.parse_losses(model(**batch, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dict(before=before, after=inner.state_dict())


def test_detectors_that_leave_maps_unread_train_in_two_processes(states):
    """RetinaNet's FPN from the second map on, and DINO on the first three: at the second iteration DDP would stop."""
    for name, unread in (('retinanet', 'norm0.'), ('dino-4scale', 'stages.3.')):
        first, second = (torch.load(states / f'{name}{rank}.pth', weights_only=True) for rank in range(2))
        assert all(torch.equal(value, second['after'][key]) for key, value in first['after'].items())
        same = {key for key, value in first['before'].items() if torch.equal(value, first['after'][f'backbone.{key}'])}
        assert same == {key for key in first['before'] if key.startswith(unread)}


@pytest.fixture(scope='module')
def states(tmp_path_factory):
    """A folder with what two processes have learnt."""
    folder = tmp_path_factory.mktemp('states')
    mp.start_processes(worker, (str(folder), ), nprocs=2, start_method='fork')  # without importing everything anew
    return folder


def test_two_processes_are_one_at_the_same_global_batch(states):
    """Without searching for unused parameters: every trained one has a gradient in every reading."""
    for complement in COMPLEMENTS:
        inner = small_coma(complement)
        start = {name: value.clone() for name, value in inner.state_dict().items()}
        expected = train(inner, inner)
        assert all(not torch.equal(start[name], value) for name, value in expected.items())
        for rank in range(2):
            state = torch.load(states / f'{complement}{rank}.pth', weights_only=True)
            assert state.keys() == expected.keys()
            for name, value in state.items():
                torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-10, msg=f'{complement} {name}')
