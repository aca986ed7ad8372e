"""Values of a config that are of a wrong type or outside their range, named before anything is built.

The libraries take most of them in silence: a negative `max_norm` of `clip_grad` turns gradients around, an interval of 0 is
never, and the text 'False' is true.
"""
import inspect
import math
import re
from collections.abc import Collection, Iterator
from fnmatch import translate
from functools import cache
from typing import Any, NamedTuple

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from coma_mm.config_tree import type_name
from coma_mm.errors import UserError
from coma_mm.ranges import SEED, SHARE, SWITCH, Values, above, each, hint, number, spelt, steps, whole

from .registered import registered

NEVER = ((-1, 'never'), )
ALL = ((-1, 'all'), )
TABLE = (
    # The config itself, and what mmengine's runner takes.
    ('', 'auto_scale_lr custom_imports data_preprocessor default_hooks env_cfg log_processor model optim_wrapper randomness '
     'test_cfg test_dataloader train_cfg train_dataloader tta_model val_cfg val_dataloader visualizer', Values(dict)),
    ('', 'custom_hooks tta_pipeline', Values(list)),
    ('', 'default_scope load_from probe_root work_dir', Values(str)),
    ('', 'resume', SWITCH),
    ('', 'param_scheduler val_evaluator test_evaluator', Values((dict, list))),
    ('', 'compile', Values((bool, dict))),
    ('randomness', 'seed', SEED),
    ('randomness', 'deterministic diff_rank_seed', SWITCH),
    ('env_cfg', 'cudnn_benchmark', SWITCH),
    ('env_cfg', 'resource_limit', whole(1)),
    ('env_cfg.mp_cfg', 'opencv_num_threads', whole(0)),
    ('auto_scale_lr', 'base_batch_size', whole(1)),
    ('auto_scale_lr', 'enable', SWITCH),
    ('log_processor', 'window_size', steps(1)),
    ('log_processor', 'num_digits', whole(0)),
    ('log_processor', 'by_epoch', SWITCH),
    ('train_cfg', 'max_epochs max_iters val_interval', steps(1)),
    ('train_cfg', 'val_begin', steps(0)),
    ('train_cfg val_cfg test_cfg', 'by_epoch fp16', SWITCH),
    # Data.
    ('*_dataloader', 'batch_size num_batch_per_epoch prefetch_factor', whole(1)),
    ('*_dataloader', 'num_workers', whole(0, also=(('auto', 'as many as the machine has cores for'), ))),
    ('*_dataloader', 'timeout', number(0)),
    ('*_dataloader', 'drop_last persistent_workers pin_memory', SWITCH),
    ('*_dataloader.sampler', 'seed', whole(0)),
    ('*_dataloader.sampler', 'shuffle round_up', SWITCH),
    ('*_dataloader*', 'wait_for_storage', number(0)),
    ('RepeatDataset', 'times', whole(1)),
    ('*data_preprocessor *DataPreProcessor *DataPreprocessor Normalize', 'std', each(above(0))),
    ('*data_preprocessor *DataPreProcessor *DataPreprocessor Normalize', 'mean', each(number())),
    ('*data_preprocessor *DataPreProcessor *DataPreprocessor', 'pad_size_divisor', whole(1)),
    ('*MaskSampler', 'ratio', above(0, 1, below=True)),
    ('PatchMask', 'patch_size unit', whole(1)),
    ('*_dataloader.*', 'prob erase_prob flip_prob', each(SHARE)),
    ('RandomResizedCrop LoadRandomResizedCrop', 'scale', each(whole(1))),
    ('RandomResizedCrop LoadRandomResizedCrop', 'crop_ratio_range', each(above(0, 1), 2)),
    ('RandomResizedCrop LoadRandomResizedCrop', 'aspect_ratio_range', each(above(0), 2)),
    ('*_dataloader.*', 'scale crop_size', each(number())),
    ('Mixup CutMix', 'alpha', above(0)),
    ('*data_preprocessor.batch_augments', 'probs', each(SHARE)),
    # Optimisers and their wrappers.
    ('optim_wrapper*', 'paramwise_cfg clip_grad optimizer', Values(dict)),
    ('optim_wrapper*', 'loss_scale', each(above(0, also=(('dynamic', 'found while it trains'), )))),
    ('optim_wrapper*', 'accumulative_counts', whole(1, also=(('auto', 'as many as base_batch_size needs'), ))),
    ('optim_wrapper*.clip_grad', 'max_norm clip_value', above(0, also=((math.inf, 'no limit'), ))),
    ('optim_wrapper*.clip_grad', 'norm_type', above(0, also=((math.inf, 'the largest'), ('inf', 'the largest')))),
    ('optim_wrapper*.clip_grad', 'error_if_nonfinite', SWITCH),
    ('optim_wrapper*.optimizer', 'lr weight_decay eps', each(number(0))),
    ('optim_wrapper*.optimizer', 'momentum', number(0, 1, below=True)),
    ('Adam AdamW NAdam RAdam Adamax Lamb', 'betas', each(number(0, 1, below=True), 2)),
    ('optim_wrapper*.optimizer', 'betas', each(number(0, 1, below=True))),
    ('optim_wrapper*.paramwise_cfg', 'layer_decay_rate decay_rate', above(0, 1)),
    ('optim_wrapper*.paramwise_cfg', 'num_layers', whole(1)),
    ('optim_wrapper*.paramwise_cfg optim_wrapper*.paramwise_cfg.*',
     'lr_mult decay_mult bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult dwconv_decay_mult dcn_offset_lr_mult',
     number(0)),
    # Schedules. Times may be parts of an epoch where they are converted to iterations.
    ('param_scheduler*', 'T_max total_steps step_size periods', each(above(0))),
    ('param_scheduler*', 'begin milestones', each(number(0))),
    ('param_scheduler*', 'end', above(0)),
    ('param_scheduler*', 'start_factor', above(0, 1)),
    ('param_scheduler*', 'end_factor factor pct_start eta_min_ratio', SHARE),
    ('param_scheduler*', 'eta_min min_value patience cooldown threshold', each(number(0))),
    ('param_scheduler*', 'gamma power eta_max div_factor final_div_factor', each(above(0))),
    ('param_scheduler*', 'restart_weights', each(number(0))),
    ('param_scheduler*', 'by_epoch convert_to_iter_based verbose', SWITCH),
    # Hooks.
    ('EvaluationModelHook FiniteHook LossSpikeHook BadImageHook LoggerHook', 'interval interval_exp_name max_skips window',
     whole(1)),
    ('LossSpikeHook', 'factor', above(1)),
    ('LossSpikeHook', 'max_rollbacks', whole(0)),
    ('*CheckpointHook', 'max_keep_ckpts', whole(1, also=ALL)),
    ('*CheckpointHook', 'save_begin', steps(0)),
    ('*Hook', 'interval', steps(1, also=NEVER)),
    ('EMAHook', 'momentum', above(0, 1, below=True)),
    ('EMAHook', 'begin_iter begin_epoch', whole(0)),
    ('EarlyStoppingHook', 'patience', whole(1)),
    ('EarlyStoppingHook', 'min_delta', number(0)),
    # Models.
    ('CoMA', 'momentum', number(0, 1, below=True)),
    ('CoMA', 'end_momentum', number(0, 1)),
    ('CoMA', 'latent_weight', above(0)),
    ('CoMA', 'pixel_weight', number(0)),
    ('model*init_cfg*', 'in_channels', Values(str)),
    ('DyViT', 'frozen_stages', whole(-1, 3)),
    ('model*', 'drop_path_rate drop_rate attn_drop_rate dropout drop_prob', each(number(0, 1, below=True))),
    ('model*', 'dropout_ratio', number(0, 1, below=True, also=((-1, 'none'), ))),
    ('model*', 'depths', each(whole(0))),
    ('model*', 'depth dims num_heads in_channels out_channels channels feat_channels embed_dims img_size patch_size',
     each(whole(1))),
    ('model*', 'mlp_ratio', each(above(0))),
    ('model*', 'out_indices', each(whole())),
    ('model*', 'momentum base_momentum', number(0, 1)),
    ('VGG', 'num_classes', whole(1, also=((-1, 'none'), ))),
    ('model*', 'num_classes', whole(1)),
    ('model*', 'label_smooth_val label_smoothing', number(0, 1, below=True)),
    ('model* *evaluator*', 'topk', each(whole(1))),
    ('*Loss', 'loss_weight', number(0)),
    ('model*', 'score_thr iou_threshold', SHARE),
    ('model*', 'max_per_img', whole(1, also=ALL)),
    ('model*', 'nms_pre', whole(0, also=ALL)),
    ('model* *evaluator*', 'ignore_index', whole()),
    ('AnchorGenerator', 'scales ratios strides', each(above(0))),
    ('MaxIoUAssigner', 'pos_iou_thr neg_iou_thr min_pos_iou', each(SHARE)),
)
"""Where (the place of a dict in the config, or its type), which keys, and what they hold; the first line that fits counts.

A number that is missing here is not checked. Lists and `None` are the libraries' business, but where a line says `each`.
"""
LIBRARIES = {'coma_mm', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'mmseg', 'torch', 'torchvision'}
"""Whose settings the table is about: in a class of somebody else's `interval` may be seconds, and `depth` a word."""


@cache
def _rows() -> dict[str, list[tuple[re.Pattern, Values]]]:
    """The table by key."""
    rows = {}
    for places, keys, values in TABLE:
        pattern = re.compile('|'.join(translate(place) for place in places.split(' ')))
        for key in keys.split():
            rows.setdefault(key, []).append((pattern, values))
    return rows


def _values(place: str, kind: str, key: str) -> Values | None:
    for pattern, values in _rows().get(key, ()):
        if pattern.match(place) or kind and pattern.match(kind):
            return values
    return None


def dicts(cfg: Any, place: str = '') -> Iterator[tuple[str, dict]]:
    """All dicts in nested dicts and lists with their places, 'param_scheduler.1'; the outermost has none."""
    if isinstance(cfg, dict):
        yield place, cfg
    items = cfg.items() if isinstance(cfg, dict) else enumerate(cfg) if isinstance(cfg, (list, tuple)) else ()
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from dicts(value, f'{place}.{key}' if place else str(key))


def check_values(cfg: Config, path: str = '', but: Collection[str] = ()) -> list[str]:
    """Check the values of a config, at any depth: those of `TABLE`, and texts in the place of numbers and switches.

    Args:
        cfg (Config): The config.
        path (str): What to call it in messages. Defaults to ''.
        but (Collection[str]): Dotted keys not to look at, since others come in their place. Defaults to none.

    Returns:
        list[str]: One line of warning for each learning rate of 0.

    Raises:
        UserError: Naming the first value that there may not be.
    """
    warnings, others = [], ()  # the places of what is no library's
    scope = cfg.get('default_scope')
    for place, one in dicts(dict(cfg.items())):
        if any(f'{place}.'.startswith(f'{key}.') for key in but):
            continue
        kind, classes = (type_name(one), _classes(one.get('type'), scope)) if place else ('', [])
        arguments = _arguments(classes)
        known = any(map(_is_of_library, classes))
        if classes and not known:
            others = (*others, f'{place}.')
        is_other = not known and f'{place}.'.startswith(others)
        for key, value in one.items():
            name = f'{place}.{key}' if place else key
            if value is None or name in but:
                continue
            values = not is_other and _values(place, kind, key) or _of_argument(value, arguments.get(key))
            if values and (wrong := values.wrong(value, name)):
                raise UserError(f'{path}: {wrong[0]}={wrong[1]!r}: expected {values}{hint(wrong[1], values)}')
            if key == 'lr' and value == 0 and re.fullmatch(r'optim_wrapper(\.\w+)?\.optimizer', place):
                warnings.append(f'{path}: {name}=0: nothing will be learnt at this rate')
    return warnings


class _Argument(NamedTuple):
    """What an argument of a class is.

    Args:
        values (Values): A number or a switch.
        exact (bool): Whether that is sure: the class is ours and says so. Else it may also take something else.
    """
    values: Values
    exact: bool


def _of_argument(value: Any, argument: _Argument | None) -> Values | None:
    """What an argument that has no line in the table should be, if a value can be nothing that it is."""
    if argument is None:
        return None
    wrong = isinstance(value, str) and spelt(value) is not None or isinstance(value, float) and math.isnan(value)
    return argument.values if argument.exact or wrong else None


@cache
def _registries() -> list[Registry]:
    return [one for one in vars(mmengine.registry).values() if isinstance(one, Registry)]


def _classes(kind: Any, scope: str | None) -> list[type]:
    """The class of a `type`, or all that are registered under its name."""
    found = {registered(kind, registry, scope) for registry in _registries()} if isinstance(kind, str) else [kind]
    return [one for one in found if inspect.isclass(one)]


def _is_of_library(kind: type) -> bool:
    return kind.__module__.partition('.')[0] in LIBRARIES


def _arguments(classes: list[type]) -> dict[str, _Argument]:
    """What arguments of a class, or of all classes of a name, are numbers or switches."""
    first, *others = map(_numbers, classes or [object])
    return {key: argument for key, argument in first.items() if all(other.get(key) == argument for other in others)}


@cache
def _numbers(kind: type) -> dict[str, _Argument]:
    """What arguments of a class are numbers or switches, by annotation or by default."""
    try:
        parameters = inspect.signature(kind.__init__).parameters
    except (TypeError, ValueError):
        return {}
    found = {}
    for key, parameter in parameters.items():
        said = parameter.annotation in (bool, int, float)
        one = parameter.annotation if said else type(parameter.default)
        if one in (bool, int, float):
            found[key] = _Argument(_OF_KIND[one], said and kind.__module__.startswith('coma_mm.'))
    return found


_OF_KIND = {bool: SWITCH, int: whole(), float: number()}
