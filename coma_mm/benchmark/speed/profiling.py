"""Where the time of a training step goes, by torch's profiler and labels that are put around modules from outside."""
from collections import defaultdict
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from coma_mm.models import DyViT

PREFIX = 'part: '


def profile_step(step, device, repeats=3, trace=None):
    """Profile a training step.

    An operator's time is its own, without what it calls. It belongs to the innermost labelled module that it runs in; in
    the backward pass to the module whose operator in the forward pass made its graph node, which autograd's sequence
    numbers tell. On a GPU it is the time of the kernels.

    Args:
        step (TrainingStep): Warm.
        device (torch.device): Where it runs.
        repeats (int): Steps. Defaults to 3.
        trace (str, optional): File to write the trace to, for chrome://tracing or Perfetto. Defaults to None.

    Returns:
        tuple[dict, list]: By part: seconds per step in the forward pass and in the backward pass; and (operator, calls
        per step, seconds per step), the longest first.
    """
    undo = _label_parts(step.model)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == 'cuda')
    try:
        with profile(activities=activities) as profiler:
            for _ in range(repeats):
                step()
            if device.type == 'cuda':
                torch.cuda.synchronize(device)
    finally:
        for function in undo:
            function()
    if trace:
        Path(trace).absolute().parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    events = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CPU]
    made_by = {event.sequence_nr: event for event in sorted(events, key=lambda event: event.time_range.start)
               if event.sequence_nr >= 0 and not _ancestor(event, 'autograd::')}
    parts = defaultdict(lambda: [0., 0.])
    operators = defaultdict(lambda: [0, 0.])
    for event in events:
        seconds = _own_time(event, device) / 1e6 / repeats
        backward = _ancestor(event, 'autograd::')
        source = made_by.get(backward.sequence_nr) if backward else event
        parts[_part(source)][bool(backward)] += seconds
        operators[event.name][0] += 1 / repeats
        operators[event.name][1] += seconds
    for name in [name for name in operators if name.startswith(PREFIX)]:
        del operators[name]
    longest = sorted(operators.items(), key=lambda item: -item[1][1])
    return dict(parts), [(name, calls, seconds) for name, (calls, seconds) in longest]


def _own_time(event, device):
    """float: Microseconds in an operator itself."""
    if device.type == 'cuda':
        # The span of a label on the GPU is among its kernels, by the label's name.
        return sum(kernel.duration for kernel in event.kernels if kernel.name != event.name)
    return event.self_cpu_time_total


def _ancestor(event, prefix):
    """FunctionEvent | None: The innermost event, from this one outwards, whose name starts so."""
    while event and not event.name.startswith(prefix):
        event = event.cpu_parent
    return event


def _part(event):
    found = event and (_ancestor(event, PREFIX) or _ancestor(event, 'Optimizer.'))
    if not found:
        return 'other'
    return found.name.removeprefix(PREFIX) if found.name.startswith(PREFIX) else 'optimiser'


def _label_parts(model):
    """list[Callable]: Labels the parts of a pre-training model; what it returns takes the labels away."""
    modules = [(model.data_preprocessor, 'normalisation'), (model.backbone, 'backbone, the rest'), (model.neck, 'neck')]
    if isinstance(model.backbone, DyViT):
        modules.append((model.backbone.stem, 'stem'))
        modules += [(block, f'stage {i + 1}') for i, stage in enumerate(model.backbone.stages) for block in stage]
    if hasattr(model, 'decoder'):
        modules.append((model.decoder, 'decoder'))
    copies = [getattr(model, 'evaluation', {}), *getattr(model, '_rounded', ())]
    modules += [(module, 'evaluation branch') for copy in copies for module in copy.values()]
    undo = [handle.remove for module, label in modules for handle in _label_module(module, label)]
    methods = [(model.head, 'patch_errors', 'loss'), (model.head, 'loss', 'loss'), (model, 'sync_evaluation', 'weight copy')]
    for owner, name, label in methods:
        if hasattr(owner, name):
            setattr(owner, name, record_function(PREFIX + label)(getattr(owner, name)))
            undo.append(lambda owner=owner, name=name: delattr(owner, name))
    return undo


def _label_module(module, label):
    ranges = []

    def enter(*_):
        ranges.append(record_function(PREFIX + label))
        ranges[-1].__enter__()

    def leave(*_):
        ranges.pop().__exit__(None, None, None)

    return module.register_forward_pre_hook(enter), module.register_forward_hook(leave)
