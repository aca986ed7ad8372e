"""`probe_root`: a folder of labelled images by which a pre-training is judged at each of its validations."""
from mmengine.config import Config

from coma_mm.config_tree import type_name

HOOK = 'OnlineProbeHook'


def use_probe_root(cfg: Config, probe_root: str | None = None) -> None:
    """Give the folder to the config's `OnlineProbeHook`, which is added where there is none, in place.

    One in `custom_hooks` takes the place of that in `default_hooks`, which our configs for pre-training have; so does a
    `ReconstructionsHook`, whose pictures would be drawn twice.

    Args:
        cfg (Config): The config.
        probe_root (str, optional): The folder, of `--probe-root`. Defaults to the config's own key `probe_root`; where that
            is missing or empty, the hook goes without labels, if there is one.
    """
    defaults, hooks = cfg.get('default_hooks') or {}, list(cfg.get('custom_hooks') or [])
    given = set(map(type_name, hooks)) & {HOOK, 'ReconstructionsHook'}
    own = HOOK in given
    ours = [name for name, hook in defaults.items() if hook and type_name(hook) == HOOK]
    for name in [name for name, hook in defaults.items() if hook and type_name(hook) in given]:
        defaults[name] = None
    if probe_root:
        cfg.probe_root = probe_root
    if not cfg.get('probe_root'):
        return
    if own or not ours:
        hooks = hooks if own else [*hooks, dict(type=HOOK)]
        cfg.custom_hooks = [dict(hook, probe_root=cfg.probe_root) if type_name(hook) == HOOK else hook for hook in hooks]
    else:
        for name in ours:
            defaults[name] = dict(defaults[name], probe_root=cfg.probe_root)
