"""Every config builds what it names: model, optimiser, schedules and pipelines, at full size; no data is needed."""
import re
from copy import deepcopy
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import LOG_PROCESSORS, MODELS, PARAM_SCHEDULERS, TRANSFORMS, DefaultScope
from mmpretrain.models import BaseSelfSupervisor

from coma_mm.config.check_keys import check_keys
from coma_mm.config.read import read_config
from coma_mm.config_tree import walk
from coma_mm.datasets.loading import use_load_image
from coma_mm.engine import AutocastOptimWrapper
from coma_mm.engine.agreement.class_numbers import heads
from coma_mm.engine.optim.accumulation import batches_per_update
from coma_mm.models import MaskedAutoencoder
from coma_mm.prepare.new import classification, detection, pretrain, segmentation
from coma_mm.prepare.shape_scenes import LEVELS
from coma_mm.prepare.shape_scenes import NAMES as BANDS

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
TOKENS = ('cls_token', 'mask_token', 'pos_embed')
VARIABLES = ('DATA_ROOT', 'IMAGE_ROOT', 'SHAPES_ROOT', 'COCO_MINI_ROOT', 'PRETRAINED')

# Trained parameters of the model, and all of its backbone (the paper: DyViT-S 35.1 M, DyViT-B 70.3 M, ViT-B 85.8 M).
# CoMA's and MAE's models agree, as the evaluation model is not trained.
PARAMETERS = {
    'coma/coma_dyvit-small_*': (63_870_816, 35_130_912),
    'coma/coma_dyvit-base_*': (99_655_744, 70_290_976),
    'coma/coma_vit-base-p16_*': (111_655_680, 85_798_656),
    'mae/mae_dyvit-base_*': (99_655_744, 70_290_976),
    'mae/mae_vit-base-p16_*': (111_655_680, 85_798_656),
    'ablations/coma_dyvit-base-p16_*': (97_226_560, 70_247_968),
    'ablations/coma_dyvit-base_convnext-decoder_*': (91_451_456, 70_290_976),
    'classification/dyvit-small_8xb128-*': (35_898_568, 35_129_568),
    'classification/dyvit-base_8xb128-*': (71_186_408, 70_289_408),
    'classification/vit-base-p16_8xb128-*': (86_416_360, 85_798_656),
    'classification/dyvit-small_8xb2048-linear-*': (769_000, 35_129_568),
    'classification/dyvit-base_8xb2048-linear-*': (897_000, 70_289_408),
    'segmentation/upernet_dyvit-small_*': (67_552_076, 35_130_912),
    'segmentation/upernet_dyvit-base_*': (103_768_908, 70_290_976),
    'detection/mask-rcnn_dyvit-small_*': (55_404_816, 35_130_912),
    'detection/mask-rcnn_dyvit-base_*': (90_626_320, 70_290_976),
    'segmentation/mask2former_dyvit-base_*': (90_271_351, 70_290_976),
    'detection/retinanet_dyvit-base_*': (81_581_108, 70_290_752),
    'detection/cascade-mask-rcnn_dyvit-base_*': (123_554_590, 70_290_976),
    'detection/dino-4scale_dyvit-base_*': (91_445_900, 70_290_752),
    'detection/mask2former_dyvit-base_*_coco.py': (90_253_361, 70_290_976),
    'detection/mask2former_dyvit-base_*_coco-panoptic.py': (90_266_982, 70_290_976),
    'shapes/coma_dyvit-tiny_shapes.py': (2_329_696, 1_503_584),
    'shapes/dyvit-tiny_*_shapes.py': (1_506_154, 1_503_584),
    'shapes/mask-rcnn_dyvit-tiny_*_shapes.py': (2_693_548, 1_504_032),
    'shapes/upernet_dyvit-tiny_*_shapes.py': (2_213_556, 1_504_032),
    'shapes/coma_dyvit-tiny-p16_shapes-easy.py': (2_027_104, 1_498_208),
    'shapes/coma_dyvit-tiny-p16_latent_shapes-easy.py': (2_060_128, 1_498_208),
    'shapes/coma_dyvit-tiny-p16_all-stages_shapes-easy.py': (2_101_728, 1_498_656),
    'shapes/dyvit-tiny-p16_*_shapes-easy.py': (1_501_061, 1_498_656),
    'shapes/mask-rcnn_dyvit-tiny-p16_*_shapes-easy.py': (2_635_982, 1_498_400),
    'shapes/upernet_dyvit-tiny-p16_*_shapes-easy.py': (2_207_530, 1_498_656),
    'shapes/retinanet_dyvit-tiny-p16_*': (1_826_353, 1_498_400),
    'shapes/cascade-mask-rcnn_dyvit-tiny-p16_*': (4_555_996, 1_498_400),
    'shapes/dino-4scale_dyvit-tiny-p16_*': (1_957_115, 1_498_400),
    'shapes/mask2former_dyvit-tiny-p16_*': (1_805_638, 1_498_656),
    'shapes/mask2former-semantic_dyvit-tiny-p16_*': (1_805_638, 1_498_656),
    'shapes/mask2former-panoptic_dyvit-tiny-p16_*': (1_805_703, 1_498_656),
    'small/coma_dyvit-tiny-p16_*_shapes-4bands.py': (2_061_696, 1_499_776),
    'small/dyvit-tiny-p16_*_shapes-4bands.py': (1_502_629, 1_500_224),
    'small/mask-rcnn_dyvit-tiny-p16_*_shapes-4bands.py': (2_637_550, 1_499_968),
    'small/upernet_dyvit-tiny-p16_*_shapes-4bands.py': (2_209_098, 1_500_224),
    'small/coma_dyvit-tiny_*': (2_329_696, 1_503_584),
    'small/mask-rcnn_dyvit-tiny_*': (2_788_048, 1_504_032),
    'small/upernet_dyvit-tiny_*': (2_222_656, 1_504_032),
}


def read(name):
    """Config: As the tools read it, where no environment variable is set."""
    return deepcopy(_read(name))  # what is built from a config may change it


@cache
def _read(name):
    with pytest.MonkeyPatch.context() as patch:
        for variable in VARIABLES:
            patch.delenv(variable, raising=False)
        return read_config(str(ROOT / name))


@pytest.fixture(scope='module', params=NAMES)
def config(request):
    """Its name, the config, and its model without values; in the config's default scope."""
    cfg = read(request.param)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        yield request.param, cfg, MODELS.build(cfg.model)


def test_every_key_is_read(config):
    name, cfg, _ = config
    assert check_keys(cfg, name) == []


def test_number_of_parameters(config):
    name, _, model = config
    expected, = (counts for pattern, counts in PARAMETERS.items() if Path(name).match(pattern))
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert (trained, sum(value.numel() for value in model.backbone.parameters())) == expected


def test_every_row_is_of_a_config():
    assert not [pattern for pattern in PARAMETERS if not any(Path(name).match(pattern) for name in NAMES)]


def input_size(cfg):
    """tuple[int, int]: What the training pipeline makes of an image: its last crop or resizing."""
    *_, size = ((800, 1333), *(step[key] for step in train_pipeline(cfg) for key in ('scale', 'crop_size') if key in step))
    return (size, size) if isinstance(size, int) else tuple(size)


def train_pipeline(cfg):
    return cfg.train_dataloader.dataset.pipeline


def test_shapes_agree_at_full_size(config):
    """A forward pass through all parts with weights, as far as it depends on nothing but shapes."""
    _, cfg, model = config
    height, width = input_size(cfg)
    images = torch.zeros(2, cfg.get('bands', 3), height, width)
    if isinstance(model, MaskedAutoencoder):
        patches = (height // model.backbone.patch_size) * (width // model.backbone.patch_size)
        ids_keep = torch.zeros(2, patches // 2, dtype=torch.int64)
        ids_rest = torch.zeros(2, patches - patches // 2, dtype=torch.int64)
        assert model.loss(images, ids_keep, ids_rest)['loss'].shape == ()
    elif cfg.model.type == 'MAE':
        assert model.loss(images, None)['loss'].shape == ()
    elif cfg.model.type == 'ImageClassifier':
        assert model(images).shape == (2, model.head.num_classes)
    else:
        feats = model.backbone(images)
        strides = [model.backbone.strides[stage] for stage in model.backbone.out_indices]
        assert [feat.shape[2:] for feat in feats] == [(-(-height // stride), -(-width // stride)) for stride in strides]
        head = getattr(model, 'panoptic_head', getattr(model, 'decode_head', None))
        if cfg.model.type == 'RetinaNet':
            levels = model.neck(feats)
            scores, _ = model.bbox_head(levels)
            assert [score.shape for score in scores] == [
                (2, 9 * model.bbox_head.num_classes, *level.shape[2:]) for level in levels]
        elif cfg.model.type == 'DINO':
            levels = model.neck(feats)
            assert {level.shape[1] for level in levels} == {model.embed_dims} and len(levels) == cfg.model.neck.num_outs
            assert len(levels) == model.encoder.layers[0].self_attn.num_levels
        elif hasattr(head, 'pixel_decoder'):
            decoder = head.pixel_decoder  # its attention looks at values
            coarse = [conv(feat) for conv, feat in zip(decoder.input_convs, feats[:0:-1], strict=True)]
            fine, = (conv(feats[0]) for conv in decoder.lateral_convs)
            assert {level.shape[1] for level in (fine, *coarse)} == {head.query_embed.embedding_dim}
            assert decoder.encoder.layers[0].self_attn.num_levels == len(coarse)
        elif cfg.default_scope == 'mmseg':
            for head, stride in ((model.decode_head, 4), (model.auxiliary_head, 16)):
                assert head(feats).shape == (2, head.num_classes, height // stride, width // stride)
        else:
            heads = model.roi_head
            levels = model.neck(feats)
            assert len(model.rpn_head(levels)[0]) == len(levels) == model.neck.num_outs

            def each(part):  # a cascade has several
                return part if isinstance(part, torch.nn.ModuleList) else [part]

            for extractor, head in zip(each(heads.bbox_roi_extractor), each(heads.bbox_head), strict=True):
                assert extractor.out_channels == levels[0].shape[1]
                boxes = torch.zeros(7, extractor.out_channels, 7, 7)
                assert head(boxes)[0].shape == (7, head.num_classes + 1)
            for extractor, head in zip(each(heads.mask_roi_extractor), each(heads.mask_head), strict=True):
                assert extractor.out_channels == levels[0].shape[1]
                masks = torch.zeros(7, extractor.out_channels, 14, 14)
                assert head(masks).shape == (7, head.num_classes, 28, 28)


def test_name_says_arch_size_batch_and_schedule(config):
    name, cfg, model = config
    arch, patch = re.search(r'vit-([a-z]+)(?:-p(\d+))?_', name).groups()
    assert cfg.model.backbone.arch in (arch, arch[0])  # mmpretrain's MAE calls base b
    patch_size = getattr(model.backbone, 'patch_size', cfg.model.backbone.get('patch_size'))
    assert patch_size == int(patch or 32)
    for size in re.findall(r'[-_x](\d+)(?:px|x\d+)?\.py', name):
        assert int(size) in input_size(cfg) or any(int(size) in step.get('scale', ()) for step in train_pipeline(cfg))
    if batch := re.search(r'_(\d+)xb(\d+)[-_]', name):
        gpus, images = map(int, batch.groups())
        assert cfg.train_dataloader.batch_size == images
        assert cfg.auto_scale_lr.base_batch_size == gpus * images
        assert not cfg.auto_scale_lr.get('enable')
        assert cfg.optim_wrapper.accumulative_counts == 'auto'
        for processes in {gpus, gpus // 2, 1} - {0}:
            assert batches_per_update(cfg, processes) == gpus // processes
    if epochs := re.search(r'[-_](\d+)e_', name):
        if 'max_iters' in cfg.train_cfg:  # mmdetection counts in iterations, on COCO's 118,000 images
            assert cfg.train_cfg.max_iters == int(epochs[1]) * 118_000 // cfg.auto_scale_lr.base_batch_size
        else:
            assert cfg.train_cfg.max_epochs == int(epochs[1])
    if times := re.search(r'-(\d)x_', name):
        assert cfg.train_cfg.max_epochs == 12 * int(times[1])
    if iterations := re.search(r'-(\d+)k_', name):
        assert cfg.train_cfg.max_iters == 1000 * int(iterations[1])


def test_optimiser_and_schedules(config):
    name, cfg, model = config
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, accumulative_counts=1))  # 'auto' is the runner's
    # Names of linear probes leave it out, as mmpretrain's do.
    assert isinstance(wrapper, (AutocastOptimWrapper, AmpOptimWrapper)) == bool(re.search('-amp-|-linear-', name))
    groups = wrapper.optimizer.param_groups
    names = {id(value): name for name, value in model.named_parameters()}
    held = [value for group in groups for value in group['params']]
    assert len(held) == len({id(value) for value in held})
    assert {names[id(value)] for value in held if value.requires_grad} == {
        name for name, value in model.named_parameters() if value.requires_grad}
    assert max(group['lr'] for group in groups) == pytest.approx(cfg.optim_wrapper.optimizer.lr)
    # mmdetection and mmsegmentation decay biases of DINO and Mask2Former.
    ours = {'flat_decay_mult', 'layer_decay_rate'} & (cfg.optim_wrapper.get('paramwise_cfg') or {}).keys()
    if cfg.optim_wrapper.optimizer.weight_decay and (ours or 'constructor' in cfg.optim_wrapper):
        for group in groups:
            for value in group['params']:
                exempt = value.ndim == 1 or names[id(value)].endswith(TOKENS)
                assert group['weight_decay'] == (0 if exempt else cfg.optim_wrapper.optimizer.weight_decay)
    for schedule in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(dict(schedule), default_args=dict(optimizer=wrapper, epoch_length=10))
        assert schedule.get('T_max', schedule.end - schedule.begin) == schedule.end - schedule.begin
        assert schedule.begin < min(schedule.get('milestones', [schedule.end])) <= schedule.end
        assert max(schedule.get('milestones', [0])) < schedule.end
    assert cfg.param_scheduler[0].begin == 0
    for one, other in pairwise(cfg.param_scheduler):
        assert other.begin == one.end or (not one.by_epoch and other.by_epoch and other.begin == 0)
    assert schedule.end == cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters'))


def test_pipelines(config):
    _, cfg, _ = config
    pipelines = [cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val', 'test')
                 if cfg.get(f'{split}_dataloader')]
    for pipeline in (*pipelines, *([cfg.tta_pipeline] if 'tta_pipeline' in cfg else ())):
        # For the libraries' inferencers, which know RGB alone.
        assert pipeline[0].type in ('LoadImage' if 'bands' in cfg else 'LoadImageFromFile', 'LoadRandomResizedCrop')
        if any(step.type == 'LoadPanopticAnnotations' for step in pipeline):  # needs panopticapi
            pytest.importorskip('panopticapi')
        steps = [TRANSFORMS.build(step) for step in use_load_image(pipeline)]
        # LoadImage gives bytes alone.
        assert type(steps[0]).__name__ in ('LoadImage', 'LoadRandomResizedCrop') or pipeline[0].get('to_float32')
        for step in steps:
            if type(step).__name__ == 'LoadAnnotations' and 'segm' in cfg.val_evaluator.get('metric', ()):
                assert step.with_mask


def test_images_keep_their_shape(config):
    name, cfg, _ = config
    if name.startswith('shapes/dyvit') or name.endswith('shapes-4bands.py'):  # whose scenes are square
        return
    steps = [step for step in walk(cfg.to_dict()) if step.get('type') in ('Resize', 'RandomResize')]
    assert not [step for step in steps if not step.get('keep_ratio')]


@pytest.mark.parametrize('name', [
    *(name for name in NAMES if name.startswith('small/') and not name.endswith('shapes-4bands.py')),
    *(base for task in (pretrain, classification, segmentation, detection) for base in task.BASES.values())])
def test_what_photographs_are_for_says_nothing_of_drawn_shapes(name):
    assert 'shapes' not in str(Config.fromfile(ROOT / name).to_dict())


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith(('small/mask', 'small/upernet'))])
def test_own_classes_take_the_place_of_those_of_a_small_config(tmp_path, name):
    own = tmp_path / 'own.py'
    own.write_text(f"_base_ = 'coma_mm::{name}'\n"
                   "train_dataloader = dict(dataset=dict(metainfo=dict(classes=('disc', 'box'))))")
    assert read_config(str(own)).train_dataloader.dataset.metainfo == dict(classes=('disc', 'box'))


def test_masks_are_drawn_for_the_models_patches(config):
    _, cfg, model = config
    if not isinstance(model, MaskedAutoencoder):
        return
    for split in ('train', 'val', 'test'):
        step, = (step for step in cfg[f'{split}_dataloader'].dataset.pipeline if step.type == 'PatchMask')
        assert step.patch_size == model.backbone.patch_size == model.decoder.patch_size
        assert step.sampler == dict(type='UniformMaskSampler', ratio=0.6) == cfg.mask_sampler


def test_classes(config):
    name, cfg, model = config
    metainfo = cfg.train_dataloader.dataset.get('metainfo')
    if cfg.default_scope == 'mmdet':
        number = len(metainfo.classes if metainfo else CocoDataset.METAINFO['classes'])
        if cfg.train_dataloader.dataset.type == 'CocoPanopticDataset' and not metainfo:
            number = 133
        found = [head.num_classes for _, head in heads(model)] or [model.panoptic_head.num_classes]
        assert set(found) == {number}
    elif cfg.default_scope == 'mmseg':
        number = len(metainfo.classes) if metainfo else 150
        assert {head.num_classes for _, head in heads(model)} == {number}
    elif cfg.model.type == 'ImageClassifier':
        number = 5 if 'easy' in name or 'bands' in name else 10 if 'shapes' in name else 1000
        preprocessor = cfg.get('data_preprocessor') or cfg.model.data_preprocessor
        assert model.head.num_classes == preprocessor.num_classes == number


def test_branches_errors_are_logged_as_the_loss_is(config):
    _, cfg, _ = config
    if cfg.model.type == 'CoMA':
        pattern = LOG_PROCESSORS.build(dict(type='LogProcessor', **cfg.log_processor)).mean_pattern
        assert all(pattern.search(name) for name in ('loss', 'mse_adaptive', 'mse_evaluation', 'time', 'data_time'))


def test_a_branch_is_left_out_only_where_it_teaches_nothing(config):
    _, cfg, _ = config
    intervals = [hook.interval for hook in cfg.get('custom_hooks') or [] if hook.type == 'EvaluationModelHook']
    assert len(intervals) == (cfg.model.type == 'CoMA')
    assert intervals in ([], [1]) or cfg.model.complement == 'frozen'


def test_pretraining_is_found_by_default(config):
    """What fine-tuning takes unless PRETRAINED is set is what a config of ours writes into its default work_dir."""
    name, cfg, model = config
    if 'init_cfg' not in cfg.model.backbone:
        assert isinstance(model, BaseSelfSupervisor) or 'scratch' in name
        return
    folder, run, file = cfg.model.backbone.init_cfg.checkpoint.split('/')
    path, = ROOT.rglob(f'{run}.py')
    pretraining = read(str(path.relative_to(ROOT)))
    assert (folder, file) == ('work_dirs', f'epoch_{pretraining.train_cfg.max_epochs}.pth')
    ours, its = cfg.model.backbone, pretraining.model.backbone
    assert ours.type.removeprefix('mmpretrain.') == its.type
    assert [ours.get(key) for key in ('arch', 'patch_size')] == [its.get(key) for key in ('arch', 'patch_size')]


def test_named_classes_are_those_of_the_data():
    assert Config.fromfile(ROOT / '_base_/datasets/coco_mini.py').coco_classes == CocoDataset.METAINFO['classes']
    shapes = Config.fromfile(ROOT / '_base_/datasets/shapes.py')
    assert (shapes.shapes_classes, shapes.easy_classes) == tuple(LEVELS[name].classes for name in ('hard', 'easy'))
    bands = Config.fromfile(ROOT / '_base_/datasets/shapes-4bands.py')
    assert bands.bands_classes == LEVELS['easy'].of_bands(4).classes
    assert tuple(band.name for band in bands.moments.bands) == BANDS and bands.bands == len(BANDS)
