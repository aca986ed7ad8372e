"""From a task and its data to the text of a config and a paragraph about it."""
import inspect
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from coma_mm.datasets.usage import many
from coma_mm.errors import MissingFileError, UserError, choice
from coma_mm.progress import duration
from coma_mm.ranges import above, whole

from .draft import Draft
from .measure import Speed, measure_speed
from .numbers import ARCHS
from .pretrained import backbone_of, check_arch, of_the_weights

TASKS = ('pretrain', 'classification', 'segmentation', 'detection')


class NewConfig(NamedTuple):
    """A config that was written from data.

    Args:
        text (str): Its Python source.
        summary (str): A paragraph: what was found in the data, and what was chosen by it.
    """
    text: str
    summary: str


def new_config(task: str, *, arch: str | None = None, size: int | None = None, epochs: int | None = None, gpus: int = 1,
               hours: float | None = None, pretrained: str | None = None, backbone: dict[str, Any] | None = None,
               measure: bool = True, **data: Any) -> NewConfig:
    """Write a config from data.

    Args:
        task (str): One of `TASKS`.
        arch (str, optional): 'tiny', for a CPU, 'small' or 'base'. Defaults to that of `pretrained`, or else to 'small'.
        size (int, optional): Of the images that are trained on, in px. Defaults to what fits the data.
        epochs (int, optional): Length of the run. Defaults to what fits the data.
        gpus (int): How many there are. Defaults to 1.
        hours (float, optional): The time that the run may take; it is shortened to that. Defaults to no limit.
        pretrained (str, optional): A checkpoint to start from. Defaults to none: from scratch.
        backbone (dict, optional): The settings of its backbone, as a config has them. Defaults to what the config says that
            its run left beside it.
        measure (bool): Whether to measure how long the run takes. Defaults to True.
        **data: Of the task. pretrain: `images`, a folder. classification: `data`, a folder of folders of classes, or of
            train and val with these. segmentation: `images` and `masks`, folders; `classes`, a file of names; `ignore`,
            values; `palette`, a file. detection: `images`, a folder; `train` and `val`, COCO files.

    Returns:
        NewConfig: The text, and a paragraph about it.

    Raises:
        UserError: If the data are not as expected, or something has to be asked for.
    """
    choice('task', task, TASKS)
    if arch is not None:
        choice('--arch', arch, ARCHS)
    for name, value in (('--epochs', epochs), ('--gpus', gpus)):
        if value is not None:
            whole(1).check(name, value)
    if hours is not None:
        above(0).check('--hours', hours)
        if epochs is not None:
            raise UserError('--epochs and --hours are both given: expected the length of the run by one of them')
        if not measure:
            raise UserError('--hours needs the time of an image on this machine; leave out --no-measure')
    if pretrained is not None and not os.path.isfile(os.path.expanduser(pretrained)):
        raise MissingFileError(f'--pretrained {pretrained}: no such file; expected a checkpoint, or leave it out to start '
                               'from scratch')
    own = {}
    if pretrained:
        own = of_the_weights(backbone) if backbone else backbone_of(pretrained)
    plan = _draft_of(task, data)(**data, arch=check_arch(arch, own, pretrained), backbone=own, size=size, epochs=epochs,
                                 gpus=gpus, pretrained=pretrained)
    speed = measure_speed(plan.write(plan.epochs), plan.batch) if measure else None
    if hours is not None:
        _shorten(plan, speed, hours)
    return NewConfig(plan.write(plan.epochs), _summary(plan, speed, pretrained))


def _draft_of(task: str, data: dict[str, Any]) -> Callable[..., Draft]:
    """The function that plans a task, if it takes these data and has all that it needs."""
    draft = import_module(f'{__package__}.{task}').draft
    known = {name: one for name, one in inspect.signature(draft).parameters.items() if one.kind is not one.KEYWORD_ONLY}
    for name in data:
        choice(f'new {task}: option', name, known)
    for name, one in known.items():
        if one.default is one.empty and data.get(name) is None:
            raise UserError(f'new {task}: --{name} is missing; it says where the data are')
    return draft


def _shorten(plan: Draft, speed: Speed, hours: float) -> None:
    """Shorten a run to some hours, in place."""
    possible = int(hours * 3600 / (speed.per_image * plan.images / plan.gpus))
    if possible < 1:
        raise UserError(f'--hours {hours:g}: an epoch of {plan.images} images takes about '
                        f'{duration(speed.per_image * plan.images / plan.gpus)} on this machine; give more hours, a '
                        'smaller --size, or --arch tiny')
    if possible < plan.epochs:
        plan.epochs, plan.reason = possible, f'all that {hours:g} h have room for, instead of {plan.epochs}'


def _summary(plan: Draft, speed: Speed | None, pretrained: str | None) -> str:
    start = f'from {pretrained}' if pretrained else 'from scratch'
    batches = plan.update // (plan.batch * plan.gpus)
    shared = [f'{batches} batches of {plan.batch}'] * (batches > 1) + [f'{plan.gpus} GPUs'] * (plan.gpus > 1)
    shared = f' ({", ".join(shared)})' if shared else ''
    length = f'{plan.epochs} epoch{"s" * (plan.epochs > 1)} ({plan.reason})'
    line = f'{plan.what}: {plan.model}, {start}; update {plan.update}{shared}, {plan.rate}, {length}'
    if speed:
        seconds = speed.per_image * plan.images * plan.epochs / plan.gpus
        line += f', about {duration(seconds)} on this machine: measured over {many(speed.iterations, "iteration")}'
    return '. '.join([line, *plan.notes]) + '.'
