"""A training step whose numbers were not finite, in a file with all that it takes to run it again."""
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mmengine.dist as dist
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from coma_mm.config.read import register_libraries
from coma_mm.config.registered import check_registered
from coma_mm.datasets.seeding import seed_generators
from coma_mm.errors import UserError, printable
from coma_mm.files import write_whole
from coma_mm.weights.load import load_weights_only, weights_sha256
from coma_mm.weights.safe_pickle import plain

from .models import build_model, serialize, to_cpu, unwrap
from .optim.accumulation import update

CONFIG_KEYS = ('default_scope', 'model', 'data_preprocessor', 'optim_wrapper')
STRUCTURES = dict(DataSample='mmpretrain.structures', SegDataSample='mmseg.structures', DetDataSample='mmdet.structures',
                  **dict.fromkeys(('BaseDataElement', 'InstanceData', 'LabelData', 'PixelData'), 'mmengine.structures'),
                  HorizontalBoxes='mmdet.structures.bbox', BitmapMasks='mmdet.structures.mask',
                  PolygonMasks='mmdet.structures.mask')
"""Where the classes of the libraries' batches are found."""


def leave(runner: Runner, batches: Sequence[tuple[int, Any]], losses: torch.Tensor, gradients: str | None,
          images: list[str]) -> str:
    """Write the file of the update that a run has just left out, when its weights are still those from before it.

    Args:
        runner (Runner): The run.
        batches (Sequence[tuple[int, Any]]): The iteration and the batch of each forward pass of the update.
        losses (Tensor): Of the batches, (len(batches), ).
        gradients (str | None): The check sum of its gradients, see `gradients_sha256`.
        images (list[str]): Names of its images.

    Returns:
        str: The file's path.

    Raises:
        OSError: If it cannot be written.
    """
    iterations, data = zip(*batches, strict=True)
    cfg = {key: runner.cfg[key] for key in CONFIG_KEYS if runner.cfg.get(key) is not None}
    content = dict(
        replay=plain(dict(config=cfg, seed=runner.seed, rank=dist.get_rank(), world_size=dist.get_world_size(),
                          iterations=iterations, images=images, gradients=gradients,
                          config_file=os.path.basename(runner.cfg.filename or ''))),
        losses=losses.cpu(), batches=pack(list(data)), state_dict=to_cpu(unwrap(runner.model).state_dict()))
    path = os.path.join(runner.work_dir, f'replay_iter_{iterations[-1] + 1}_rank_{dist.get_rank()}.pt')
    write_whole(path, serialize(content))
    return path


def pack(value: Any) -> Any:
    """A batch of any of the three libraries -> plain values and tensors on the CPU; `unpack` is the way back."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return dict(kind='array', values=torch.from_numpy(value.copy()))
    if isinstance(value, BaseDataElement):
        return dict(kind=type(value).__name__, metainfo=pack(value.metainfo),
                    data=pack(dict(value.items())))
    if type(value).__name__ == 'HorizontalBoxes':
        return dict(kind='HorizontalBoxes', arguments=[pack(value.tensor)])
    if type(value).__name__ in ('BitmapMasks', 'PolygonMasks'):
        return dict(kind=type(value).__name__, arguments=[pack(value.masks), value.height, value.width])
    if isinstance(value, dict):
        return dict(kind='dict', items={key: pack(inner) for key, inner in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(map(pack, value)) if type(value) in (list, tuple) else list(map(pack, value))
    return plain(value)


def unpack(value: Any) -> Any:
    """What `pack` packed."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(unpack, value))
    if not isinstance(value, dict):
        return value
    kind = value['kind']
    if kind == 'dict':
        return {key: unpack(inner) for key, inner in value['items'].items()}
    if kind == 'array':
        return value['values'].numpy()
    built = getattr(importlib.import_module(STRUCTURES[kind]), kind)
    if 'arguments' in value:
        return built(*unpack(value['arguments']))
    element = built(metainfo=unpack(value['metainfo']))
    element.set_data(unpack(value['data']))
    return element


def gradients_sha256(model: nn.Module) -> str:
    """The check sum of a model's gradients."""
    return weights_sha256({name: value.grad for name, value in model.named_parameters() if value.grad is not None})


@dataclass
class Replay:
    """A step, and what came of it when it was run again.

    Args:
        facts (dict): On the run: 'seed', 'rank', 'world_size', 'iterations', 'images', 'gradients', 'config_file'.
        losses (Tensor): Of the batches in the run.
        again (Tensor): The same, run again.
        gradients (str): The check sum of the gradients, run again.
        first (str | None): The module whose output was the first that is not finite, with how much of it; None if there is
            none, so that it happens on the way back, or in the loss.
        spoilt (list[str]): Parameters whose gradient is not finite.
    """
    facts: dict[str, Any]
    losses: torch.Tensor
    again: torch.Tensor
    gradients: str
    first: str | None
    spoilt: list[str]

    @property
    def same(self) -> bool:
        """Whether losses and gradients are the run's, to the last bit."""
        losses = weights_sha256(dict(loss=self.losses)) == weights_sha256(dict(loss=self.again))
        return losses and self.facts['gradients'] in (None, self.gradients)


def replay(path: str, device: str = 'cpu') -> Replay:
    """Run the step of a file again, with the weights from before it.

    Args:
        path (str): A file that `FiniteHook` left.
        device (str): Where to compute. Defaults to 'cpu'.

    Returns:
        Replay: What came of it.

    Raises:
        UserError: If it is no such file, its config names anything but classes of the libraries, or its step fails.
    """
    content = load_weights_only(path)
    if not {'replay', 'losses', 'batches'} <= content.keys() or not _are_facts(content['replay']) or not isinstance(
            content['losses'], torch.Tensor) or not isinstance(content['batches'], list):
        raise UserError(f'{path} holds no step of a training; expected a replay_iter_*.pt that FiniteHook has left in a '
                        'work dir')
    try:
        return _run_again(path, content, device)
    except UserError:
        raise
    except Exception as error:  # whatever the libraries raise on a batch or a config that somebody has changed
        line = printable(' '.join(f'{type(error).__name__}: {error}'.split()))[:500]
        raise UserError(f'{path}: its step cannot be run again ({line}); expected a file that FiniteHook has left, and the '
                        'versions of the libraries with which it did') from error


def _are_facts(facts: Any) -> bool:
    """Whether something is what `leave` notes of a run."""
    kinds = dict(config=dict, seed=int, rank=int, world_size=int, iterations=(list, tuple), images=(list, tuple),
                 gradients=(str, type(None)), config_file=str)
    return isinstance(facts, dict) and all(isinstance(facts.get(key), kind) for key, kind in kinds.items()) and all(
        isinstance(one, int) for one in facts['iterations']) and all(isinstance(one, str) for one in facts['images'])


def _run_again(path: str, content: dict[str, Any], device: str) -> Replay:
    facts, batches = content['replay'], unpack(content['batches'])
    if not 0 < len(batches) == len(facts['iterations']):
        raise ValueError(f'{len(batches)} batches of {len(facts["iterations"])} iterations')
    scope = facts['config'].get('default_scope', 'mmengine')
    register_libraries(scope)
    parts = {key: check_registered(facts['config'][key], f'{path}: {key}', scope)
             for key in ('model', 'data_preprocessor') if key in facts['config']}
    cfg = Config(dict(parts, default_scope=scope))
    model = build_model(cfg).to(device).train()
    model.load_state_dict(content['state_dict'])
    wrapper = {key: value for key, value in facts['config'].get('optim_wrapper', {}).items()
               if key not in ('optimizer', 'accumulative_counts', 'constructor', 'paramwise_cfg')}
    wrapper = check_registered({'type': 'OptimWrapper', **wrapper}, f'{path}: optim_wrapper', scope, (OPTIM_WRAPPERS, ))
    wrapper = OPTIM_WRAPPERS.build(dict(wrapper, optimizer=torch.optim.SGD(model.parameters(), lr=0.)))
    losses, found, iterations = [], [], iter(facts['iterations'])
    scale_loss = wrapper.scale_loss

    def watch(loss: torch.Tensor) -> torch.Tensor:  # as FiniteHook does
        losses.append(loss.detach())
        return scale_loss(loss * (loss.detach() * 0 + 1))

    def step(batch: Any, wrapper: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed_generators(facts['seed'], facts['rank'], next(iterations)))
        return model.train_step(batch, wrapper)

    wrapper.scale_loss = watch
    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(partial(_find, found, name))
    spoilt = {}

    def note(*_: Any) -> None:
        spoilt.update(sha256=gradients_sha256(model), names=[
            name for name, value in model.named_parameters() if value.grad is not None and not value.grad.isfinite().all()])

    wrapper.optimizer.register_step_pre_hook(note)
    update(step, batches, wrapper)
    return Replay(facts, content['losses'], torch.stack(losses).flatten().cpu(), spoilt['sha256'], next(iter(found), None),
                  spoilt['names'])


def _find(found: list[str], name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
    """Note the output of a module if it is not finite, and the first such one."""
    for value in [output] if isinstance(output, torch.Tensor) else output if isinstance(output, (list, tuple)) else ():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not found:
            if bad := int((~value.isfinite()).sum()):
                found.append(f'{name} ({bad} of {value.numel()} values)')
