"""Short runs of a model to which numbers that are not finite, or a spike of the loss, happen at given times."""
import math

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from coma_mm.engine import ComaRunner
from coma_mm.engine.hooks import RUN_HOOKS


def sample(index):
    generator = torch.Generator().manual_seed(index)
    name = BaseDataElement(metainfo=dict(img_path=f'{index}.png'))
    return dict(inputs=torch.rand(4, generator=generator), data_samples=name)


@DATASETS.register_module()
class NamedNoise(Dataset):
    def __getitem__(self, index):
        return sample(index)

    def __len__(self):
        return 16


@MODELS.register_module()
class Fragile(BaseModel):
    """Something happens to the numbers of some iterations, counted from 1.

    Args:
        faults (dict[float, str]): By iteration, where n + 0.25 is the second batch of n. 'inputs': NaN goes in, and so into
            the running statistics; 'gradient': NaN on the way back alone; 'loss': infinite, with a finite gradient;
            'weights': they change a lot, and the loss with them.
    """

    def __init__(self, faults=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.faults = faults or {}
        self.iteration = 0

    def forward(self, inputs, data_samples=None, mode='loss'):
        inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
        fault = self.faults.get(self.iteration)
        self.iteration += 0.25
        if fault == 'weights':
            self.layers[2].bias.data += 30
        out = self.layers(inputs * math.nan if fault == 'inputs' else inputs)
        if fault == 'gradient':
            out.register_hook(lambda gradient: gradient * math.nan)
        loss = (out - inputs.sum(1, keepdim=True)).square().mean()
        return dict(loss=loss + math.inf if fault == 'loss' else loss)


@HOOKS.register_module()
class Count(Hook):
    """Tells the model the iteration, so that what happens to it is the same after a resume; notes what it sees."""
    priority = 'VERY_HIGH'

    def __init__(self, kill=None):
        self.kill = kill
        self.states, self.batches, self.rates = {}, [], []  # before each iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        runner.model.iteration = runner.iter + 1
        self.states[runner.iter] = state_of(runner)
        self.batches.append(data_batch)
        self.rates.append(runner.optim_wrapper.param_groups[0]['lr'])
        if runner.iter == self.kill:
            raise KeyboardInterrupt


def state_of(runner):
    """What has been learnt so far: the model's and the optimiser's tensors."""
    state = runner.optim_wrapper.optimizer.state_dict()['state']
    return {**{name: value.clone() for name, value in runner.model.state_dict().items()},
            **{f'{key}.{name}': value.clone() for key, values in state.items() for name, value in values.items()
               if isinstance(value, torch.Tensor)}}


def same(states, others):
    return states.keys() == others.keys() and all(torch.equal(states[name], others[name]) for name in others)


ADAMW = dict(type='AdamW', lr=0.01, fused=True)


def make_cfg(work_dir, faults=None, optimizer=ADAMW, accumulation=1, iterations=8, hooks=(), kill=None, **changes):
    hooks = [dict(hook) for hook in hooks]
    present = {hook['type'] for hook in hooks}
    return Config(dict(dict(
        model=dict(type='Fragile', faults=faults), work_dir=str(work_dir),
        train_dataloader=dict(dataset=dict(type='NamedNoise'), batch_size=2, sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(by_epoch=False, max_iters=iterations), randomness=dict(seed=3),
        custom_hooks=[dict(type='Count', kill=kill), *hooks, *[dict(h) for h in RUN_HOOKS if h['type'] not in present]],
        optim_wrapper=dict(optimizer=dict(optimizer), accumulative_counts=accumulation),
        param_scheduler=[dict(type='ExponentialLR', gamma=0.99, by_epoch=False)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=4, by_epoch=False, max_keep_ckpts=3)),
    ), **changes))


def run(cfg, **settings):
    if not isinstance(cfg, Config):
        cfg = make_cfg(cfg, **settings)
    runner = ComaRunner.from_cfg(cfg)
    runner.train()
    return runner


def hook_of(runner, kind):
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def warnings_of(runner):
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
        return [line.strip() for line in file if ' - WARNING - ' in line and ('left out' in line or 'spike' in line)]
