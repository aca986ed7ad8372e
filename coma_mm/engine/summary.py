"""What a run says of itself at its start and at its end, in lines."""
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.models.selfsup import BaseSelfSupervisor

from coma_mm.config_tree import find_key, find_types, type_name, walk
from coma_mm.errors import printable
from coma_mm.version import __version__

from .description import pipeline_of, task_of
from .models import unwrap
from .optim.accumulation import count, wrappers_of


def place_lines(runner: Runner) -> list[str]:
    """What runs, on what, and where it writes; before a model is built."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    return [f'coma_mm {__version__}, torch {torch.__version__}, {device}, {count(runner.world_size, "process")}, '
            f'seed {runner.seed}',
            f'Writes to {short(runner.work_dir)}; environment and whole config are in its log, '
            f'{short(runner.logger.log_file)}']


def model_line(runner: Runner) -> str:
    """The model, its size, and where its weights come from."""
    model, cfg = unwrap(runner.model), runner.cfg
    backbone = getattr(model, 'backbone', None)
    arch = find_key((cfg.get('model') or {}).get('backbone'), 'arch')
    name = f'{type(backbone).__name__} {arch if isinstance(arch, str) else ""}'.strip()
    sizes = [(value.numel(), value.requires_grad) for value in model.parameters()]
    everything, trained = sum(size for size, _ in sizes), sum(size for size, grad in sizes if grad)
    line = type(model).__name__ + (f' with {name}' if backbone is not None else '')
    line += f', {everything / 1e6:.3g} million parameters'
    if trained < everything:
        line += f' ({trained / 1e6:.3g} of them trained)'
    return printable(f'{line}, {_weights(runner, backbone)}')


def _weights(runner: Runner, backbone: Any) -> str:
    model = runner.cfg.get('model')
    named = [one.get('checkpoint') for one in find_types(model, 'Pretrained')] + [find_key(model, 'pretrained')]
    if runner._load_from:
        return f'{"goes on from" if runner._resume else "weights from"} {runner._load_from}'
    if origin := (getattr(backbone, 'provenance', None) or {}).get('checkpoint') or next(filter(None, named), None):
        return f'backbone from {origin}'
    return 'random weights'


def unread_weights(runner: Runner) -> str | None:
    """That PRETRAINED names weights which a fine-tuning does not start from, and what to do; None if nothing is amiss.

    Our configs read the variable. Those that `new` writes do not: they have the weights to start from in them.
    """
    named = os.environ.get('PRETRAINED')
    if not named or runner._load_from or isinstance(unwrap(runner.model), BaseSelfSupervisor):
        return None
    if any(named in value for one in walk(runner.cfg.get('model')) for value in one.values() if isinstance(value, str)):
        return None
    return printable(f'PRETRAINED={named} is set, and this config does not start from it; write one that does, by '
                     f'{tool("new")} … --pretrained {shlex.quote(named)}, or set model.backbone.init_cfg')


def learning_line(runner: Runner) -> str:
    """The learning rate, after it was scaled, and its schedule."""
    wrappers = wrappers_of(runner)
    groups = [group for one in wrappers for group in one.param_groups]
    rate = max(float(group.get('initial_lr', group['lr'])) for group in groups)
    words = list(_schedule(runner.cfg.get('param_scheduler')))
    names = ', '.join(dict.fromkeys(type(one.optimizer).__name__ for one in wrappers))
    return f'Learning rate {rate:.4g} ({names}): {", then ".join(words) or "constant"}'


def _schedule(cfg: Any) -> Iterator[str]:
    """In words, each part of a config's `param_scheduler` that is on the learning rate."""
    for one in walk(cfg):
        name = type_name(one)
        if not name.endswith('LR'):
            continue
        unit = 'epoch' if one.get('by_epoch', True) else 'iteration'
        begin, end = one.get('begin', 0), one.get('end', one.get('T_max'))
        until = f' until {unit} {end if isinstance(end, int) else format(end, ".4g")}' if isinstance(end, Real) else ''
        to = f' to {one.get("eta_min") or 0:g}'
        if name == 'LinearLR':
            yield f'linear from × {one.get("start_factor", 1 / 3):.3g}{until}'
        elif name == 'CosineAnnealingLR' and not one.get('eta_min_ratio'):
            yield f'cosine{to}{until}'
        elif name == 'PolyLR':
            yield f'polynomial of power {one.get("power", 1):g}{to}{until}'
        elif name == 'MultiStepLR':
            yield f'× {one.get("gamma", 0.1):g} after {unit}s {", ".join(map(str, one.get("milestones", ())))}'
        elif name == 'StepLR':
            yield f'× {one.get("gamma", 0.1):g} every {one.get("step_size")} {unit}s'
        else:
            yield name + (f' from {unit} {begin}' if begin else '') + until


def length_line(runner: Runner, saver: CheckpointHook | None) -> str:
    """How long it trains, how precisely, and how often it validates and saves, with the hook that does."""
    loop = runner.train_loop
    by_epoch = not isinstance(loop, IterBasedTrainLoop)
    unit = 'epoch' if by_epoch else 'iteration'
    length = _number(runner.max_iters, 'iteration')
    if by_epoch:
        length = f'{_number(runner.max_epochs, "epoch")} of {_number(len(runner.train_dataloader), "iteration")}'
    line = f'Trains for {length} in {_precision(runner)}'
    line += ', compiled' if runner.cfg.get('compile') not in (None, False) else ''
    validates = f'validates {_every(getattr(loop, "val_interval", 1), unit)}'
    line += f'; {validates if runner.val_loop is not None else "does not validate"}'
    if saver and saver.interval > 0:
        line += f'; saves {_every(saver.interval, "epoch" if saver.by_epoch else "iteration")}'
    return line


def _number(number: int, unit: str) -> str:
    return f'{number} {unit}' if number == 1 else f'{number} {unit}s'


def _every(interval: int, unit: str) -> str:
    return f'every {unit}' if interval == 1 else f'every {interval} {unit}s'


def _precision(runner: Runner) -> str:
    return ', '.join(dict.fromkeys(map(_cast, wrappers_of(runner))))


def _cast(wrapper: OptimWrapper) -> str:
    if not hasattr(wrapper, 'cast_dtype'):  # of mmengine's AmpOptimWrapper and our AutocastOptimWrapper
        return 'float32'
    return f'mixed precision ({str(wrapper.cast_dtype or torch.float16).removeprefix("torch.")})'


def next_lines(runner: Runner, checkpoint: str) -> list[str]:
    """What to type after a training: commands that work with a checkpoint of it."""
    checkpoint = shlex.quote(short(checkpoint))
    if isinstance(unwrap(runner.model), BaseSelfSupervisor):
        out = shlex.quote(short(Path(runner.work_dir, 'backbone.safetensors')))
        return [f'Next: {tool("export_backbone")} {checkpoint} {out}',
                f'or fine-tune from it: {tool("new")} TASK … --pretrained {checkpoint} on data of your own, or '
                f'PRETRAINED={checkpoint} {tool("train")} CONFIG with a config of ours']
    dumped = Path(runner.work_dir, os.path.basename(runner.cfg.filename or ''))  # has all options in it
    if not dumped.is_file() or any(runner.cfg.get(f'test_{key}') is None for key in ('dataloader', 'cfg', 'evaluator')):
        return []
    lines = [f'Next: {tool("test")} {shlex.quote(short(dumped))} {checkpoint}']
    if task_of(unwrap(runner.model)) and pipeline_of(runner.cfg) is not None:
        lines.append(f'or use it: {tool("predict")} {checkpoint} IMAGES --out found')
    return lines


def tool(name: str) -> str:
    """How a tool of ours is started, the way that this one was."""
    script = Path(sys.argv[0]).with_name(f'{name}.py')
    if Path(sys.argv[0]).suffix != '.py' or not script.is_file():
        return f'coma-mm {name}'
    python = 'python' if shutil.which('python') == sys.executable else short(sys.executable)
    return f'{shlex.quote(python)} {shlex.quote(short(script))}'


def short(path: str | Path) -> str:
    """A path as one would type it here: relative to the working directory if it is in there."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith('..') else relative
