"""Families of heads: one shipped config of each, and what it needs besides another backbone."""

import os
import re
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from mmdet.utils import register_all_modules as register_mmdet
from mmengine.registry import DefaultScope
from mmseg.utils import register_all_modules as register_mmseg

from tests.campaigns.heads.adapt import DIMS, backbone, configs, detector, segmentor, sentence
from tests.campaigns.heads.step import box_batch, build, check, detection_batch, segmentation_batch, semi_batch, track_batch
from tests.helpers.cuda_branches import CudaBranches

register_mmdet(init_default_scope=False)
register_mmseg(init_default_scope=False)


def ssd(config):
    """The neck gives the backbone's maps on, and then its own."""
    neck, head = config.model.neck, config.model.bbox_head
    neck.out_channels = head.in_channels = (*neck.in_channels, *neck.out_channels[2:])


def one_map(config):
    """Corners are found on one map, where an hourglass has two of a size."""
    config.model.backbone = backbone([1])
    config.model.bbox_head.update(num_feat_levels=1, in_channels=DIMS[1])


def ld(config):
    """The teacher's config by its place."""
    config.model.teacher_config = str(configs('mmdet').parent / config.model.teacher_config)


def detector_alone(config):
    """Of a tracker, the detector, on single images."""
    config.model = config.model.get('detector', config.model)
    config.model.data_preprocessor = dict(type='mmdet.DetDataPreprocessor', pad_size_divisor=32)


DET = {
    'bytetrack': dict(change=detector_alone, note='its detector'),
    'cascade_rpn': dict(config='cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py'),
    'centripetalnet': dict(change=one_map),
    'clrnet': dict(reason='finds lanes, of which the data sets are others'),
    'cornernet': dict(change=one_map),
    'deepsort': dict(change=detector_alone, note='its detector'),
    'detectors': dict(reason='its neck runs backbones of its own kind'),
    'glip': dict(reason='needs a language model'),
    'grounding_dino': dict(reason='needs a language model'),
    'guided_anchoring': dict(config='ga-retinanet_r50-caffe_fpn_1x_coco.py'),
    'htc': dict(stride=8),
    'lad': dict(note='needs scikit-learn'),
    'ld': dict(change=ld),
    'mask2former_vis': dict(batch=track_batch),
    'masktrack_rcnn': dict(batch=track_batch),
    'misc': dict(reason='models of detectron2'),
    'mm_grounding_dino': dict(reason='needs a language model'),
    'ocsort': dict(change=detector_alone, note='its detector'),
    'paa': dict(note='needs scikit-learn'),
    'qdtrack': dict(batch=track_batch),
    'reid': dict(reason='recognises persons: no dense prediction'),
    'sort': dict(config='faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py', change=detector_alone,
                 note='its detector'),
    'soft_teacher': dict(batch=semi_batch),
    'ssd': dict(change=ssd, size=300, note='its head lacks what mmdetection reads in predictions, whatever the backbone'),
    'queryinst': dict(note='untrained, its boxes lie outside the image, where the pasting of masks on a CPU fails'),
    'rtmdet': dict(batch=box_batch),
    'scnet': dict(stride=8),
    'strongsort': dict(change=detector_alone, note='its detector'),
    'tridentnet': dict(reason='its heads take the branches of its own backbone'),
}
SEG = {
    'ddrnet': dict(reason='its head takes other maps in training than in use'),
    'dpt': dict(reason='takes the tokens of a plain ViT'),
    'fastfcn': dict(config='fastfcn_r50-d32_jpu_psp_4xb4-80k_ade20k-512x512.py'),
    'mobilenet_v3': dict(size=800),  # its head takes the mean of 49 × 49 tokens
    'pidnet': dict(reason='its head takes other maps in training than in use'),
    'san': dict(reason='needs CLIP, image and text'),
    'setr': dict(config='setr_vit-l_pup_8xb1-80k_cityscapes-768x768.py', note='PUP; MLA takes the tokens of a plain ViT'),
    'vpd': dict(reason='needs a diffusion model'),
}
SKIPPED = {'mmdet': ('_base_', 'common'), 'mmseg': ('_base_', )}  # parts of other configs


@dataclass(frozen=True)
class Family:
    """One family of heads.

    Args:
        library (str): 'mmdet' or 'mmseg'.
        name (str): The folder of its configs.
        config (str): One of them.
        change (Callable, optional): Changes the config, adapted to another backbone.
        reason (str): Why it cannot have another backbone. Defaults to none.
        note (str): What is run, if it is not the whole model. Defaults to none.
        batch (Callable, optional): Makes two samples of a size and a stride of the map of classes.
        stride (int): Of the map of classes. Defaults to 1.
        size (int): Of the images. Defaults to 128, or 64 for segmentation.
    """

    library: str
    name: str
    config: str
    change: Callable | None = None
    reason: str = ''
    note: str = ''
    batch: Callable | None = None
    stride: int = 1
    size: int = 0


def families(library, settings):
    """Iterator[tuple[str, Family]]: Those of a library; of configs that are not chosen, the one of the shortest name."""
    for folder in sorted(configs(library).iterdir()):
        if folder.is_dir() and folder.name not in SKIPPED[library]:
            names = [file.name for file in folder.glob('*.py') if not re.search('tta|levir', file.name)]
            plain = [name for name in names if 'r50' in name] or names
            own = dict(dict(config=min(plain, key=lambda one: (len(one), one))), **settings.get(folder.name, {}))
            yield f'{library} {folder.name}', Family(library, folder.name, **own)


FAMILIES = dict([*families('mmdet', DET), *families('mmseg', SEG)])


def make(family, cuda_branches=False):
    """str: 'works', or why not."""
    try:
        with DefaultScope.overwrite_default_scope(family.library), CudaBranches() if cuda_branches else nullcontext():
            path = configs(family.library) / family.name / family.config
            config = (detector if family.library == 'mmdet' else segmentor)(path)
            if family.change:
                family.change(config)
            make_batch = family.batch or (detection_batch if family.library == 'mmdet' else segmentation_batch)
            batch = make_batch(family.size or (128 if family.library == 'mmdet' else 64), family.stride)
            if 'rpn_head' in config.model:  # it makes proposals itself
                for sample in batch['data_samples']:
                    if hasattr(sample, 'proposals'):
                        del sample.proposals
            check(build(config, family.library), batch)
        return 'works'
    except Exception as error:
        return traceback.format_exc() if 'TRACE' in os.environ else sentence(error)
