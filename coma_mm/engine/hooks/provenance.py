"""What a run is, and where its weights came from, in its checkpoints and its folder."""
import json
import os
import os.path as osp
import shlex
import sys
from typing import Any

import mmengine.dist as dist
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import Dataset

from coma_mm.config.bands import bands_of
from coma_mm.config.read import environment_variables
from coma_mm.config_tree import find_key
from coma_mm.datasets.masking import PatchMask
from coma_mm.engine.description import as_text, describe
from coma_mm.engine.models import unwrap
from coma_mm.errors import UserError
from coma_mm.files import write_whole
from coma_mm.version import __version__
from coma_mm.weights.description import KEY, check_description, decode

LIBRARIES = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'coma_mm')


@HOOKS.register_module()
class ProvenanceHook(Hook):
    """Writes what a run is, and where its backbone came from, into its checkpoints and its folder.

    The facts are `checkpoint['meta']['coma_mm']`, a plain dict, and `provenance.json` in the work_dir, written when
    training starts. The file says also how and on what the run was started, which is nobody's business but its owner's,
    so checkpoints do not. `checkpoint['meta']['coma_mm_use']` says how the model is used, see `describe`.
    """
    priority = 'LOW'

    def __init__(self):
        self.use = None  # the description, the same in all checkpoints of a run

    def before_train(self, runner: Runner) -> None:
        """Write `provenance.json`."""
        if dist.is_main_process():
            facts = self.facts(runner, runner.epoch, runner.iter) | dict(
                command=_command(runner.cfg),
                val_images=_count_images(runner.val_dataloader.dataset) if runner.val_loop else None,
                world_size=runner.world_size,
                device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
                versions={name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules})
            write_whole(osp.join(runner.work_dir, 'provenance.json'), json.dumps(facts, indent=2))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the facts to the checkpoint."""
        meta = checkpoint.setdefault('meta', {})
        meta['coma_mm'] = self.facts(runner, meta.get('epoch', runner.epoch), meta.get('iter', runner.iter))
        if self.use is None:
            self.use = _use(runner)
        if self.use:
            meta[KEY] = self.use

    @staticmethod
    def facts(runner: Runner, epochs: int, iters: int) -> dict[str, Any]:
        """Plain values only. `epochs` and `iters` are what is done so far; None for what is not counted."""
        model, cfg = unwrap(runner.model), runner.cfg
        backbone = getattr(model, 'backbone', None)
        backbone_cfg = (cfg.get('model') or {}).get('backbone') or {}
        arch = backbone_cfg.get('arch', getattr(backbone, 'arch', None))
        loader, dataset = cfg.get('train_dataloader') or {}, runner.train_dataloader.dataset
        bands = bands_of(cfg)
        by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
        return dict(
            algorithm=type(model).__name__,
            backbone=type(backbone).__name__ if backbone is not None else None,
            arch=arch if isinstance(arch, str) or arch is None else json.loads(json.dumps(arch, default=str)),
            settings=getattr(backbone, 'settings', None),
            epochs=epochs if by_epoch else None,
            iters=iters,
            max_epochs=runner.max_epochs if by_epoch else None,
            **masking_facts(model, dataset),
            complement=_complement(model, dataset),
            config=osp.basename(cfg.filename) if cfg.filename else None,
            data_root=find_key(loader.get('dataset'), 'data_root'),
            images=_count_images(dataset),
            images_per_update=getattr(runner, 'images_per_update', None),
            seed=runner.seed,
            coma_mm=__version__,
            load_from=None if cfg.get('resume') else cfg.get('load_from'),  # a run's own checkpoint is no origin
            backbone_from=getattr(backbone, 'provenance', None),
            **({'bands': bands.names} if bands else {}),
        )


def _use(runner: Runner) -> str:
    """How the model is used, as text; '' if that cannot be said in plain values, or would not be read again."""
    try:
        described = describe(runner.cfg, unwrap(runner.model), getattr(runner.train_dataloader.dataset, 'metainfo', None))
        if described:
            check_description(decode(described), 'the config')
    except (TypeError, UserError) as error:
        runner.logger.info(f'Checkpoints do not say how they are used, so that using them takes --config: {error}')
        return ''
    return as_text(described) if described else ''


def _command(cfg: Config) -> str:
    """The command line, after those environment variables that the config's files read."""
    names = dict.fromkeys(name for name, *_ in environment_variables(cfg))
    return ' '.join([*(f'{name}={shlex.quote(os.environ[name])}' for name in names if os.environ.get(name)),
                     shlex.join(sys.argv)])


def masking_facts(model: nn.Module, data: Any = None) -> dict[str, Any]:
    """How a masked autoencoder, ours or mmpretrain's, masks and decodes.

    Args:
        model (nn.Module): A model of any kind.
        data (Any): A data set or a pipeline; a `PatchMask` in it masks in place of the model. Defaults to None.

    Returns:
        dict: 'mask_ratio', 'mask_sampler', 'decoder' (its class) and 'decoder_depth'; None where there is no such thing.
    """
    mask = _patch_mask(data)
    parts = [getattr(model, name, None) for name in ('decoder', 'neck')]
    decoder = next((part for part in parts if 'Decoder' in type(part).__name__), None)
    blocks = getattr(decoder, 'blocks', getattr(decoder, 'decoder_blocks', None))  # mmpretrain calls them so
    return dict(
        mask_ratio=mask.sampler.ratio if mask else next(
            (part.mask_ratio for part in model.modules() if hasattr(part, 'mask_ratio')), None),
        mask_sampler=type(mask.sampler).__name__ if mask else None,
        decoder=type(decoder).__name__ if decoder is not None else None,
        decoder_depth=len(blocks) if blocks is not None else None)


def _complement(model: nn.Module, data: Any) -> str | None:
    """CoMA's `complement`; 'independent' where its second branch sees no complement."""
    mask = _patch_mask(data)
    return 'independent' if mask and mask.pair == 'independent' else getattr(model, 'complement', None)


def _patch_mask(data: Any) -> PatchMask | None:
    """The transform of ours that masks, in a data set, in those that it is made of, or in a pipeline."""
    if data is None or isinstance(data, PatchMask):
        return data
    parts = data if isinstance(data, (list, tuple)) else [
        getattr(data, name, None) for name in ('pipeline', 'transforms', 'dataset', 'datasets')]
    return next(filter(None, map(_patch_mask, parts)), None)


def _count_images(dataset: Dataset) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None
