"""Settings of hooks that nothing reads, or that lose checkpoints, named before anything is built."""
import inspect
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import HOOKS

from coma_mm.config_tree import type_name
from coma_mm.errors import UserError, nearest

from .registered import parameters, registered

READ_OF_ALL = {'type', 'priority', '_scope_', '_delete_'}
"""Keys of any hook that are not its own."""


def check_hooks(cfg: Config, path: str = '') -> list[str]:
    """Check the keys of a config's hooks, and the names that it gives checkpoints.

    mmengine's `CheckpointHook` takes any key, and passes over what it does not know.

    Args:
        cfg (Config): The config.
        path (str): What to call it in messages. Defaults to ''.

    Returns:
        list[str]: One line of warning for each key of a checkpoint hook that nothing reads.

    Raises:
        UserError: If a key is a known one misspelt, or the hook would not take it; or if all checkpoints had one name.
    """
    warnings = []
    for place, hook in _hooks(cfg):
        kind = hook.get('type')
        kind = registered(kind, HOOKS, cfg.get('default_scope')) if isinstance(kind, str) else kind
        if inspect.isclass(kind):
            warnings += _check_keys(kind, place, hook, path)
        if type_name(hook).endswith('CheckpointHook'):
            _check_names(hook.get('filename_tmpl'), f'{path}: {place}.filename_tmpl')
    return warnings


def _hooks(cfg: Config) -> Iterator[tuple[str, dict]]:
    """The configs of hooks, with their places."""
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict):
            yield f'default_hooks.{name}', hook
    for number, hook in enumerate(cfg.get('custom_hooks') or ()):
        if isinstance(hook, dict):
            yield f'custom_hooks.{number}', hook


def _check_keys(kind: type, place: str, hook: dict, path: str) -> list[str]:
    """Warnings, one line for each key that nothing reads; a hook that hands keys on is left to whoever gets them."""
    keeps_all = 'CheckpointHook' in kind.__name__
    if keeps_all and place.startswith('default_hooks.'):  # the runner takes ours in its place
        kind = HOOKS.get('WholeCheckpointHook') or kind
    takes_all = any(one.kind is one.VAR_KEYWORD for one in inspect.signature(kind).parameters.values())
    if takes_all and not keeps_all:
        return []
    known, warnings = parameters(kind), []
    for key in sorted(hook.keys() - known - READ_OF_ALL):
        close = nearest(key, known, cutoff=0.75 if takes_all else 0.5)
        line = f'{path}: nothing reads the key {place}.{key}' + (f'; did you mean {close!r}?' if close else '')
        if close or not takes_all:
            raise UserError(line)
        warnings.append(line)
    return warnings


def _check_names(template: str | None, name: str) -> None:
    """Raise a UserError if all checkpoints of a run would have the same name."""
    if template is None:
        return
    try:
        differ = template.format(1) != template.format(2)
    except (AttributeError, IndexError, KeyError, ValueError):
        differ = False
    if not differ:
        raise UserError(f'{name}={template!r}: expected a name with {{}} for the number, as in epoch_{{}}.pth, or each '
                        'checkpoint takes the place of the one before (max_keep_ckpts=1 keeps the newest alone)')
