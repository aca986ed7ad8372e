"""What a run is, and where its weights came from, in its checkpoints and its folder."""
import json
import os
import os.path as osp
import shlex
import sys

import mmengine.dist as dist
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

from coma_mm.config.read import environment_variables
from coma_mm.config_tree import find_key, find_types, type_name
from coma_mm.engine.models import unwrap
from coma_mm.files import write_whole
from coma_mm.version import __version__

LIBRARIES = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'coma_mm')


@HOOKS.register_module()
class ProvenanceHook(Hook):
    """Writes what a run is, and where its backbone came from, into its checkpoints and its folder.

    The facts are `checkpoint['meta']['coma_mm']`, a plain dict, and `provenance.json` in the work_dir, written when
    training starts. The file says also how and on what the run was started, which is nobody's business but its owner's,
    so checkpoints do not.
    """
    priority = 'LOW'

    def before_train(self, runner):
        """Write `provenance.json`."""
        if dist.is_main_process():
            facts = self.facts(runner, runner.epoch, runner.iter) | dict(
                command=_command(runner.cfg),
                world_size=runner.world_size,
                device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
                versions={name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules})
            write_whole(osp.join(runner.work_dir, 'provenance.json'), json.dumps(facts, indent=2))

    def before_save_checkpoint(self, runner, checkpoint):
        """Add the facts to the checkpoint."""
        meta = checkpoint.setdefault('meta', {})
        meta['coma_mm'] = self.facts(runner, meta.get('epoch', runner.epoch), meta.get('iter', runner.iter))

    @staticmethod
    def facts(runner, epochs, iters):
        """dict: Plain values only. `epochs` and `iters` are what is done so far; None for what is not counted."""
        model, cfg = unwrap(runner.model), runner.cfg
        backbone = getattr(model, 'backbone', None)
        backbone_cfg = (cfg.get('model') or {}).get('backbone') or {}
        arch = backbone_cfg.get('arch', getattr(backbone, 'arch', None))
        loader = cfg.get('train_dataloader') or {}
        by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
        return dict(
            algorithm=type(model).__name__,
            backbone=type(backbone).__name__ if backbone is not None else None,
            arch=arch if isinstance(arch, str) or arch is None else json.loads(json.dumps(arch, default=str)),
            epochs=epochs if by_epoch else None,
            iters=iters,
            max_epochs=runner.max_epochs if by_epoch else None,
            **masking_facts(cfg),
            complement=getattr(model, 'complement', None),
            config=osp.basename(cfg.filename) if cfg.filename else None,
            data_root=find_key(loader.get('dataset'), 'data_root'),
            images=_count_images(runner.train_dataloader),
            images_per_update=getattr(runner, 'images_per_update', None),
            seed=runner.seed,
            coma_mm=__version__,
            load_from=None if cfg.get('resume') else cfg.get('load_from'),  # a run's own checkpoint is no origin
            backbone_from=getattr(backbone, 'provenance', None),
        )


def _command(cfg):
    """str: The command line, after those environment variables that the config's files read."""
    names = dict.fromkeys(name for name, *_ in environment_variables(cfg))
    return ' '.join([*(f'{name}={shlex.quote(os.environ[name])}' for name in names if name in os.environ),
                     shlex.join(sys.argv)])


def _patch_mask(cfg):
    """dict | None: The config of what masks the training images, if that is our own transform."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    return next(find_types(dataset, 'PatchMask'), None)


def _mask_ratio(cfg):
    """float | None: The share of masked patches, of our own transform or of a library's masked model."""
    transform = _patch_mask(cfg)
    if transform is None:
        return find_key(cfg.get('model'), 'mask_ratio')
    return (transform.get('sampler') or {}).get('ratio', 0.6)


def _mask_sampler(cfg):
    """str | None: The class of our own transform's sampler."""
    transform = _patch_mask(cfg)
    return transform and type_name(transform.get('sampler') or dict(type='UniformMaskSampler'))


def masking_facts(cfg):
    """How a config of a masked autoencoder, ours or mmpretrain's, masks and decodes.

    Args:
        cfg (dict): A config.

    Returns:
        dict: 'mask_ratio', 'mask_sampler', 'decoder' (its class) and 'decoder_depth'; None where there is no such thing.
    """
    model = cfg.get('model') or {}
    parts = [part for part in (model.get('decoder'), model.get('neck')) if isinstance(part, dict)]
    decoder = next((part for part in parts if 'Decoder' in type_name(part)), None)
    return dict(
        mask_ratio=_mask_ratio(cfg),
        mask_sampler=_mask_sampler(cfg),
        decoder=decoder and type_name(decoder),
        # 8 is the default of all of them.
        decoder_depth=decoder and decoder.get('depth', decoder.get('decoder_depth', 8)))


def _count_images(loader):
    try:
        return len(getattr(loader, 'loader', loader).dataset)  # not of the lists of batches
    except TypeError:
        return None
