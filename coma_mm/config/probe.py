"""`probe_root`: a folder of labelled images by which a pre-training is judged at each of its validations."""
from mmengine.config import Config

from coma_mm.config_tree import type_name

HOOK = 'OnlineProbeHook'


def use_probe_root(cfg: Config, probe_root: str | None = None) -> None:
    """Give the folder to the config's `OnlineProbeHook`, which is added where there is none, in place.

    Args:
        cfg (Config): The config.
        probe_root (str, optional): The folder, of `--probe-root`. Defaults to the config's own key `probe_root`; where that
            is missing or empty, nothing changes.
    """
    if probe_root:
        cfg.probe_root = probe_root
    if not cfg.get('probe_root'):
        return
    hooks = list(cfg.get('custom_hooks') or [])
    if HOOK not in map(type_name, hooks):
        hooks.append(dict(type=HOOK))
    cfg.custom_hooks = [dict(hook, probe_root=cfg.probe_root) if type_name(hook) == HOOK else hook for hook in hooks]
