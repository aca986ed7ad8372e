"""Every config builds what it names: model, optimiser wrapper, schedules and pipelines; no data is needed."""
import re
from pathlib import Path

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import LOG_PROCESSORS, MODELS, PARAM_SCHEDULERS, TRANSFORMS, DefaultScope

from coma_mm.datasets.shape_scenes import CLASSES
from coma_mm.engine import AutocastOptimWrapper
from coma_mm.engine.config import read_config
from coma_mm.engine.config_check import check_keys

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
COCO_MINI = Config.fromfile(ROOT / '_base_/datasets/coco_mini.py')


@pytest.fixture(scope='module', params=NAMES)
def config(request):
    """Its name, the config as the tools read it, and its model without values; in the config's default scope."""
    cfg = read_config(str(ROOT / request.param))
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        yield request.param, cfg, MODELS.build(cfg.model)


def test_every_key_is_read(config):
    name, cfg, _ = config
    assert check_keys(cfg, name) == []


def test_channels_agree(config):
    _, cfg, model = config
    dims = model.backbone.dims
    assert model.backbone.out_indices == ((3, ) if cfg.model.type == 'ImageClassifier' else (0, 1, 2, 3))
    if cfg.default_scope == 'mmdet':
        assert tuple(model.neck.in_channels) == dims
    elif cfg.default_scope == 'mmseg':
        assert tuple(model.decode_head.in_channels) == dims
        assert model.auxiliary_head.in_channels == dims[model.auxiliary_head.in_index]
    elif cfg.model.type == 'CoMA':
        assert tuple(cfg.model.neck.in_channels) == dims
        assert model.decoder.embed.in_features == dims[-1]
    else:
        assert model.head.in_channels == dims[-1]


def test_name_says_arch_batch_and_schedule(config):
    name, cfg, _ = config
    assert re.search(r'dyvit-(\w+?)_', name)[1] == cfg.model.backbone.arch
    if batch := re.search(r'_(\d+)xb(\d+)[-_]', name):
        gpus, images = map(int, batch.groups())
        assert cfg.train_dataloader.batch_size == images
        assert cfg.auto_scale_lr.base_batch_size == gpus * images
        assert not cfg.auto_scale_lr.get('enable')
    if epochs := re.search(r'[-_](\d+)e_', name):
        assert cfg.train_cfg.max_epochs == int(epochs[1])
    if iterations := re.search(r'-(\d+)k_', name):
        assert cfg.train_cfg.max_iters == 1000 * int(iterations[1])


def test_optimiser_and_schedules(config):
    name, cfg, model = config
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper) is (AutocastOptimWrapper if '-amp-' in name else OptimWrapper)
    groups = wrapper.optimizer.param_groups
    learned = [value for value in model.parameters() if value.requires_grad]
    assert sum(len(group['params']) for group in groups) == len(learned)
    assert max(group['lr'] for group in groups) == pytest.approx(cfg.optim_wrapper.optimizer.lr)
    # No weight decay on what has one dimension; everything else has it.
    for group in groups:
        assert all((group['weight_decay'] == 0) == (value.ndim == 1) for value in group['params'])
    for schedule in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(dict(schedule), default_args=dict(optimizer=wrapper, epoch_length=10))
    assert schedule['end'] == cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters'))


def test_pipelines(config):
    _, cfg, model = config
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        pipeline = dataset.get('dataset', dataset).pipeline
        steps = [TRANSFORMS.build(step) for step in pipeline]
        assert type(steps[0]).__name__ == 'LoadImage'
        if cfg.default_scope == 'mmdet':
            assert next(step for step in steps if type(step).__name__ == 'LoadAnnotations').with_mask


def test_classes(config):
    name, cfg, model = config
    if cfg.model.type == 'CoMA':
        return
    metainfo = cfg.train_dataloader.dataset.get('metainfo')
    if cfg.default_scope == 'mmdet':
        number = len(metainfo.classes if metainfo else CocoDataset.METAINFO['classes'])
        assert model.roi_head.bbox_head.num_classes == model.roi_head.mask_head.num_classes == number
    elif cfg.default_scope == 'mmseg':
        number = len(metainfo.classes) if metainfo else 150
        assert model.decode_head.num_classes == model.auxiliary_head.num_classes == number
    else:
        assert model.head.num_classes == (10 if 'shapes' in name else 1000)


def test_branches_errors_are_logged_as_the_loss_is(config):
    _, cfg, _ = config
    if cfg.model.type == 'CoMA':
        pattern = LOG_PROCESSORS.build(dict(type='LogProcessor', **cfg.log_processor)).mean_pattern
        assert all(pattern.search(name) for name in ('loss', 'mse_adaptive', 'mse_evaluation', 'time', 'data_time'))


def test_named_classes_are_those_of_the_data():
    assert COCO_MINI.coco_classes == CocoDataset.METAINFO['classes']
    assert Config.fromfile(ROOT / '_base_/datasets/shapes.py').shapes_classes == CLASSES


def test_pretraining_is_found_by_default(monkeypatch):
    """What fine-tuning takes unless PRETRAINED is set is what a config of ours writes into its default work_dir."""
    monkeypatch.delenv('PRETRAINED', raising=False)
    found = 0
    for name in NAMES:
        checkpoint = Config.fromfile(ROOT / name).model.backbone.get('init_cfg', {}).get('checkpoint')
        if checkpoint:
            _, run, file = checkpoint.split('/')
            pretraining, = ROOT.rglob(f'{run}.py')
            assert Config.fromfile(pretraining).train_cfg.max_epochs == int(re.fullmatch(r'epoch_(\d+).pth', file)[1])
            found += 1
    assert found >= 8
