"""From a config file and a command line to the config that a runner takes, the same for all three libraries."""
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.logging import print_log

from coma_mm.compat import config_path
from coma_mm.config_tree import type_name
from coma_mm.datasets import maps, passed_over
from coma_mm.errors import UserError, choice, nearest, shorten
from coma_mm.notices import hold
from coma_mm.processes import check_workers, is_first_process

from .bands import use_bands
from .check_hooks import check_hooks
from .check_keys import check_keys, check_options
from .check_values import check_values
from .data_roots import use_data_root
from .follow import LENGTHS, follow, follow_own_size, set_length, settings
from .probe import use_probe_root
from .trackers import use_trackers

SCOPES = ('mmpretrain', 'mmseg', 'mmdet')


def parse_options(texts: Sequence[str] | None) -> dict[str, Any]:
    """Parse the values of `--cfg-options`, as mmengine's tools do.

    Args:
        texts (Sequence[str], optional): Each KEY=VALUE.

    Returns:
        dict[str, Any]: Dotted keys and their values.

    Raises:
        UserError: If a text is no KEY=VALUE.
    """
    options = {}
    for text in texts or ():
        key, _, value = text.partition('=')
        try:
            if not key or key == text:
                raise ValueError('no KEY=VALUE')
            options[key] = DictAction._parse_iterable(value)
        except (ValueError, AssertionError, RecursionError) as error:
            raise UserError(f'--cfg-options: cannot read {text!r}; expected KEY=VALUE, where a value is a number, a name or '
                            'a list like [1,2] (dicts: one KEY.SUBKEY=VALUE for each entry)') from error
    return options


def read_config(path: str, cfg_options: dict[str, Any] | None = None, work_dir: str | None = None, launcher: str = 'none', *,
                data_root: str | None = None, load_from: str | None = None, resume: str | None = None,
                validate: bool = True, amp: bool = False, auto_scale_lr: bool = False,
                show_dir: str | None = None, extend_to: int | None = None, trackers: Sequence[str] = (),
                probe_root: str | None = None) -> Config:
    """Read a config and merge the command line into it, `cfg_options` last.

    What follows other settings is set: the schedules follow `epochs` or `iters`, the data pipelines `size`, every
    `PatchMask` in them `mask_sampler`, `mask_unit`, `mask_pair` and the backbone's patch, and the rest of the model the
    backbone's widths and patch; see `follow`. The key `mask_sampler` goes before whatever sampler the config gives a
    `PatchMask`; only `cfg_options` can give a single one another.

    Args:
        path (str): The config file.
        cfg_options (dict, optional): Dotted keys and their values, see `parse_options`.
        work_dir (str, optional): Where the run writes. Defaults to the config's own, or else to
            work_dirs/<name of the config>.
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'. Defaults to 'none'.
        data_root (str, optional): Moves the data sets to another folder, see `use_data_root`.
        load_from (str, optional): A checkpoint whose weights a test is of.
        resume (str, optional): A checkpoint to pick up the training from, or 'auto': the latest one in the work dir.
        validate (bool): Whether training validates. Defaults to True.
        amp (bool): Train in mixed precision, see `use_amp`. Defaults to False.
        auto_scale_lr (bool): Scale the learning rate with the batch, see `use_auto_scale_lr`. Defaults to False.
        extend_to (int, optional): The new length of a run that is resumed, in what it is counted in.
        show_dir (str, optional): Draws the predictions of a test into a folder, see `draw_predictions`.
        trackers (Sequence[str]): Where curves and pictures go beside the work dir, see `use_trackers`. Defaults to none.
        probe_root (str, optional): Labelled images to judge a pre-training by, see `use_probe_root`. Defaults to the
            config's own.

    Returns:
        Config: Ready for `ComaRunner.from_cfg`.

    Raises:
        UserError: If the file is missing or not a config, a key is a known one misspelt, or an option does not apply.
    """
    cfg = _parse(path)
    check_values(cfg, path, but=cfg_options or ())
    register_libraries(cfg.get('default_scope', 'mmengine'))
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or os.path.join('work_dirs', Path(path).stem)
    _set_loader_defaults(cfg)
    use_data_root(cfg, data_root)
    if not validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if amp:
        use_amp(cfg)
    if auto_scale_lr:
        use_auto_scale_lr(cfg)
    if show_dir:
        draw_predictions(cfg, show_dir)
    if trackers:
        for line in use_trackers(cfg, trackers):
            say(line)
    if load_from:
        cfg.load_from, cfg.resume = load_from, False
    if resume:
        cfg.resume, cfg.load_from = True, None if resume == 'auto' else resume
    if extend_to is not None:
        if not cfg.get('resume'):
            raise UserError('--extend-to is for a run that is resumed: add --resume, or set epochs=N or iters=N')
        unit = next((name for name, key in LENGTHS.items() if key in (cfg.get('train_cfg') or {})), 'epochs')
        cfg_options = {**(cfg_options or {}), unit: extend_to}
    set_length(cfg, cfg_options or {})
    follow_own_size(cfg)
    follow(cfg)
    if cfg_options:
        for line in check_options(cfg, cfg_options):
            warn(line)
        before = settings(cfg)
        _merge(cfg, {key: value for key, value in cfg_options.items() if key not in LENGTHS})
        check_values(cfg, path)  # what follows, follows values of the right types
        register_libraries(cfg.get('default_scope', 'mmengine'))
        follow(cfg, before, cfg_options)
    use_probe_root(cfg, probe_root)
    for line in (*check_values(cfg, path), *check_keys(cfg, path), *check_hooks(cfg, path)):
        warn(line)
    for key in ('load_from', 'work_dir'):
        if cfg.get(key) == '':
            raise UserError(f'{path}: {key} is empty; is a shell variable in --cfg-options not set? (None stands for none)')
    if 'model' not in cfg:
        raise UserError(f'{path} has no key model; expected a whole config, with model, data loaders and loops')
    use_bands(cfg, cfg_options or ())
    _fit_loaders(cfg)
    if not torch.cuda.is_available():
        _fit_to_cpu(cfg)
    return cfg


def say(line: str) -> None:
    """Print one line about the run, once per job: before a runner exists there is no log."""
    if is_first_process():
        print_log(line, logger=None)


def warn(line: str) -> None:
    """Print a warning about the run, once per job, and last of what its start says."""
    if not hold(line):
        say(line)


def _parse(path: str) -> Config:
    file = config_path(path) if str(path).startswith('coma_mm::') else path
    if not os.path.isfile(file):
        raise UserError(f'no config file {shorten(path, 300)}; expected the path of a .py config, or coma_mm:: and one of '
                        'ours')
    if not str(file).endswith(('.py', '.yml', '.yaml', '.json')):
        raise UserError(f'{path} is no config; expected a file whose name ends with .py (or .yml, .yaml, .json)')
    try:
        return Config.fromfile(file)
    except FileNotFoundError as error:
        raise UserError(f'{path}: cannot find {error.filename or error}, which it needs; check its _base_') from error
    except UserError:
        raise
    except SyntaxError as error:
        where = f' at line {error.lineno}' if error.lineno else ''
        raise UserError(f'{path} is not valid Python{where}: {error.msg}') from error
    except Exception as error:  # a config is code, which may raise anything
        text = ' '.join(str(error).split())
        raise UserError(f'cannot read the config {path}: {type(error).__name__}: {text}') from error


def register_libraries(scope: str) -> None:
    """Fill the registries of the library that a config is for, its `default_scope`.

    Raises:
        UserError: If there is none of that name.
    """
    if scope == 'mmpretrain':
        from mmpretrain.utils import register_all_modules
        passed_over.count_in_classification()
    elif scope == 'mmseg':
        from mmseg.utils import register_all_modules
        maps.check_maps()
    elif scope == 'mmdet':
        from mmdet.utils import register_all_modules

        from coma_mm.datasets.coco import use_names
        from coma_mm.datasets.evaluation_pools import use_pools
        use_names()
        use_pools()
        passed_over.count_in_detection()
    elif scope == 'mmengine':
        return
    else:
        choice('default_scope', scope, SCOPES)
    register_all_modules(init_default_scope=False)


def _set_loader_defaults(cfg: Config) -> None:
    """What mmpretrain's own tools add to data loaders: its data sets' samples are stacked, the others' are not."""
    for loader in _loaders(cfg):
        loader.setdefault('persistent_workers', True)
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('pin_memory', True)


def _fit_loaders(cfg: Config) -> None:
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, dict) and isinstance(loader.get('num_workers'), int):
            check_workers(f'{split}_dataloader.num_workers', loader['num_workers'])
    for loader in _loaders(cfg):
        if not loader.get('num_workers'):  # torch refuses these without workers
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)


def _loaders(cfg: Config) -> list[dict]:
    loaders = (cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test'))
    return [loader for loader in loaders if isinstance(loader, dict)]


def _merge(cfg: Config, cfg_options: dict[str, Any]) -> None:
    try:
        cfg.merge_from_dict(cfg_options)
    except (KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
        keys = ' '.join(f'{key}={value}' for key, value in cfg_options.items())
        raise UserError(f'--cfg-options {keys} does not apply to the config: {error}') from error


def environment_variables(cfg: Config) -> list[tuple[str, str, str]]:
    """Name and default of the environment variables that a config's files read, and the rest
    of the text behind each."""
    return re.findall(r"""\{\{['"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['"]?\}\}([^'"\s]*)""", cfg.text)


def _fit_to_cpu(cfg: Config) -> None:
    """Exchange what needs a GPU, each in one line: mmengine's AMP wrapper, pinned memory."""
    for loader in _loaders(cfg):
        loader.pop('pin_memory', None)
    wrapper = cfg.get('optim_wrapper')
    if isinstance(wrapper, dict) and type_name(wrapper) == 'AmpOptimWrapper':
        use_bf16(wrapper)
        say('No GPU here: AutocastOptimWrapper (bf16 on the CPU) takes the place of AmpOptimWrapper')


def use_bf16(optim_wrapper: dict) -> None:
    """Make the config of an optimiser wrapper one of `AutocastOptimWrapper`, in place."""
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        optim_wrapper.pop(key, None)
    optim_wrapper['type'] = 'AutocastOptimWrapper'


def use_amp(cfg: Config) -> None:
    """`--amp`: bf16, except that a config for fp16 stays as it is where there is a GPU.

    Raises:
        UserError: If the config has an optimiser wrapper of another kind.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    if type_name(wrapper) in ('AmpOptimWrapper', 'AutocastOptimWrapper'):
        return
    if type_name(wrapper) != 'OptimWrapper' and wrapper.get('type'):
        raise UserError(f'--amp cannot be combined with optim_wrapper.type={wrapper.get("type")!r}; expected '
                        'OptimWrapper')
    if 'optimizer' not in wrapper:
        raise UserError('--amp: the config has no optim_wrapper.optimizer')
    use_bf16(wrapper)


def use_auto_scale_lr(cfg: Config) -> None:
    """`--auto-scale-lr`.

    Raises:
        UserError: If the config does not say which batch size its learning rate is for.
    """
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise UserError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the batch size '
                        'that its learning rate is for')
    cfg.auto_scale_lr.enable = True


_VISUALIZERS = dict(
    mmpretrain=('VisualizationHook', 'UniversalVisualizer'), mmseg=('SegVisualizationHook', 'SegLocalVisualizer'),
    mmdet=('DetVisualizationHook', 'DetLocalVisualizer'))
_OF_THE_LIBRARIES_HOOKS = ('type', 'enable', 'draw', 'interval', 'out_dir', 'test_out_dir')
"""Keys of their configs that `--show-dir` decides."""


def draw_predictions(cfg: Config, folder: str) -> None:
    """`--show-dir`: have a `DrawingsHook` in the place of the library's own draw all test images into a folder."""
    hook_type, visualizer_type = _VISUALIZERS[cfg.get('default_scope')]
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    own = hooks.get('visualization') or dict(type=hook_type)
    kept = {key: value for key, value in own.items() if key not in _OF_THE_LIBRARIES_HOOKS}
    hooks.visualization = dict(type='DrawingsHook', out_dir=folder, **kept)
    cfg.setdefault('visualizer', dict(type=visualizer_type, vis_backends=[dict(type='LocalVisBackend')]))


_TTA_MODELS = dict(
    mmpretrain=dict(type='mmpretrain.AverageClsScoreTTA'),
    mmdet=dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))


def use_tta(cfg: Config) -> None:
    """`--tta`: test-time augmentation by the config's `tta_model` and `tta_pipeline`, or else by horizontal flips.

    A detector with a mask head predicts boxes alone then, as mmdetection merges nothing else.

    Raises:
        UserError: If the config has neither and its library has no default, or the model's predictions cannot be merged.
    """
    scope = cfg.get('default_scope')
    if 'tta_model' not in cfg and scope not in _TTA_MODELS:
        raise UserError('--tta needs tta_model and tta_pipeline in the config')
    kind = type_name(cfg.get('tta_model', _TTA_MODELS.get(scope)))
    if kind == 'AverageClsScoreTTA' and type_name(cfg.model) != 'ImageClassifier':
        raise UserError(f'--tta: mmpretrain averages the scores of an ImageClassifier, and the model is a '
                        f'{type_name(cfg.model)}; test without --tta, or give a tta_model in the config')
    if kind == 'DetTTAModel':
        _predict_boxes_alone(cfg)
    pipeline = cfg.test_dataloader.dataset.pipeline
    if 'tta_pipeline' not in cfg:
        pack = dict(pipeline[-1])
        if scope == 'mmdet':
            pack['meta_keys'] = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                                 'flip_direction')
        flips = [dict(type='RandomFlip', prob=1.), dict(type='RandomFlip', prob=0.)]
        cfg.tta_pipeline = [*pipeline[:-1], dict(type='TestTimeAug', transforms=[flips, [pack]])]
    cfg.model = ConfigDict(**cfg.get('tta_model', _TTA_MODELS.get(scope)), module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def _predict_boxes_alone(cfg: Config) -> None:
    """Leave masks out of a detector's test, which mmdetection's `DetTTAModel` cannot merge."""
    head, evaluators = cfg.model.get('roi_head'), cfg.get('test_evaluator')
    has_masks = isinstance(head, dict) and head.get('mask_head') is not None
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        metric = evaluator.get('metric') if isinstance(evaluator, dict) else None
        metrics = [metric] if isinstance(metric, str) else metric or []
        boxes = [name for name in metrics if name != 'segm']
        if boxes != list(metrics):
            if not has_masks or not boxes:
                raise UserError(f"--tta: mmdetection's DetTTAModel merges boxes alone, and test_evaluator.metric={metric} "
                                f'evaluates masks of a {type_name(cfg.model)}; test without --tta')
            evaluator['metric'] = boxes
    if has_masks:
        head['mask_head'] = None
        say('--tta: mmdetection merges the boxes of augmented images alone, so masks are neither predicted nor evaluated')


def need(cfg: Config, keys: Sequence[str], purpose: str) -> None:
    """Check that a config has what a tool needs.

    Args:
        cfg (Config): The config.
        keys (Sequence[str]): The top-level keys.
        purpose (str): What for, e.g. 'training'.

    Raises:
        UserError: Naming the first key that is missing.
    """
    for key in keys:
        if cfg.get(key) is None:
            close = nearest(key, cfg.keys(), cutoff=0.8)
            raise UserError(f'{cfg.filename}: {purpose} needs the key {key}, which the config does not have'
                            + (f'; is it {close!r}?' if close else ''))
