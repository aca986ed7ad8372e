"""A shipped config of mmdetection or mmsegmentation with DyViT-tiny in the place of its backbone."""

import math
import re
import traceback
from pathlib import Path

import mmdet
import mmseg
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from coma_mm.config_tree import walk
from coma_mm.models import DyViT

LIBRARIES = {'mmdet': mmdet, 'mmseg': mmseg}
DIMS = DyViT.output_channels('tiny', range(4))
STRIDES = (4, 8, 16, 32)


def configs(library):
    """Path: The folder of configs that a library ships."""
    return Path(LIBRARIES[library].__file__).parent / '.mim/configs'


def backbone(stages):
    """dict: DyViT-tiny that gives the maps of some stages."""
    return dict(type='mmpretrain.DyViT', arch='tiny', out_indices=tuple(stages))


def outputs_of(settings, library):
    """list[tuple[int, int]]: Channels and stride of each map that a backbone gives."""
    with DefaultScope.overwrite_default_scope(library):
        model = LIBRARIES[library].registry.MODELS.build(settings)
    model.eval()
    with torch.no_grad():
        maps = model(torch.zeros(1, 3, 128, 128))
    return [(one.shape[1], round(128 / one.shape[3])) for one in maps]


def replace(value, found, new):
    """A setting with new numbers of channels, where it is those of the backbone: one of them, or a list."""
    if isinstance(value, (list, tuple)):
        if list(value) == list(found[::-1]):  # from the coarsest map to the finest
            return type(value)(new[::-1])
        same = len(value) > 1 and list(value) == list(found[-len(value):]) or list(value) == list(found)
        return type(value)(new[-len(value):]) if same else value
    return new[-1] if value == found[-1] else value


def prepare(model):
    """Take out of a model's settings what needs files or large images, and let it regard fewer boxes."""
    for settings in walk(model):
        if settings.get('type') == 'Pretrained' or 'init_cfg' in settings and 'Pretrained' in str(settings['init_cfg']):
            settings['init_cfg'] = None
        if settings.get('pretrained'):
            settings['pretrained'] = False if settings['pretrained'] is True else None  # timm's, or a file
        if settings.get('type') == 'MMSyncBN':  # it asks for other processes when it is built
            settings['type'] = 'SyncBN'
        if settings.get('teacher_ckpt'):
            settings['teacher_ckpt'] = None
        if settings.get('batch_augments'):
            settings['batch_augments'] = None
        for name, limit in dict(max_per_img=100, nms_pre=200).items():
            if isinstance(settings.get(name), int):
                settings[name] = min(settings[name], limit)
        if settings.get('num') == 512 and 'pos_fraction' in settings:
            settings['num'] = 64
    return model


def detector(path):
    """Config: A detector's config with DyViT-tiny; its neck, or where it has none its heads, take the maps that it gives.

    The maps are those of the strides that the backbone has which it replaces.
    """
    config = Config.fromfile(path)
    prepare(config.model)
    model = config.model.get('detector') or config.model
    while 'backbone' not in model:
        model = model.detector
    if model.get('num_queries', 0) > 100:  # more than a small image has tokens
        model.num_queries = 100
    found = outputs_of(model.backbone, 'mmdet')
    stages = sorted({min(3, max(0, round(math.log2(stride)) - 2)) for _, stride in found})
    if len(stages) < len(found):  # several maps of a stride: the last stages, as many
        stages = range(4 - len(found), 4)
    channels, dims = [one for one, _ in found], [DIMS[i] for i in stages]
    model.backbone = backbone(stages)
    neck = model.get('neck')
    takers = [neck[0] if isinstance(neck, list) else neck] if neck else [
        value for name, value in model.items() if name.endswith('_head')]
    for settings in takers:
        for one in [settings] if neck else walk(settings):
            if 'in_channels' in one:
                one['in_channels'] = replace(one['in_channels'], channels, dims)
    return config


def segmentor(path):
    """Config: A segmentor's config with DyViT-tiny; its neck, or each head what its `in_index` names, takes the stages.

    Necks that make a pyramid of a plain ViT's maps are left out.
    """
    config = Config.fromfile(path)
    model = prepare(config.model)
    model.data_preprocessor.update(size=None, size_divisor=32)  # it would pad to 512 px
    model.backbone = backbone(range(4))
    heads = model.decode_head, model.get('auxiliary_head') or []
    heads = [one for group in heads for one in (group if isinstance(group, list) else [group])]
    if (model.get('neck') or {}).get('type') in ('FPN', 'ICNeck', 'JPU'):
        before = model.neck.in_channels
        stages = range(4)[-len(before):]
        model.backbone = backbone(stages)
        model.neck.in_channels = type(before)(DIMS[i] for i in stages)
        for head in heads[1:]:
            if head.in_channels in before:  # an auxiliary head, of a map that the neck gives on
                head.in_channels = model.neck.in_channels[before.index(head.in_channels)]
        return config
    model.pop('neck', None)
    for head in heads:
        head = head.get('kernel_generate_head', head)  # of several that refine each other, the first
        if 'c1_in_channels' in head:  # and the finest map
            head.c1_in_channels = DIMS[0]
        index = head.get('in_index', -1)
        if isinstance(index, (list, tuple)):
            head.in_index = list(index) if max(index) < 4 else list(range(4))[-len(index):]
            head.in_channels = [DIMS[i] for i in head.in_index]
        elif isinstance(head.get('in_channels'), (list, tuple)):
            head.in_channels = list(DIMS)[-len(head.in_channels):]
        else:
            head.in_index = index if -4 <= index < 4 else 3
            head.in_channels = DIMS[head.in_index]
            if head.get('num_convs') == 0:
                head.channels = head.in_channels
    return config


def sentence(error):
    """str: An error in one line; of one that says nothing, the line of code."""
    lines = str(error).strip().splitlines() or [traceback.extract_tb(error.__traceback__)[-1].line]
    return re.sub(r'\s+', ' ', f'{type(error).__name__}: {lines[0]}')[:300]
