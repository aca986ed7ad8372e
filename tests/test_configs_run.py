"""Every config is run, made small, unless it is the twin of another or of a small one: trained, validated and tested.

The data are CoMA-Shapes in the layouts of the real data sets.
"""
import gc
import inspect
import json
import logging
import math
import os
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from mmdet.testing import demo_mm_inputs
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.models import EncoderDecoder

from coma_mm.config.read import read_config, use_tta
from coma_mm.engine.models import build_model
from coma_mm.engine.train import test as run_test
from coma_mm.engine.train import train
from coma_mm.weights import load_weights_only

from .helpers.small_runs import shrink, types, write_data
from .test_config.test_options import COMA, CONVNEXT, parse
from .test_configs import NAMES, ROOT, VARIABLES

UPERNET = 'segmentation/upernet_dyvit-base_8xb2-160k_ade20k-512x512.py'
MASK_RCNN = 'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-768px.py'
LINEAR = 'classification/dyvit-base_8xb2048-linear-coslr-90e_in1k.py'
COMA_800 = 'coma/coma_dyvit-base_8xb512-amp-coslr-800e_in1k.py'
MAE_VIT = 'mae/mae_vit-base-p16_8xb512-amp-coslr-1600e_in1k.py'
TWINS = {
    'coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k.py': COMA_800,
    'coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k-fast.py': COMA_800,
    'coma/coma_dyvit-small_8xb512-amp-coslr-300e_in1k.py': COMA_800,
    'coma/coma_dyvit-small_8xb512-amp-coslr-800e_in1k.py': COMA_800,
    'coma/coma_dyvit-small_8xb512-amp-coslr-300e_folder.py': 'coma/coma_dyvit-base_8xb512-amp-coslr-300e_folder.py',
    'coma/coma_dyvit-small_1xb128-amp-coslr-300e_folder.py': 'coma/coma_dyvit-base_8xb512-amp-coslr-300e_folder.py',
    'coma/coma_dyvit-base_1xb128-amp-coslr-300e_folder.py': 'coma/coma_dyvit-base_8xb512-amp-coslr-300e_folder.py',
    'mae/mae_dyvit-base_8xb512-amp-coslr-300e_in1k.py': 'mae/mae_dyvit-base_8xb512-amp-coslr-800e_in1k.py',
    'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py': MAE_VIT,
    'classification/dyvit-small_8xb128-coslr-100e_in1k.py': 'classification/dyvit-base_8xb128-coslr-100e_in1k.py',
    'classification/dyvit-small_8xb2048-linear-coslr-90e_in1k.py': LINEAR,
    'segmentation/upernet_dyvit-small_8xb2-160k_ade20k-512x512.py': UPERNET,
    'detection/mask-rcnn_dyvit-small_fpn_8xb8-lsj-100e_coco-768px.py': MASK_RCNN,
    'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-1x_coco-768px.py': MASK_RCNN,
    'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-3x_coco-768px.py': MASK_RCNN,
    'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-1024px.py': MASK_RCNN,
    'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-1x_coco-1024px.py': MASK_RCNN,
    'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-3x_coco-1024px.py': MASK_RCNN,
}
"""Configs that differ from another in numbers alone, once they are small; only the other one is run."""


@pytest.fixture(scope='session')
def run_folder(tmp_path_factory):
    """A folder with all data sets below `data`, one for all processes of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if 'PYTEST_XDIST_WORKER' in os.environ else folder) / 'configs'
    folder.mkdir(exist_ok=True)
    with FileLock(folder / 'data.lock'):
        if not (folder / 'data').exists():
            write_data(folder / 'unfinished')
            (folder / 'unfinished').rename(folder / 'data')
    return folder


@pytest.fixture(autouse=True, scope='module')
def hurry():
    """Leave out what takes most of the time of small runs."""
    gc.freeze()  # data sets collect garbage when they are built, among all that was ever imported
    with pytest.MonkeyPatch.context() as patch:
        # Runs write their configs half a dozen times each, prettily formatted.
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **options: (text, True))
        yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def inside(run_folder, monkeypatch):
    """Data and checkpoints are found where configs expect them by default: in the folder that one is in."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(run_folder)
    yield
    for name in list(MMLogger._instance_dict):
        for handler in logging.getLogger(name).handlers:
            handler.close()
        logging.getLogger(name).handlers.clear()


@HOOKS.register_module()
class Recorder(Hook):
    """Notes what happens in a run."""
    notes = None

    def before_train(self, runner):
        Recorder.notes = dict(losses=[], lrs=[], metrics=[], before=on_cpu(runner.model))
        self.notes['frozen'] = {name for name, value in runner.model.named_parameters() if not value.requires_grad}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        lrs = runner.optim_wrapper.get_lr()
        self.notes['lrs'].append(lrs.get('base_lr', lrs['lr'])[0])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.notes['losses'].append({name: float(value) for name, value in outputs.items()})

    def after_val_epoch(self, runner, metrics=None):
        self.notes['metrics'].append(metrics)


def on_cpu(model):
    """dict: A copy of a model's tensors."""
    return {name: value.cpu().clone() for name, value in model.state_dict().items()}


def run(name, work_dir, options=None):
    """dict: What happened when a config, made small, was trained and its checkpoint tested."""
    with pytest.MonkeyPatch.context() as patch:
        if name.endswith('-easy.py'):
            patch.setenv('SHAPES_ROOT', 'data/shapes-easy')
        cfg = read_config(str(ROOT / name), options, work_dir)
    found = [list(types(cfg))]
    shrink(cfg)
    found.append(list(types(cfg)))
    cfg.merge_from_dict(options or {})
    cfg.custom_hooks = [*cfg.get('custom_hooks', ()), dict(type='Recorder')]
    for_test = deepcopy(cfg)
    model = train(cfg)
    checkpoint = Path(work_dir, 'last_checkpoint').read_text()
    notes = dict(Recorder.notes, cfg=for_test.to_dict(), types=found, checkpoint=checkpoint, after=on_cpu(model))
    if cfg.get('test_dataloader'):
        for_test.load_from = checkpoint
        notes['test'] = run_test(for_test)
    return notes


def ran(name):
    """dict: What happened in the run of a config; it is run if no test did so before, after the one that it builds on."""
    folder = Path('work_dirs', Path(name).stem)
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f'{folder}.lock'):
        if not Path(folder, 'notes.pth').exists():
            cfg = read_config(str(ROOT / name))
            if 'init_cfg' in cfg.model.backbone:
                pretraining = Path(cfg.model.backbone.init_cfg.checkpoint).parent.name
                ran(*(other for other in NAMES if Path(other).stem == pretraining))
            notes = run(name, str(folder))
            # What the full run would write last, and fine-tuning looks for.
            last = folder / f'epoch_{cfg.train_cfg.get("max_epochs")}.pth'
            if not last.exists():
                last.symlink_to(Path(notes['checkpoint']).name)
            torch.save(notes, folder / 'notes.pth')
    return torch.load(folder / 'notes.pth', weights_only=False)


def learning_rates(cfg):
    """list[float]: The learning rate in every iteration, by the schedules' closed forms."""
    by_epoch = 'max_epochs' in cfg['train_cfg']
    counts = cfg['optim_wrapper'].get('accumulative_counts')
    length = 8 // cfg['train_dataloader']['batch_size'] // (2 if counts == 'auto' else 1)
    rates = []
    for iteration in range(cfg['train_cfg']['max_epochs'] * length if by_epoch else cfg['train_cfg']['max_iters']):
        rate = cfg['optim_wrapper']['optimizer']['lr']
        for schedule in cfg['param_scheduler']:
            stretch = length if schedule.get('convert_to_iter_based') else 1
            now = iteration // length if schedule['by_epoch'] and stretch == 1 else iteration
            begin, end = schedule['begin'] * stretch, schedule['end'] * stretch
            done = min(max(now - begin, 0), end - begin - 1)
            if schedule['type'] == 'LinearLR':
                rate *= 1 - (1 - schedule['start_factor']) * (1 - done / (end - begin - 1))
            elif schedule['type'] == 'PolyLR':
                rate *= (1 - done / (end - begin - 1))**schedule['power']
            elif schedule['type'] == 'CosineAnnealingLR':
                rate *= (1 + math.cos(math.pi * done / (end - begin))) / 2
            else:
                rate *= schedule['gamma']**sum(now >= time for time in schedule['milestones'])
        rates.append(rate)
    return rates


def promised(cfg):
    """set[str]: The metrics that a config's evaluator is there for."""
    evaluator = cfg['val_evaluator']
    if evaluator['type'] == 'Accuracy':
        return {f'accuracy/top{k}' for k in evaluator['topk']}
    if evaluator['type'] == 'ReconstructionError':
        kinds = ('masked', 'complement', 'assembled') if cfg['model']['type'] == 'CoMA' else ('masked', )
        return {f'reconstruction/{kind}' for kind in kinds}
    if evaluator['type'] == 'CocoMetric':
        kinds = evaluator['metric']
        return {f'coco/{kind}_mAP' for kind in ([kinds] if isinstance(kinds, str) else kinds)}
    assert evaluator['type'] == 'IoUMetric'
    return {'mIoU', 'mAcc', 'aAcc'}


def outline(name):
    """str: What a runner reads of a config, made small, without numbers, of which an architecture's name is one."""
    cfg = read_config(str(ROOT / name), work_dir='work_dirs/any')
    shrink(cfg)
    read = {key: value for key, value in cfg.to_dict().items() if key in inspect.signature(Runner).parameters}
    text = json.dumps(read, default=str, sort_keys=True)
    return re.sub(r'[\d.]+(e-\d+)?', '0', text.replace('dyvit-small', 'dyvit-base'))


@pytest.mark.parametrize('name', TWINS)
def test_a_twin_differs_in_numbers_alone(name):
    assert TWINS[name] not in TWINS and outline(name) == outline(TWINS[name])


EASY = 'shapes/{}_dyvit-tiny-p16_coma_shapes-easy.py'
RECIPES = {
    'detection/retinanet_dyvit-base_fpn_8xb2-1x_coco.py': EASY.format('retinanet'),
    'detection/cascade-mask-rcnn_dyvit-base_fpn_8xb2-1x_coco.py': EASY.format('cascade-mask-rcnn'),
    'detection/dino-4scale_dyvit-base_8xb2-12e_coco.py': EASY.format('dino-4scale'),
    'detection/mask2former_dyvit-base_8xb2-lsj-50e_coco.py': EASY.format('mask2former'),
    'detection/mask2former_dyvit-base_8xb2-lsj-50e_coco-panoptic.py': EASY.format('mask2former-panoptic'),
    'segmentation/mask2former_dyvit-base_8xb2-160k_ade20k-512x512.py': EASY.format('mask2former-semantic'),
}
"""Configs of the libraries around a DyViT, and the small one of the same model that is run in their place."""
BANDS = [name for name in NAMES if name.endswith('bands.py')]  # which test_config/test_bands.py runs
PANOPTIC = EASY.format('mask2former-panoptic')  # its data are not drawn here, and panopticapi reads them


def test_a_recipe_and_its_small_config_have_the_same_parts():
    for name, small in RECIPES.items():
        found = [[kind for kind in types(read_config(str(ROOT / one)).model) if kind != 'BatchFixedSizePad']
                 for one in (name, small)]
        assert found[0] == found[1] and len(found[0]) > 10, name


def test_a_panoptic_model_learns_and_predicts():
    cfg = read_config(str(ROOT / PANOPTIC))
    model = build_model(cfg)
    scenes = demo_mm_inputs(2, (3, 64, 64), num_items=[2, 1], num_classes=5, with_mask=True, with_semantic=True)
    for sample in scenes['data_samples']:
        sample.gt_sem_seg.sem_seg.fill_(5)  # no more stuff than ground
    batch = model.data_preprocessor(scenes, True)
    losses = model.train().loss(batch['inputs'], batch['data_samples'])
    assert 'loss_mask' in losses and all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, value in model.backbone.named_parameters() if value.grad is None]
    with torch.no_grad():
        samples = model.eval().predict(batch['inputs'], batch['data_samples'])
    assert all(sample.pred_panoptic_seg.sem_seg.shape == (1, 64, 64) for sample in samples)


@pytest.mark.parametrize('name', [name for name in NAMES if name not in (*TWINS, *RECIPES, PANOPTIC, *BANDS)])
def test_every_config_runs(name):
    notes = ran(name)
    cfg, before, after = notes['cfg'], notes['before'], notes['after']
    assert notes['types'][0] == notes['types'][1]  # shrinking leaves out nothing and puts in nothing

    assert all(math.isfinite(value) for logged in notes['losses'] for value in logged.values())
    assert all(logged['loss'] > 0 for logged in notes['losses'])
    expected = learning_rates(cfg)
    assert len(notes['losses']) == len(expected) >= 4
    assert notes['lrs'] == pytest.approx(expected, rel=1e-3, abs=2e-6)  # the least rate is up to 1e-6

    saved = load_weights_only(notes['checkpoint'])
    assert saved['state_dict'].keys() == after.keys()
    assert all(torch.equal(saved['state_dict'][key], value) for key, value in after.items())

    if cfg.get('val_evaluator'):
        assert notes['metrics']
        assert all(promised(cfg) <= metrics.keys() for metrics in [*notes['metrics'], notes['test']])
        if cfg['test_dataloader'] == cfg['val_dataloader']:
            # Pre-training is validated in the precision of training, and tested in float32.
            rounded = 'reconstruction/masked' in notes['test'] and cfg['optim_wrapper']['type'] == 'AutocastOptimWrapper'
            last = {key: value for key, value in notes['metrics'][-1].items() if not key.startswith('probe/')}
            assert notes['test'] == pytest.approx(last, rel=1e-3 if rounded else 1e-6)
        if 'reconstruction/masked' in notes['test']:
            assert math.isfinite(notes['metrics'][-1]['probe/rankme_stage1'])
            assert list(Path(notes['checkpoint']).parent.glob('*/vis_data/vis_image/reconstructions_*.png'))

    frozen = {key for key in before if key in notes['frozen']}
    backbone = {key for key in before if key.startswith('backbone.')}
    assert all(torch.equal(before[key], after[key]) for key in frozen)
    assert not [key for key in backbone - frozen if torch.equal(before[key], after[key])]
    assert ('-linear-' in name) == (backbone == frozen)
    if 'head.fc.weight' in before:
        assert not torch.equal(before['head.fc.weight'], after['head.fc.weight'])

    if 'init_cfg' in cfg['model']['backbone']:
        weights = load_weights_only(cfg['model']['backbone']['init_cfg']['checkpoint'])['state_dict']
        assert all(torch.equal(before[key], weights[key]) for key in backbone & weights.keys())
        missing = backbone - weights.keys()  # the norm of averaged features, or those of stages that the decoder did not see
        assert len(missing) <= 2 or all(re.fullmatch(r'backbone\.norm[0-3]\.(weight|bias)', key) for key in missing)
    if cfg['model']['type'] == 'CoMA':  # one update behind
        for key in backbone - frozen:
            assert not torch.equal(after[f'evaluation.{key}'], after[key])
            assert not torch.equal(after[f'evaluation.{key}'], before[f'evaluation.{key}'])


@pytest.mark.parametrize(('name', 'options', 'logged'), [
    (CONVNEXT, 'model.decoder.depth=2', {'mse_adaptive', 'mse_evaluation'}),
    (COMA, 'mask_sampler.type=ColorNoiseMaskSampler mask_sampler.color=red', {'mse_adaptive', 'mse_evaluation'}),
    (COMA, 'model.complement=decoder model.momentum=0.996', {'mse_adaptive', 'mse_evaluation'}),
    (COMA, 'model.complement=full mask_pair=independent model.neck.mode=parallel', {'mse_adaptive', 'mse_evaluation'}),
    (COMA, 'model.complement=none model.backbone.windows=[[8],[4],[],[]]', set()),
])
def test_ablations_run(name, options, logged):
    notes = run(name, f'work_dirs/{options}', parse(options))
    assert all(losses.keys() == {'loss', *logged} for losses in notes['losses'])
    assert all(math.isfinite(value) for losses in notes['losses'] for value in losses.values())
    frozen = {key for key in notes['after'] if key.startswith('evaluation.')}
    assert not [key for key in notes['after'].keys() - frozen if torch.equal(notes['before'][key], notes['after'][key])]
    assert {'complement' in key for key in notes['test']} == ({True, False} if logged else {False})
    assert ('decoder.blocks.1.norm.weight' in notes['after']) == (name == CONVNEXT)


def test_evaluation_in_every_second_iteration():
    notes = run(COMA, 'work_dirs/interval', parse('custom_hooks.0.interval=2'))
    assert ['mse_evaluation' in losses for losses in notes['losses']] == [True, False, True, False]
    # In between the loss is the adaptive model's part of the same mean: two of four patches are masked.
    for losses in notes['losses'][1::2]:
        assert losses['loss'] == pytest.approx(losses['mse_adaptive'] / 2)


@pytest.fixture
def windows(monkeypatch):
    """The heights and widths of what a segmentor sees."""
    seen = []
    encode_decode = EncoderDecoder.encode_decode

    def note(self, inputs, metas):
        seen.append(tuple(inputs.shape[2:]))
        return encode_decode(self, inputs, metas)

    monkeypatch.setattr(EncoderDecoder, 'encode_decode', note)
    return seen


def segment(work_dir, options=None, tta=False):
    """dict: Metrics of UperNet, made small; `options` are as they are."""
    checkpoint = ran(UPERNET)['checkpoint']

    cfg = read_config(str(ROOT / UPERNET), options, work_dir, load_from=checkpoint)
    shrink(cfg)
    cfg.merge_from_dict(options or {})
    if tta:
        use_tta(cfg)
    return run_test(cfg)


def test_segmentation_in_sliding_windows_or_whole(windows, tmp_path):
    # Images of 72×96 px and upright ones, resized to 64×85: two windows of 64 px at 42 px of stride, or one image.
    expected = ran(UPERNET)['test']
    windows.clear()
    assert segment('slide') == pytest.approx(expected)
    assert windows == 8 * [(64, 64)]
    windows.clear()
    whole = segment('whole', {'model.test_cfg.mode': 'whole'})
    assert windows == [(85, 64), (64, 85), (85, 64), (64, 85)]
    assert whole['mIoU'] >= 0
    # As for Cityscapes, crop and stride are 4 to 3; the last window ends with the image.
    windows.clear()
    segment('smaller', {'model.test_cfg.crop_size': [32, 32], 'model.test_cfg.stride': [24, 24]})
    assert windows == 4 * (3 * 4) * [(32, 32)]
    # A window that holds any image sees what the whole image is.
    assert segment('larger', {'model.test_cfg.crop_size': [96, 96]}) == pytest.approx(whole)


def test_segmentation_at_several_scales_and_flipped(windows):
    ran(UPERNET)
    windows.clear()
    metrics = segment('tta', {'model.test_cfg.mode': 'whole'}, tta=True)
    assert {'mIoU', 'mAcc', 'aAcc'} <= metrics.keys()
    expected = [tuple(int(side * ratio + 0.5) for side in shape) for shape in ((96, 72), (72, 96), (96, 72), (72, 96))
                for ratio in (0.5, 0.75, 1, 1.25, 1.5, 1.75) for _ in range(2)]
    assert windows == expected
    # Sliding windows, as the config has them, where an augmented image is larger than one.
    windows.clear()
    segment('tta_slide', tta=True)
    assert set(windows) == {(48, 36), (36, 48), (64, 54), (54, 64), (64, 64)}
