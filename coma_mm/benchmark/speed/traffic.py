"""Kernels, bytes and operations of a step on a GPU, counted without one."""
import fnmatch
from collections import defaultdict
from unittest import mock

import torch

from coma_mm.errors import UserError
from coma_mm.markdown import markdown_table

from . import contestants
from .fake_cuda import Trace, allow_backward, fake_cuda, fake_like, to_fake

CARDS = dict(H100=3.0e12, H200=4.3e12)
"""Bytes per second that a card's memory moves at best in practice."""
FLOPS = 650e12
"""Operations per second of bf16 matrix products that both do at best in practice."""
HEADER = ['step', 'part', 'kernels', 'GB', 'TFLOP', *(f'{card}, ms' for card in CARDS),
          *(f'{card}, images/s at most' for card in CARDS)]


def run(args):
    """Print a table, and on request the operators.

    Raises:
        UserError: If no contestant has one of the names.
    """
    found = [one for one in contestants.contestants()
             if one.group in ('pretrain', 'inference') and not one.needs_cuda
             and any(fnmatch.fnmatch(one.name, pattern) for pattern in args.only)]
    if not found:
        raise UserError(f'--only {" ".join(args.only)}: no contestant of the groups pretrain and inference has such a name')
    whole = allow_backward()
    if not whole:
        print('No C++ compiler (g++) was found: of training steps the forward pass is counted.')
    setting = contestants.Setting(args.arch, torch.device('cpu'), args.size, args.batch_size, args.precision)
    rows, operators = [], []
    for one in found:
        kernels = trace_step(one, setting, whole).kernels
        phases = dict.fromkeys(kernel.phase for kernel in kernels)
        for phase in (*phases, 'all') if len(phases) > 1 else phases:
            chosen = [kernel for kernel in kernels if phase in ('all', kernel.phase)]
            ends = phase == 'all' or len(phases) == 1
            rows.append([one.name, phase, *_numbers(chosen, args.batch_size if ends else None)])
        operators += [[one.name, *line] for line in _longest(kernels, args.operators)]
    print(markdown_table(HEADER, rows, numbers=len(HEADER) - 2, aligned=True))
    if operators:
        print(markdown_table(['step', 'part', 'operator', *HEADER[2:7]], operators, numbers=5, aligned=True))


def trace_step(contestant, setting, whole=True):
    """Trace: The operators of a step after the first one.

    Args:
        contestant (Contestant): Of the group pretrain or inference.
        setting (Setting): On the CPU.
        whole (bool): Whether backward passes run, see `allow_backward`. Defaults to True.
    """
    with fake_cuda() as mode:

        def training_step(model, setting, data, optim_wrapper=None):
            to_fake(model.train(), mode)
            with mode:
                wrapper = contestants.optim_wrapper_of(model, setting)
            return contestants.TrainingStep(model, wrapper, fake_like(data, mode))

        def inference_step(backbone, setting):
            to_fake(backbone.eval(), mode)
            images = fake_like(torch.empty(setting.batch, 3, setting.size, setting.size, device='meta'), mode)
            return contestants.InferenceStep(backbone, images, setting.precision, backbone)

        with mock.patch.multiple(contestants, _training_step=training_step, _inference_step=inference_step):
            step = contestant.build(setting)
        trace = Trace()
        if not isinstance(step, contestants.TrainingStep):
            with mode, trace:
                step()
        elif not whole:
            with mode, trace, step.optim_wrapper.optim_context(step.model):
                step.model(**step.model.data_preprocessor(step.data, True), mode='loss')
        else:
            wrapper = step.optim_wrapper
            backward, update = wrapper.backward, wrapper.step

            def enter(phase, then):
                def work(*args, **kwargs):
                    trace.phase = phase
                    return then(*args, **kwargs)
                return work

            with mode:
                step()  # makes the optimiser's state
            wrapper.backward, wrapper.step = enter('backward', backward), enter('update', update)
            with mode, trace:
                step()
        return trace


def _seconds(kernels, bandwidth):
    return sum(max(kernel.traffic / bandwidth, kernel.flops / FLOPS) for kernel in kernels)


def _numbers(kernels, images):
    """list[str]: The cells of some kernels; images per second where a number of images is given."""
    seconds = [_seconds(kernels, bandwidth) for bandwidth in CARDS.values()]
    return [str(len(kernels)), f'{sum(kernel.traffic for kernel in kernels) / 1e9:.1f}',
            f'{sum(kernel.flops for kernel in kernels) / 1e12:.2f}', *(f'{1e3 * one:.1f}' for one in seconds),
            *(f'{images / one:.0f}' if images else '' for one in seconds)]


def _longest(kernels, number):
    """list[list[str]]: The operators that take longest on the first card, with part, name and numbers."""
    groups = defaultdict(list)
    for kernel in kernels:
        groups[kernel.phase, kernel.name].append(kernel)
    bandwidth = next(iter(CARDS.values()))
    longest = sorted(groups.items(), key=lambda item: -_seconds(item[1], bandwidth))[:number]
    return [[*names, *_numbers(group, None)[:3 + len(CARDS)]] for names, group in longest]
