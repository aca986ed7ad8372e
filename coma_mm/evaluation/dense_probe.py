"""A linear classifier of pixels on a frozen backbone: a segmenter's config, made into one of that and trained as usual."""
import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from coma_mm.config.follow import settings
from coma_mm.config.read import need, read_config
from coma_mm.config_tree import type_name
from coma_mm.engine.train import test, train
from coma_mm.errors import UserError
from coma_mm.weights.load import latest_checkpoint, load_weights_only

KEPT = ('num_classes', 'ignore_index', 'out_channels', 'threshold', 'align_corners')
"""Settings of the config's own head that the linear one has too."""
LR = 1e-3


def is_segmenter(cfg: Config) -> bool:
    """Whether a config is one of mmsegmentation's models."""
    return cfg.get('default_scope') == 'mmseg' and isinstance((cfg.get('model') or {}).get('decode_head'), dict)


def use_linear_head(cfg: Config, checkpoint: str, stages: Sequence[int] | None = None, lr: float = LR) -> None:
    """Make the config of a segmenter one of a linear probe, in place.

    Its backbone is frozen, with the weights of the checkpoint; mmsegmentation's `FCNHead` without a convolution of its own
    concatenates its maps, at the size of the first one, and classifies each place by a 1×1 convolution. Data, evaluation,
    batch, length and the course of the learning rate stay as the config has them; the optimiser is AdamW.

    Args:
        cfg (Config): From `read_config`.
        checkpoint (str): Holds the backbone's weights, of any model.
        stages (Sequence[int], optional): The backbone's outputs to read, from 0. Defaults to all of them.
        lr (float): The highest learning rate. Defaults to 1e-3.

    Raises:
        UserError: The channels of the backbone's outputs are unknown, or there are no such outputs.
    """
    own, head = cfg.model, cfg.model.decode_head
    widths = settings(cfg).widths or head.get('in_channels')
    if not isinstance(widths, (list, tuple)):
        raise UserError(f'{cfg.filename}: cannot tell the channels of the outputs of {type_name(own.backbone)}; expected '
                        'model.decode_head.in_channels with one number for each of them')
    stages = list(range(len(widths))) if stages is None else list(stages)
    if not stages or len(set(stages)) < len(stages) or not set(stages) <= set(range(len(widths))):
        raise UserError(f'--stages {" ".join(map(str, stages))}: the backbone of {cfg.filename} has the outputs 0 to '
                        f'{len(widths) - 1}; expected some of them, each once')
    channels = [widths[stage] for stage in stages]
    backbone = {key: value for key, value in own.backbone.items() if key != 'pretrained'}
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
    linear = dict(type='FCNHead', num_convs=0, concat_input=False, kernel_size=1, dropout_ratio=0., norm_cfg=None,
                  channels=sum(channels), **{key: head[key] for key in KEPT if key in head})
    linear.update(dict(in_channels=channels, in_index=stages, input_transform='resize_concat') if len(stages) > 1 else
                  dict(in_channels=channels[0], in_index=stages[0]))
    loss = dict(type='CrossEntropyLoss', use_sigmoid=head.get('out_channels') == 1, avg_non_ignore=True)
    cfg.model = dict(type='EncoderDecoder', backbone=dict(type='mmpretrain.FrozenBackbone', backbone=backbone),
                     decode_head=dict(linear, loss_decode=loss), train_cfg=dict(), test_cfg=own.get('test_cfg') or dict(
                         mode='whole'), **{key: own[key] for key in ('data_preprocessor', ) if key in own})
    wrapper = cfg.optim_wrapper
    cfg.optim_wrapper = dict(  # without what is for parts of a backbone
        {key: wrapper[key] for key in wrapper if key in ('type', 'accumulative_counts', 'dtype', 'loss_scale')},
        optimizer=dict(type='AdamW', lr=lr, weight_decay=1e-4))
    if not cfg.get('resume'):
        cfg.load_from = None


def linear_segmentation(config: str, checkpoint: str, cfg_options: dict[str, Any] | None = None, *,
                        data_root: str | None = None, work_dir: str | None = None, amp: bool = False,
                        stages: Sequence[int] | None = None, epochs: int | None = None, lr: float = LR, seed: int = 0,
                        resume: bool = False, overwrite: bool = False, out: str | None = None) -> dict[str, float]:
    """Train a linear probe on a segmenter's data, and test it as the config tests.

    Args:
        config (str): The segmenter's config file.
        checkpoint (str): Holds the backbone's weights.
        cfg_options, data_root, amp: See `read_config`.
        work_dir (str, optional): Where the run is. Defaults to work_dirs/<name of the config>_linear-probe.
        stages, lr: See `use_linear_head`.
        epochs (int, optional): Length of the training. Defaults to the config's.
        seed (int): Of the training. Defaults to 0.
        resume (bool): Go on with what is in `work_dir`, if there is something. Defaults to False.
        overwrite (bool): Start anew among an earlier run's checkpoints. Defaults to False.
        out (str, optional): A JSON file for the metrics.

    Returns:
        dict[str, float]: The metrics of the test data with the last checkpoint.

    Raises:
        UserError: See `use_linear_head`, and `train`; what is gone on with is a probe of another checkpoint.
    """
    weights = load_weights_only(checkpoint)['state_dict']  # that it can be read is known before anything is written
    length = {} if epochs is None else dict(epochs=epochs)
    work_dir = work_dir or os.path.join('work_dirs', f'{Path(config).stem}_linear-probe')
    if resume and (latest := latest_checkpoint(work_dir)):
        _check_same_backbone(weights, checkpoint, latest)
    cfg = read_config(config, {**length, **(cfg_options or {})}, work_dir, data_root=data_root, amp=amp,
                      resume='auto' if resume else None)
    need(cfg, ('train_dataloader', 'train_cfg', 'optim_wrapper', 'test_dataloader', 'test_cfg', 'test_evaluator'),
         'a linear probe')
    use_linear_head(cfg, os.path.abspath(checkpoint) if os.path.exists(checkpoint) else checkpoint, stages, lr)
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    tested = Config(copy.deepcopy(cfg._cfg_dict), filename=cfg.filename)
    train(cfg, [dict(type='StopHook')], overwrite)
    tested.load_from, tested.resume = latest_checkpoint(cfg.work_dir), False
    return test(tested, out)


def _check_same_backbone(weights: dict[str, torch.Tensor], checkpoint: str, latest: str) -> None:
    """Raise a UserError if a run has other weights in its frozen backbone, which it would go on with."""
    prefix = 'backbone.'
    own = prefix if any(name.startswith(prefix) for name in weights) else ''
    for name, value in load_weights_only(latest)['state_dict'].items():
        given = weights.get(own + name.removeprefix(prefix)) if name.startswith(prefix) else None
        if given is not None and given.shape == value.shape and not torch.equal(given.to(value.dtype), value):
            raise UserError(f'--resume: {latest} is a probe of another checkpoint than {checkpoint}, whose features would '
                            'not be looked at; give the one that it began with, start anew (--overwrite), or choose another '
                            '--work-dir')
