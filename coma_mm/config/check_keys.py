"""Top-level keys of a config that nothing reads: misspelt, left over from the old config format, or mistaken.

mmengine takes the keys that it knows and passes over the others in silence.
"""
import ast
import inspect
import re
from contextlib import suppress
from typing import Any

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner

from coma_mm.config_tree import walk
from coma_mm.errors import UserError, nearest

# Read by the runners through `cfg`, by `Config.fromfile`, by the tools, or by tools of the libraries.
_READ_ELSEWHERE = {
    'activation_checkpointing', 'bands', 'compile', 'custom_imports', 'efficient_conv_bn_eval', 'env_cfg', 'epochs',
    'find_unused_parameters', 'iters', 'mask_pair', 'mask_sampler', 'mask_unit', 'model_wrapper_cfg', 'moments',
    'probe_root', 'runner_type', 'strategy', 'sync_bn', 'tta_model', 'tta_pipeline', 'work_dir'
}
KNOWN_KEYS = (set(inspect.signature(Runner).parameters) | set(inspect.signature(FlexibleRunner).parameters)
              | _READ_ELSEWHERE) - {'cfg'}

REPLACED_KEYS = dict(
    amp="optim_wrapper=dict(type='AutocastOptimWrapper', ...), or --amp",
    fp16="optim_wrapper=dict(type='AutocastOptimWrapper', ...), or --amp",
    optimizer='optim_wrapper=dict(optimizer=dict(...))',
    optimizer_config='optim_wrapper=dict(clip_grad=..., accumulative_counts=...)',
    lr_config='param_scheduler',
    momentum_config='param_scheduler',
    runner='train_cfg=dict(by_epoch=..., max_epochs or max_iters=...)',
    total_epochs='epochs=..., which the schedules follow, or train_cfg=dict(by_epoch=True, max_epochs=...)',
    max_epochs='epochs=..., which the schedules follow, or train_cfg=dict(by_epoch=True, max_epochs=...)',
    max_iters='iters=..., which the schedules follow, or train_cfg=dict(by_epoch=False, max_iters=...)',
    batch_size='train_dataloader=dict(batch_size=...)',
    lr='optim_wrapper=dict(optimizer=dict(lr=...))',
    data='train_dataloader, val_dataloader and test_dataloader',
    evaluation='val_cfg, val_evaluator and train_cfg=dict(val_interval=...)',
    checkpoint_config='default_hooks=dict(checkpoint=...)',
    log_config='default_hooks=dict(logger=...)',
    workflow='train_cfg=dict(val_interval=...)',
    resume_from='resume=True with load_from',
    seed='randomness=dict(seed=...)',
    deterministic='randomness=dict(deterministic=...)',
    dist_params='env_cfg=dict(dist_cfg=...)',
    cudnn_benchmark='env_cfg=dict(cudnn_benchmark=...)',
)
"""What took over the job of keys of the old format, and of keys that people expect at the top level."""


# What the libraries' constructors of optimisers look up in paramwise_cfg; they pass over other keys.
_PARAMWISE_KEYS = {
    'bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys', 'dcn_offset_lr_mult', 'decay_rate',
    'decay_type', 'dwconv_decay_mult', 'flat_decay_mult', 'layer_decay_rate', 'norm_decay_mult', 'num_layers'
}


def check_keys(cfg: Config, path: str = '') -> list[str]:
    """Find the top-level keys of a config that nothing reads.

    A key is read if mmengine or a tool knows it, or if the config's files use it as a variable. Misspelt keys and
    keys of the old format are reported wherever they are; other unread keys only in the config itself, because a base
    may hold variables for some of its heirs, and not where variables are not used at all, as in a config that a run
    dumped.

    Args:
        cfg (Config): The config, as `Config.fromfile` gives it.
        path (str): What to call it in messages. Defaults to ''.

    Returns:
        list[str]: One line of warning for each key that nothing reads.

    Raises:
        UserError: If such a key is a known key misspelt.
    """
    *bases, own = _files(cfg)
    used = variables(cfg)
    inherited = _names('\n'.join(bases), ast.Store) - _names(own, ast.Store)
    warnings = []
    for key, value in cfg.items():
        if key in KNOWN_KEYS or key in used or key.startswith('_'):
            continue
        # *_pipeline is the customary name of a variable, and near to tta_pipeline.
        if not key.endswith('_pipeline') and (close := nearest(key, KNOWN_KEYS, cutoff=0.85)):
            raise UserError(f'{path}: nothing reads the key {key!r}; did you mean {close!r}?')
        if not used and (key not in REPLACED_KEYS or _may_be_variable(value, cfg, key)):
            continue
        if key in REPLACED_KEYS:
            warnings.append(f'{path}: nothing reads the key {key!r}; what you want is {REPLACED_KEYS[key]}')
        elif key not in inherited:
            hint = nearest(key, KNOWN_KEYS | REPLACED_KEYS.keys(), cutoff=0.75)
            warnings.append(f'{path}: nothing reads the key {key!r}' + (f'; did you mean {hint!r}?' if hint else ''))
    wrapper = cfg.get('optim_wrapper')
    for key in (wrapper.get('paramwise_cfg') if isinstance(wrapper, dict) else None) or ():
        if key not in _PARAMWISE_KEYS and (close := nearest(key, _PARAMWISE_KEYS, cutoff=0.85)):
            raise UserError(f'{path}: nothing reads the key optim_wrapper.paramwise_cfg.{key}; did you mean {close!r}?')
    return warnings


def check_options(cfg: Config, options: dict[str, Any]) -> list[str]:
    """Find keys of `--cfg-options` that are new to the config and spelt almost like one that is there.

    Nobody may read such a key: parts of configs (detectors' `train_cfg` and `test_cfg`) are looked up key by key.

    Args:
        cfg (Config): The config before the options are merged.
        options (dict): Dotted keys and their values.

    Returns:
        list[str]: One line of warning for each such key.
    """
    warnings = []
    for dotted in options:
        place, path = dict(cfg.items()), []
        for key in dotted.split('.'):
            if not isinstance(place, dict):
                break
            if key not in place:
                if path and (close := nearest(key, place, cutoff=0.85)):
                    warnings.append(f'--cfg-options {dotted}: {".".join(path)} has no key {key!r} so far, it becomes a '
                                    f'new one; did you mean {close!r}?')
                break
            place = place[key]
            path.append(key)
    return warnings


def variables(cfg: Config) -> set[str]:
    """The top-level keys that a config's files use as variables."""
    return _names('\n'.join(_files(cfg)), ast.Load) & cfg.keys()


def assigned(cfg: Config, key: str) -> list[Any]:
    """The values that a config's files give a top-level key, as far as they are written there, the base's first."""
    values = []
    for tree in trees(cfg):
        with suppress(ValueError):  # computed
            values += [ast.literal_eval(node.value) for node in tree.body if targets(node) == [key]]
    return values


def targets(node: ast.stmt) -> list[str | None]:
    """The names that a statement assigns a value."""
    return [getattr(one, 'id', None) for one in node.targets] if isinstance(node, ast.Assign) else []


def trees(cfg: Config) -> list[ast.Module]:
    """A config's files, its own last."""
    found = []
    for text in _files(cfg):
        with suppress(SyntaxError):  # another format
            found.append(ast.parse(text))
    return found


def _files(cfg: Config) -> list[str]:
    """The text of a config's files, its own last; mmengine joins them below a line with the path of each."""
    return re.split(r"""^[^'"#\n]+\.py$""", cfg.text, flags=re.MULTILINE)


def _names(text: str, context: type[ast.expr_context]) -> set[str]:
    """The variables that Python text reads (`ast.Load`; `x` as well as `_base_.x`) or sets (`ast.Store`)."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):  # another format, e.g. YAML: every word may be one
        return set(re.findall(r'\w+', text))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, context)}


def _may_be_variable(value: Any, cfg: Config, key: str) -> bool:
    """Whether a value in a dumped config was perhaps a variable's: a number or name, or found elsewhere too."""
    if isinstance(value, bool):
        return False
    others = walk([other for name, other in cfg.items() if name != key])
    return not isinstance(value, dict) or any(one == value for one in others)
