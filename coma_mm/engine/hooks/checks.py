"""Hooks that every run has: where weights came from, what a batch is, what is wrong with the data."""
import json
import logging
import os
import os.path as osp
import shlex
import sys
from itertools import chain

import mmengine.dist as dist
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

import coma_mm
from coma_mm.config.read import environment_variables, find_types
from coma_mm.datasets.seeding import seed_generators, type_name
from coma_mm.engine.optim.accumulation import batches_of, count, is_auto
from coma_mm.errors import UserError
from coma_mm.files import write_whole

LIBRARIES = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'coma_mm')


def unwrap(model):
    """nn.Module: The model inside a wrapper for distributed training, or itself."""
    return model.module if is_model_wrapper(model) else model


def find_key(cfg, key):
    """The first value of a key in nested dicts and lists, depth first, or None."""
    if isinstance(cfg, dict):
        if key in cfg:
            return cfg[key]
        cfg = cfg.values()
    elif not isinstance(cfg, (list, tuple)):
        return None
    return next((found for value in cfg if (found := find_key(value, key)) is not None), None)


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
            coma_mm=coma_mm.__version__,
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


@HOOKS.register_module()
class BatchSizeHook(Hook):
    """Says how many images make one update, and warns of accumulation over more than an epoch."""

    def before_train(self, runner):
        """Log one line, or two."""
        if not hasattr(runner, 'images_per_update'):
            return
        images, accumulated = runner.images_per_update, runner.accumulation
        batch_size = images // runner.world_size // accumulated
        auto = is_auto(runner.cfg)
        print_log(f'{images} images per update: {count(runner.world_size, "process")} × {batch_size} images × '
                  f'{count(accumulated, "batch")}' + (' (one iteration)' if auto else ''), logger='current')
        loader = runner.train_dataloader
        try:
            batches = len(getattr(loader, 'loader', loader))  # not of the lists of batches
        except TypeError:
            return
        if accumulated > batches:
            print_log(f'accumulative_counts={accumulated} is more than the {batches} batches of an epoch: ' +
                      ('updates see fewer images' if auto else 'there is less than one update per epoch'),
                      logger='current', level=logging.WARNING)


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Makes the logged losses those of the whole batch: their mean over the processes, not the first one's own."""
    priority = 'HIGHEST'  # before RuntimeInfoHook notes them

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Replace the values in `outputs`, in one exchange."""
        if runner.world_size == 1 or not outputs:
            return
        names = [name for name, value in outputs.items() if isinstance(value, torch.Tensor) and value.numel() == 1]
        values = torch.stack([outputs[name].detach().float().reshape(()) for name in names])
        dist.all_reduce(values, op='mean')
        outputs.update(zip(names, values, strict=True))


@HOOKS.register_module()
class BadImageHook(Hook):
    """Reports how many images were skipped as unreadable so far (`on_bad_image='skip'`).

    Args:
        interval (int): Iterations between reports within an epoch, which iteration-based runs never finish. Defaults
            to 1000.
    """

    def __init__(self, interval=1000):
        self.interval = interval
        self.reported = 0

    def after_train_epoch(self, runner):
        """Report."""
        bad_images = getattr(runner.train_dataloader.dataset, 'bad_images', None)
        if bad_images is None or not len(bad_images()):
            return
        seen = torch.from_numpy(bad_images().copy())
        dist.all_reduce(seen, op='max')  # a sample may be drawn by one process now, by another later
        count = int(seen.sum())
        if count > self.reported:
            print_log(f'{count} unreadable images skipped so far, of {len(seen)}', logger='current',
                      level=logging.WARNING)
        self.reported = count

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Report every `interval` iterations."""
        if self.every_n_train_iters(runner, self.interval):
            self.after_train_epoch(runner)


@HOOKS.register_module()
class LabelCheckHook(Hook):
    """Stops training at a class id that the model has no class for, which a GPU reports as a device-side assertion."""

    def before_train(self, runner):
        """Find out how many classes the model has."""
        model = unwrap(runner.model)
        heads = [getattr(model, name, None) for name in ('head', 'decode_head', 'bbox_head')]
        heads.append(getattr(getattr(model, 'roi_head', None), 'bbox_head', None))
        counts = [getattr(head, 'num_classes', None) for head in heads]
        self.num_classes = next((count for count in counts if isinstance(count, int)), None)
        self.ignored = getattr(getattr(model, 'decode_head', None), 'ignore_index', 255)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Check the labels of a batch, before they go to the device.

        Raises:
            UserError: Naming the image, the class id and the number of classes.
        """
        if self.num_classes is None:
            return
        samples = [batch.get('data_samples') or () for batch in batches_of(data_batch) if isinstance(batch, dict)]
        for sample in chain(*samples):
            _check_map(sample)
            for labels in _labels(sample):
                wrong = labels[(labels != self.ignored) & ((labels < 0) | (labels >= self.num_classes))]
                if len(wrong):
                    path = sample.metainfo.get('img_path', '?')
                    value = int(wrong[0])
                    if sample.metainfo.get('reduce_zero_label'):
                        value = f'{value} ({value + 1} in the file, reduce_zero_label=True)'
                    raise UserError(f'class id {value} in the annotation of {path} is out of range: the '
                                    f'model has num_classes={self.num_classes}, ids 0 to {self.num_classes - 1}')


def _check_map(sample):
    """Raise a UserError if a segmentation map is not one class id for each pixel of the image."""
    if not hasattr(sample, 'gt_sem_seg'):
        return
    shape, expected = tuple(sample.gt_sem_seg.data.shape), (1, *sample.metainfo.get('img_shape', (0, 0))[:2])
    if 'img_shape' in sample.metainfo and shape != expected:
        raise UserError(f'the segmentation map {sample.metainfo.get("seg_map_path", "?")} does not fit its image '
                        f'{sample.metainfo.get("img_path", "?")}: after the pipeline it has shape {shape}; expected '
                        f'{expected}, a grey PNG of the image\'s size with one class id per pixel')


def _labels(sample):
    """list[Tensor]: The class ids of a sample of any of the three libraries."""
    found = []
    if isinstance(getattr(sample, 'gt_label', None), torch.Tensor):
        found.append(sample.gt_label)
    if hasattr(sample, 'gt_sem_seg'):
        found.append(sample.gt_sem_seg.data)
    if hasattr(sample, 'gt_instances') and 'labels' in sample.gt_instances:
        found.append(sample.gt_instances.labels)
    return found


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Makes what a training step draws (drop path, dropout, mixup, noise) a function of (seed, process, iteration).

    So no generator's state needs saving, and neither validation nor a data loader's start can shift what follows.
    """
    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed Python's, NumPy's and torch's generators, on all devices."""
        torch.manual_seed(seed_generators(runner.seed, dist.get_rank(), runner.iter))


RUN_HOOKS = tuple(
    dict(type=hook.__name__)
    for hook in (IterationSeedHook, ProvenanceHook, BatchSizeHook, MeanLossHook, BadImageHook, LabelCheckHook)
) + (dict(type='FiniteHook'), dict(type='LossSpikeHook'))
"""Configs of the hooks that `tools/train.py` adds to every run."""
