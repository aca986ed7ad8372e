"""Settings that others follow: a run's length, the mask, the image's size, the backbone's widths and patch.

Each is written in one place, in a config or in `--cfg-options`, and what depends on it is set here. Whatever else a
config or an option says of a dependent value, other than what it had been before, stays.
"""
import ast
import inspect
import math
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.optim.scheduler.param_scheduler import INF
from mmengine.registry import MODELS

from coma_mm.config_tree import find_types, type_name, walk
from coma_mm.errors import UserError

from .check_keys import assigned, targets, trees, variables

WIDTH_FIRST = ('CenterCrop', 'RandomChoiceResize', 'RandomResize', 'Resize')
"""mmcv's steps, which take a size of two numbers as (W, H); others take (H, W)."""
LENGTHS = dict(epochs='max_epochs', iters='max_iters')
"""What the length of a run is called, here and in `train_cfg`."""


class Settings(NamedTuple):
    """What others follow, as a config has it; None where it has none.

    Args:
        sampler (dict, optional): The key `mask_sampler`: of every `PatchMask`.
        unit (int, optional): The key `mask_unit`: of every `PatchMask`.
        pair (str, optional): The key `mask_pair`: of every `PatchMask`.
        size (int | tuple[int, int], optional): The key `size`: side, or height and width, in px to which the data pipelines
            bring images.
        patch (int, optional): Side of the backbone's patch in px: of every `PatchMask`, of decoder and head.
        widths (tuple[int, ...], optional): Channels of the backbone's outputs: of the neck's and the heads' inputs.
    """
    sampler: dict | None = None
    unit: int | None = None
    pair: str | None = None
    size: int | tuple[int, int] | None = None
    patch: int | None = None
    widths: tuple[int, ...] | None = None


def settings(cfg: Config) -> Settings:
    """Settings: What others follow in a config."""
    kind, backbone = _backbone(cfg)
    widths = patch = None
    with suppress(Exception):  # a wrong setting of the backbone: its own message comes when it is built
        widths = kind.output_channels(**backbone)
        patch = backbone.get('patch_size', inspect.signature(kind).parameters['patch_size'].default)
    return Settings(cfg.get('mask_sampler'), cfg.get('mask_unit'), cfg.get('mask_pair'), cfg.get('size'), patch, widths)


def follow(cfg: Config, before: Settings | None = None, options: Container[str] = ()) -> None:
    """Set what follows, in place.

    Args:
        cfg (Config): The config.
        before (Settings, optional): What `settings` gave before options were merged: what had these values follows.
            Defaults to None: there were none, and what has no value yet follows; the mask sampler is put everywhere.
        options (Container[str]): The dotted keys that were merged; of parts of the model they win. Defaults to ().

    Raises:
        UserError: If a setting is there, or changes, and nothing can follow it.
    """
    now = settings(cfg)
    for name in ('mask_unit', 'size'):
        is_size = name == 'size' and isinstance(cfg.get(name), (list, tuple)) and len(cfg[name]) == 2
        if before and name in options and not all(map(_is_whole, cfg[name] if is_size else [cfg[name]])):
            raise UserError(f'{name}={cfg[name]!r}: expected a whole number of px, 1 or more'
                            + (', or (height, width)' if name == 'size' else ''))
    _follow_masks(cfg, before, now)
    if before is None:
        return
    if now.size != before.size:
        _follow_size(cfg, before.size, now.size)
    _follow_backbone(cfg, before, now, options)


def _backbone(cfg: Config) -> tuple[type | None, dict[str, Any]]:
    """The class of a config's backbone and its settings, if it can tell its outputs."""
    backbone = (cfg.get('model') or {}).get('backbone')
    if not isinstance(backbone, dict):
        return None, {}
    kind = backbone.get('type')
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            kind = registry.get(kind)
    own = {key: value for key, value in backbone.items() if key != 'type'}
    return (kind, own) if hasattr(kind, 'output_channels') else (None, {})


def _follow_masks(cfg: Config, before: Settings | None, now: Settings) -> None:
    """Put mask sampler, mask unit and the model's patch into every `PatchMask`, or only where they were put before."""
    steps = list(find_types([cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')], 'PatchMask'))
    if now.sampler is not None and not isinstance(now.sampler, dict):
        raise UserError(f"mask_sampler={now.sampler!r}: expected dict(type='UniformMaskSampler', ratio=0.6) or the like")
    for name, value in (('mask_sampler', now.sampler), ('mask_unit', now.unit), ('mask_pair', now.pair)):
        if value is not None and not steps:
            value = dict(value) if isinstance(value, dict) else value
            raise UserError(f'{name}={value}: the config has no PatchMask to put it into')
    old = before or Settings()
    for step in steps:
        if now.sampler is not None and (before is None or step.get('sampler') in (None, old.sampler)):
            step['sampler'] = dict(now.sampler)
        if now.unit is not None and step.get('unit') in (None, old.unit):
            step['unit'] = now.unit
        if now.pair is not None and step.get('pair') in (None, old.pair):
            step['pair'] = now.pair
        if now.patch is not None and step.get('patch_size') in (None, old.patch):
            step['patch_size'] = now.patch


def follow_own_size(cfg: Config) -> None:
    """Have the data pipelines follow the `size` of a config's files, in place.

    A config that sets it anew keeps the pipelines of the files that it builds on, with their size. And a pair is height
    first, whichever way round the step takes it into which a file has put it. Pipelines that a config writes itself, with
    the old size in them, stay: images may be larger where a model is tested.

    Args:
        cfg (Config): The config as its files have it.

    Raises:
        UserError: If it is no size, and takes the place of one.
    """
    size, loaders = cfg.get('size'), [cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')]
    before = [old for old in assigned(cfg, 'size') if _sides(old) and _sides(old) != _sides(size)]
    if not isinstance(size, int) and not (isinstance(size, (list, tuple)) and len(size) == 2):
        if before and size is not None:
            raise UserError(f'{cfg.filename}: size={size!r}: expected a whole number of px, 1 or more, or (height, width)')
        return
    if len(set(_sides(size))) == 2:
        steps = [(one, key) for one in walk(loaders) for key in ('scale', 'crop_size')
                 if _sides(one.get(key)) == _sides(size)]
        if any(type_name(one) not in WIDTH_FIRST for one, _ in steps):
            for one, key in steps:
                one[key] = _sides(size, one)
    for old in before:
        own = _loaders_with(cfg, old)
        _exchange([cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test') if f'{split}_dataloader' not in own],
                  old, size)


def _loaders_with(cfg: Config, old: int | Sequence[int]) -> set[str]:
    """The data loaders whose pipelines are written in the file that sets the size, or in those on it, with another size."""
    files = trees(cfg)
    since = max((index for index, file in enumerate(files) if ['size'] in map(targets, file.body)), default=0)
    nodes = [node for file in files[since:] for node in ast.walk(file)]
    given = [one for node in nodes for one in _given(node) if one[0] in ('scale', 'crop_size')]
    if not any(_literal(value) in (_sides(old), _sides(old)[::-1]) for _, value in given):
        return set()
    found = set()
    for node in (node for file in files[since:] for node in file.body):
        if any(key == 'pipeline' for one in ast.walk(node) for key, _ in _given(one)) or getattr(
                getattr(node, 'value', None), 'id', None) in found:  # test_dataloader = val_dataloader
            found.update(filter(None, targets(node)))
    return found


def _given(node: ast.AST) -> list[tuple[Any, ast.expr]]:
    """The keys and values of a call of dict, or of a dict in braces."""
    if isinstance(node, ast.Dict):
        return [(getattr(key, 'value', None), value) for key, value in zip(node.keys, node.values, strict=True)]
    return [(node.arg, node.value)] if isinstance(node, ast.keyword) else []


def _literal(value: ast.expr) -> tuple:
    """A size that is written as numbers, as (H, W) or (W, H)."""
    with suppress(ValueError):
        return _sides(ast.literal_eval(value))
    return ()


def _follow_size(cfg: Config, old: int | Sequence[int] | None, new: int | Sequence[int]) -> None:
    """Exchange the image's size in every step of the data pipelines."""
    loaders = [cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')]
    if old is None or not _exchange(loaders, old, new):
        raise UserError(f'size={new}: no step of the data pipelines follows it'
                        + (f' (none has the size {old})' if old else '') + '; change the steps themselves')


def _exchange(place: Any, old: int | Sequence[int], new: int | Sequence[int]) -> bool:
    """Whether an old size was found in nested dicts and lists, and exchanged for a new one."""
    found = [(one, key) for one in walk(place) for key in ('scale', 'crop_size')
             if key in one and _sides(one[key], one) == _sides(old)]
    for one, key in found:
        sides = _sides(_sides(new), one)
        one[key] = new if isinstance(one[key], int) and isinstance(new, int) else sides
    return bool(found)


def _sides(size: Any, step: dict | None = None) -> tuple:
    """A size as (H, W), as a step writes it if one is given; and the way back."""
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (list, tuple)) else ()
    return sides[::-1] if step and type_name(step) in WIDTH_FIRST else sides


def _follow_backbone(cfg: Config, before: Settings, now: Settings, options: Container[str]) -> None:
    """Exchange the backbone's widths and patch in what the model has behind it."""
    for part in ('neck', 'decoder', 'head', 'decode_head', 'auxiliary_head', 'panoptic_head'):
        found = (cfg.get('model') or {}).get(part)
        several = isinstance(found, (list, tuple))
        for index, one in enumerate(found if several else [found]):
            if not isinstance(one, dict):
                continue
            for key in one.keys() & {'in_channels', 'input_features', 'patch_size'}:
                if f'model.{part}.{index}.{key}' not in options and f'model.{part}.{key}' not in options:
                    one[key] = _exchanged(key, one[key], before, now)
            if part == 'neck' and 'out_channels' in one:  # the heads see what the neck makes of it
                return


def _exchanged(key: str, value: int | Sequence[int], before: Settings, now: Settings) -> int | Sequence[int]:
    """int | Sequence[int]: What a value becomes that perhaps was one of the backbone's."""
    if key == 'patch_size':
        return now.patch if now.patch and value == before.patch else value
    if before.widths and now.widths:
        if isinstance(value, (list, tuple)) and tuple(value) == before.widths:
            return type(value)(now.widths)
        if value in before.widths and len(before.widths) == len(now.widths):
            return now.widths[before.widths.index(value)]
        if value == sum(before.widths):  # all of them, side by side
            return sum(now.widths)
    return value


def set_length(cfg: Config, options: Container[str] = ()) -> None:
    """Give a run another length, in place: `epochs` or `iters`, and the schedules follow.

    What ended with the run ends with it again; the times at which schedules change keep their share of it, but a
    warm-up keeps its own length while that is no more than half of the run. What is counted in the other unit stays.

    Args:
        cfg (Config): The config. Keys `epochs` and `iters` of its own, unless its files use them as variables, are taken
            out of it, so that a dumped config is not changed once more.
        options (dict, optional): `--cfg-options`, not merged yet: what they say goes before the config's own keys.
            Defaults to none.

    Raises:
        UserError: If it is no whole number, or the run is counted in the other unit, or has no length at all.
    """
    own = {name: cfg.pop(name) for name in LENGTHS if name in cfg and name not in variables(cfg)}
    given = {name: options[name] for name in LENGTHS if name in options} or own
    if not given:
        return
    text = ' '.join(f'{name}={value}' for name, value in given.items())
    (name, new), *others = given.items()
    if others or not _is_whole(new):
        raise UserError(f'{text}: expected the length of the run as one whole number, epochs=N or iters=N')
    loop = cfg.get('train_cfg') or {}
    counted = [one for one, key in LENGTHS.items() if isinstance(loop.get(key), int)]
    if name not in counted:
        raise UserError(f'{text}: ' + (f'the run is counted in {counted[0]}; set {counted[0]}=N' if counted else
                                       'the config has no train_cfg.max_epochs or train_cfg.max_iters to replace'))
    by_epoch, old = name == 'epochs', loop[LENGTHS[name]]
    loop[LENGTHS[name]] = new
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    checkpoint = checkpoint if isinstance(checkpoint, dict) and checkpoint.get('by_epoch', True) == by_epoch else {}
    for place, key in ((loop, 'val_interval'), (loop, 'val_begin'), (checkpoint, 'interval')):
        if isinstance(place.get(key), int):
            place[key] = min(place[key], new)
    if isinstance(cfg.get('param_scheduler'), dict) and 'type' not in cfg.param_scheduler:  # of several optimisers
        for key, schedules in cfg.param_scheduler.items():
            cfg.param_scheduler[key] = _stretched(schedules, by_epoch, old, new)
    elif cfg.get('param_scheduler'):
        cfg.param_scheduler = _stretched(cfg.param_scheduler, by_epoch, old, new)


def _stretched(schedules: dict | Sequence[dict], by_epoch: bool, old: int, new: int) -> list[dict]:
    """The schedules of an optimiser for a run of another length."""
    schedules = [dict(one) for one in (schedules if isinstance(schedules, (list, tuple)) else [schedules])]
    own = [one for one in schedules if one.get('by_epoch', True) == by_epoch]
    warm = max((one['end'] for one in own if _is_warmup(one) and one.get('end', old) < old), default=0)
    shortened = 2 * warm > new
    short = warm
    if shortened:  # what is converted to iterations may be a part of an epoch
        exact = all(one.get('convert_to_iter_based') for one in own if warm in (one.get('begin', 0), one.get('end')))
        short = max(warm * new / old, 0.5) if exact else round(warm * new / old)

    def at(time: float) -> float:
        """The new time for an old one."""
        if time == warm:
            return short
        if time < warm:
            return round(time * short / warm)
        return max(round(time * new / old), short)

    kept = []
    for one in schedules:
        if one.get('by_epoch', True) != by_epoch:
            kept.append(one)
            continue
        times = {key: one[key] for key in ('begin', 'end') if one.get(key, INF) < INF}
        begin, end = times.get('begin', 0), times.get('end', old)
        first, last = at(begin), at(end)
        if last <= first or shortened and _is_warmup(one) and last - first < 2 and not one.get('convert_to_iter_based'):
            continue  # it has no time; a warm-up of a single step would never reach the full rate
        one.update({key: at(time) for key, time in times.items()})
        if 'milestones' in one:  # counted from the schedule's beginning
            one['milestones'] = _milestones(one['milestones'], end - begin, last - first, new / old)
        for key in {'T_max', 'total_steps'} & one.keys():
            one[key] = last - first if one[key] == end - begin else max(1, round(one[key] * new / old))
        if 'step_size' in one:
            one['step_size'] = max(1, round(one['step_size'] * new / old))
        if 'periods' in one:
            one['periods'] = [max(1, round(period * new / old)) for period in one['periods']]
        kept.append(one)
    return kept


def _is_warmup(schedule: dict) -> bool:
    """Whether a schedule raises the rate at the start of the run."""
    rises = schedule.get('start_factor', 0) < schedule.get('end_factor', 1)
    name = type_name(schedule)
    return not schedule.get('begin') and rises and ('Warmup' in name or name.startswith(('Linear', 'Constant')))


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


def _milestones(milestones: Sequence[int], old: float, new: float, factor: float) -> list[int]:
    """Times of steps, each after the one before and all before the end; the first ones that find no room are
    left out, and what was never reached stays so."""
    times, last = [], 0
    for time in sorted(milestones):
        last = max(round(time * factor), last + 1)
        times.append(last if time < old else max(last, math.ceil(new)))
    bound = new
    for index in reversed(range(len(times))):
        if sorted(milestones)[index] < old:
            times[index] = bound = min(times[index], math.ceil(bound) - 1)
    return [time for time in times if time >= 1]
