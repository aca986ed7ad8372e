"""`--tracker`: a run's curves and pictures in TensorBoard, Weights & Biases or MLflow."""
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from coma_mm.config_tree import type_name
from coma_mm.errors import UserError, choice

TRACKERS = dict(
    tensorboard=('TensorboardVisBackend', 'torch.utils.tensorboard'),
    wandb=('WandbVisBackend', 'wandb'),
    mlflow=('MLflowVisBackend', 'mlflow'))
"""By their names in `--tracker`: mmengine's class, and the module that has to be there."""
PICTURES = 'coma_mm.visualization.tracking'
"""The module of `ValidationPicturesHook`. The config imports it, for whatever reads the config again."""


def use_trackers(cfg: Config, names: Sequence[str]) -> list[str]:
    """Add trackers to the visualiser of a config, and the hook that gives them pictures; those that are there stay.

    Args:
        cfg (Config): With its `work_dir`; changed in place.
        names (Sequence[str]): Of `TRACKERS`.

    Returns:
        list[str]: A line for each of them: where to look.

    Raises:
        UserError: If there is no such tracker, or its package cannot be imported.
    """
    for name in names:
        choice('--tracker', name, TRACKERS)
        try:
            import_module(TRACKERS[name][1])
        except ImportError as error:
            raise UserError(f"--tracker {name} needs the package {name}, which cannot be imported ({error}); pip install "
                            f"'coma-mm[{name}]'") from error
    visualizer = dict(cfg.get('visualizer') or dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]))
    backends = visualizer.get('vis_backends') or []
    backends = list(backends) if isinstance(backends, (list, tuple)) else [backends]
    for name in dict.fromkeys(names):
        kind = TRACKERS[name][0]
        if kind not in map(type_name, backends):
            backends.append(dict(type=kind, **_settings(name, cfg)))
    cfg.visualizer = dict(visualizer, vis_backends=backends)
    _add_pictures(cfg)
    return [_where(name, cfg.work_dir) for name in dict.fromkeys(names)]


def _settings(name: str, cfg: Config) -> dict[str, Any]:
    """What mmengine's class is given: names, unless the tracker's own variables say them, and iterations as the axis."""
    run = Path(cfg.work_dir).absolute().name
    if name == 'wandb':
        given = dict(project='coma_mm', name=run)
        return dict(define_metric_cfg=[dict(name='*', step_metric='iter')],
                    init_kwargs={key: value for key, value in given.items() if f'WANDB_{key.upper()}' not in os.environ})
    if name == 'mlflow':
        # Of the whole config some values would be longer than its parameters may be; its text goes along as a file.
        return dict(exp_name=os.environ.get('MLFLOW_EXPERIMENT_NAME', 'coma_mm'), run_name=run,
                    tracked_config_keys=[key for key in ('train_cfg', 'optim_wrapper', 'randomness') if cfg.get(key)])
    return {}


def _add_pictures(cfg: Config) -> None:
    imports = cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    modules = [imports['imports']] if isinstance(imports['imports'], str) else list(imports['imports'])
    if PICTURES not in modules:
        cfg.custom_imports = dict(imports, imports=[*modules, PICTURES])
    import_modules_from_strings(PICTURES)
    hooks = cfg.get('custom_hooks') or []
    if 'ValidationPicturesHook' not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, dict(type='ValidationPicturesHook')]


def _where(name: str, work_dir: str) -> str:
    if name == 'tensorboard':
        return f'TensorBoard: tensorboard --logdir {work_dir}'
    if name == 'wandb':
        return f'Weights & Biases: what it prints below, or {work_dir}/*/vis_data/wandb'
    return f'MLflow: MLFLOW_TRACKING_URI, or {work_dir}/*/vis_data'
