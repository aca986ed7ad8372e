"""Settings that others follow: each is written once, and what depends on it is what it should be."""
import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope

from coma_mm.config import read as config_module
from coma_mm.config.follow import set_length
from coma_mm.config.read import read_config
from coma_mm.config_tree import find_types
from coma_mm.errors import UserError

from ..test_configs import NAMES, ROOT
from ..test_configs import read as read_plain

COMA = 'coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k.py'
COMA_VIT = 'coma/coma_vit-base-p16_8xb512-amp-coslr-800e_in1k.py'
UPERNET = 'segmentation/upernet_dyvit-base_8xb2-160k_ade20k-512x512.py'
SHAPES = 'shapes/coma_dyvit-tiny_shapes.py'


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(config_module, 'say', lines.append)
    return lines


@pytest.fixture
def read(said):
    """Callable: From a config of ours and options to the config; no key may seem odd."""
    def read(name, **options):
        cfg = read_config(str(ROOT / name), {key.replace('__', '.'): value for key, value in options.items()} or None)
        assert [line for line in said if not line.startswith('No GPU')] == []
        return cfg

    return read


def build(cfg):
    """nn.Module: A config's model without values."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return MODELS.build(cfg.model)


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def masks(cfg):
    return list(find_types([cfg[f'{split}_dataloader'] for split in ('train', 'val', 'test')], 'PatchMask'))


# The length of a run


def with_length(schedules, length, new, by_epoch=True, **more):
    """Config: Of a run whose length was changed."""
    key, name = ('max_epochs', 'epochs') if by_epoch else ('max_iters', 'iters')
    cfg = Config(dict(train_cfg={'by_epoch': by_epoch, key: length}, param_scheduler=schedules, **more))
    set_length(cfg, {name: new})
    assert cfg.train_cfg[key] == new and name not in cfg
    return cfg


def rates(cfg, epoch_length=8):
    """list[float]: The learning rate in each iteration, by mmengine's schedules."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.)
    defaults = dict(optimizer=OptimWrapper(optimizer), epoch_length=epoch_length)
    built = [PARAM_SCHEDULERS.build(dict(one), default_args=defaults) for one in cfg.param_scheduler]
    epochs = cfg.train_cfg.get('max_epochs', 1)
    found = []
    for iteration in range(epochs * epoch_length if 'max_epochs' in cfg.train_cfg else cfg.train_cfg.max_iters):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for one in built:
            if not one.by_epoch or (iteration + 1) % epoch_length == 0:
                one.step()
    return found


LINEAR = dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, convert_to_iter_based=True)
COSINE = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)


@given(new=st.integers(1, 1000), old=st.integers(2, 1000), warm=st.integers(1, 50))
def test_warm_up_and_decay_follow_the_length(new, old, warm):
    warm = min(warm, old - 1)
    first, last = with_length([dict(LINEAR, end=warm), dict(COSINE, begin=warm, end=old)], old, new).param_scheduler
    assert first.begin == 0 and last.end == new
    assert first.end == last.begin
    assert first.end == (warm if 2 * warm <= new else max(warm * new / old, 0.5))
    assert 0 < first.end < new


@given(new=st.integers(1, 100))
def test_the_rate_rises_to_its_peak_and_falls_to_its_end(new):
    schedules = [dict(LINEAR, end=5), dict(COSINE, begin=5, end=30)]
    found = rates(with_length(schedules, 30, new))
    peak = found.index(max(found))
    assert max(found) == pytest.approx(1) and found[0] == pytest.approx(0.01)
    assert all(a <= b + 1e-9 for a, b in pairwise(found[:peak + 1]))
    assert all(a >= b - 1e-9 for a, b in pairwise(found[peak:]))
    assert found[-1] < 0.1 or new == 1  # four iterations of decay


@given(new=st.integers(1, 1000), milestones=st.sets(st.integers(1, 99), min_size=1, max_size=4))
def test_milestones_stay_ordered_and_before_the_end(new, milestones):
    schedules = [dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
                 dict(type='MultiStepLR', by_epoch=True, begin=0, end=100, milestones=sorted(milestones), gamma=0.1)]
    warm, steps = with_length(schedules, 100, new).param_scheduler
    assert dict(warm) == schedules[0]  # it is counted in iterations
    assert steps.end == new and len(steps.milestones) == min(len(milestones), new - 1)
    assert all(a < b for a, b in pairwise([0, *steps.milestones, new]))
    if new >= 100:
        assert steps.milestones == pytest.approx([time * new / 100 for time in sorted(milestones)], abs=0.5)


@given(new=st.integers(1, 200_000))
def test_runs_by_iteration(new):
    schedules = [dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
                 dict(type='PolyLR', eta_min=0., power=1., by_epoch=False, begin=1500, end=160_000)]
    cfg = with_length(schedules, 160_000, new, by_epoch=False,
                      default_hooks=dict(checkpoint=dict(by_epoch=False, interval=16_000)))
    *warm, decay = cfg.param_scheduler
    assert decay.end == new and cfg.default_hooks.checkpoint.interval == min(16_000, new)
    if new >= 3000:
        assert warm[0].end == decay.begin == 1500
    elif warm:  # a single iteration would never reach the full rate
        assert warm[0].end == decay.begin == round(1500 * new / 160_000) >= 2


@given(new=st.integers(1, 1000))
def test_the_same_length_again_changes_nothing(new):
    schedules = [dict(LINEAR, end=5), dict(COSINE, begin=5, end=285, T_max=280),
                 dict(type='ConstantLR', by_epoch=True, factor=1, begin=285, end=300)]
    cfg = with_length(schedules, 300, new)
    before = cfg.to_dict()
    set_length(cfg, dict(epochs=new))
    assert cfg.to_dict() == before
    assert with_length(schedules, 300, 300).param_scheduler == schedules


def test_other_schedules_follow():
    def one(new, **schedule):
        return with_length(dict(schedule), 100, new).param_scheduler[0]

    assert one(50, type='CosineAnnealingLR', T_max=100) == dict(type='CosineAnnealingLR', T_max=50)
    assert one(50, type='CosineAnnealingLR', T_max=90, begin=10, end=100)['T_max'] == 45
    assert one(50, type='StepLR', step_size=30)['step_size'] == 15
    assert one(50, type='OneCycleLR', total_steps=100, eta_max=1.)['total_steps'] == 50
    assert one(50, type='CosineRestartLR', periods=[40, 60], restart_weights=[1, 1])['periods'] == [20, 30]
    assert one(50, type='MultiStepLR', milestones=[60, 120])['milestones'] == [30, 60]
    several = with_length(dict(a=dict(type='CosineAnnealingLR', T_max=100), b=[dict(type='StepLR', step_size=30)]), 100, 50)
    assert several.param_scheduler.a[0].T_max == 50 and several.param_scheduler.b[0].step_size == 15
    assert with_length(None, 100, 50).param_scheduler is None


@pytest.mark.parametrize('name', NAMES)
def test_every_config_has_one_setting_for_its_length(name, read):
    plain = read_plain(name)
    key, option = ('max_epochs', 'epochs') if 'max_epochs' in plain.train_cfg else ('max_iters', 'iters')
    for new in (1, 3, plain.train_cfg[key], 5 * plain.train_cfg[key]):
        cfg = read(name, **{option: new})
        assert cfg.train_cfg[key] == new and cfg.param_scheduler[-1].end == new
        assert cfg.train_cfg.get('val_interval', 1) <= new
        assert all(one.begin < one.end for one in cfg.param_scheduler)
        if new == plain.train_cfg[key]:
            assert cfg.to_dict() == plain.to_dict()


@pytest.mark.parametrize(('name', 'options', 'times'), [
    ('mmpretrain::resnet/resnet50_8xb32_in1k.py', dict(epochs=50), [15, 30, 45]),
    ('mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py', dict(epochs=50), [20, 20]),
    ('mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py', dict(iters=1000), [1000]),
    ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py', dict(epochs=6), [500, 4, 5, 6]),
    ('mmdet::yolox/yolox_s_8xb8-300e_coco.py', dict(epochs=100), [5, 5, 95, 95, 100]),
])
def test_the_libraries_own_configs_follow(tmp_path, said, name, options, times):
    path = tmp_path / 'my.py'
    path.write_text(f'_base_ = {name!r}')
    cfg = read_config(str(path), options)
    assert list(options.values()) == [cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters'))]
    found = [time for one in cfg.param_scheduler for time in (one.get('begin'), *one.get('milestones', ()), one.get('end'))]
    assert [time for time in found if time] == times


def test_the_length_in_a_config_of_ones_own_and_in_one_that_a_run_dumped(tmp_path, read, said):
    path = tmp_path / 'my.py'
    path.write_text(f'_base_ = {str(ROOT / COMA)!r}\nepochs = 50')
    cfg = read_config(str(path))
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].end == 50 and 'epochs' not in cfg
    assert read_config(str(path), dict(epochs=70)).param_scheduler[-1].end == 70
    # As if it were said at once: the warm-up is not shortened twice.
    assert read_config(str(path), {'epochs': 100, 'param_scheduler.1.eta_min': 1.}).param_scheduler[-1] == dict(
        type='CosineAnnealingLR', by_epoch=True, begin=40, end=100, convert_to_iter_based=True, eta_min=1.)
    # An option for a single schedule wins.
    assert read_config(str(path), {'epochs': 70, 'param_scheduler.1.end': 60}).param_scheduler[-1].end == 60
    cfg.dump(tmp_path / 'dumped.py')
    assert read_config(str(tmp_path / 'dumped.py')).param_scheduler == cfg.param_scheduler
    # As a variable of its files it is no setting: an heir may have given the loop another length.
    path.write_text(f'_base_ = {str(ROOT / COMA)!r}\nepochs = 50\ntrain_cfg = dict(max_epochs=2 * epochs)')
    assert read_config(str(path)).train_cfg.max_epochs == 100


@pytest.mark.parametrize(('name', 'options', 'line'), [
    (COMA, dict(iters=5), 'iters=5: the run is counted in epochs; set epochs=N'),
    (UPERNET, dict(epochs=5), 'epochs=5: the run is counted in iters; set iters=N'),
    (COMA, dict(epochs=5, iters=5), 'epochs=5 iters=5: expected the length of the run as one whole number'),
    *((COMA, dict(epochs=value), f'epochs={value}: expected the length of the run as one whole number')
      for value in (0, -1, 1.5, 'ten', True, [3])),
    (COMA, dict(size=0), 'size=0: expected a whole number of px'),
    (COMA, dict(size=(160, 0)), 'size=(160, 0): expected a whole number of px, 1 or more, or (height, width)'),
    (COMA, dict(size='big'), "size='big': expected a whole number of px"),
    (COMA, dict(mask_unit=6.4), 'mask_unit=6.4: expected a whole number of px'),
    (UPERNET, dict(size=256), 'size=256: no step of the data pipelines follows it'),
    (UPERNET, dict(mask_unit=64), 'mask_unit=64: the config has no PatchMask to put it into'),
    (UPERNET, dict(mask_pair='independent'), 'mask_pair=independent: the config has no PatchMask to put it into'),
])
def test_a_wrong_setting_gives_one_line(name, options, line, said):
    options = {key.replace('__', '.'): value for key, value in options.items()}
    with pytest.raises(UserError) as caught:
        read_config(str(ROOT / name), options)
    assert str(caught.value).startswith(line) and '\n' not in str(caught.value)


def test_a_config_without_a_loop_has_no_length(tmp_path, said):
    (tmp_path / 'my.py').write_text("model = dict(type='ImageClassifier')")
    with pytest.raises(UserError, match='epochs=5: the config has no train_cfg.max_epochs or train_cfg.max_iters'):
        read_config(str(tmp_path / 'my.py'), dict(epochs=5))
    with pytest.raises(UserError, match="nothing reads the key 'epoch'; did you mean 'epochs'"):
        read_config(str(tmp_path / 'my.py'), dict(epoch=5))


# The backbone's widths


PAIRS = [(name, name.replace('-base_', '-small_')) for name in NAMES if name.replace('-base_', '-small_') in NAMES]


@pytest.mark.parametrize(('base', 'small'), [pair for pair in PAIRS if pair[0] != pair[1]])
def test_the_arch_alone_makes_the_base_config_the_small_one(base, small, read):
    expected, found = read(small), read(base, model__backbone__arch='small')
    assert shapes(build(found)) == shapes(build(expected))
    for cfg in (found, expected):
        cfg.model.backbone.pop('init_cfg', None)
    assert found.model == expected.model


def test_the_arch_alone_works_for_every_kind_of_config():
    kinds = {base.split('/')[0] for base, small in PAIRS if base != small}
    assert kinds == {'coma', 'classification', 'segmentation', 'detection'}
    assert {base for base, small in PAIRS if '-linear-' in base and base != small}


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith(('shapes/', 'small/'))])
def test_other_archs_of_small_configs_fit_too(name, read):
    model = build(read(name, model__backbone__arch='small')).eval()
    assert model.backbone.out_channels[-1] == 768
    image = torch.zeros(1, 4 if '4bands' in name else 3, 64, 64, device='meta')
    if name.split('/')[1].startswith('coma'):
        ids = torch.arange((64 // model.backbone.patch_size)**2, device='meta')[None]
        assert model(image, ids[:, :2], ids[:, 2:], mode='loss')['loss'].shape == ()
    elif 'upernet' in name:
        assert model.decode_head(model.backbone(image)).shape == (1, model.decode_head.num_classes, 16, 16)
        assert model.auxiliary_head(model.backbone(image)).shape[2:] == (4, 4)
    elif 'mask2former' in name:
        decoder = (model.decode_head if 'semantic' in name else model.panoptic_head).pixel_decoder
        *fine, last = model.backbone(image)
        assert decoder.input_convs[0](last).shape[1] == decoder.lateral_convs[0](fine[0]).shape[1] == 64
    elif any(part in name for part in ('mask-rcnn', 'retinanet', 'dino')):
        assert {level.shape[1] for level in model.neck(model.backbone(image))} == {64}
    else:
        assert model(image).shape == (1, model.head.num_classes)


def test_another_vision_transformer_fits_too(read):
    for name, options in ((COMA_VIT, {}), ('classification/vit-base-p16_8xb128-coslr-100e_in1k.py', {})):
        cfg = read(name, model__backbone__arch='small', **options)
        model = build(cfg)
        assert model.backbone.out_channels == (768, )  # mmpretrain's small one has eight layers of base's width
        cfg = read(name, model__backbone__arch='deit-tiny', **options)
        assert build(cfg).backbone.out_channels == (192, )
        assert cfg.model.head.get('in_channels', 192) == 192


def test_what_is_not_the_backbones_or_is_named_stays(read):
    cfg = read('shapes/mask-rcnn_dyvit-tiny_scratch_shapes.py', model__backbone__arch='small')
    # 64 is the second stage's width too, but these follow the neck.
    assert cfg.model.neck.out_channels == cfg.model.rpn_head.in_channels == cfg.model.roi_head.bbox_head.in_channels == 64
    named = read('shapes/dyvit-tiny_scratch_shapes.py', model__backbone__arch='small', model__head__in_channels=256)
    assert named.model.head.in_channels == 256
    other = read('shapes/upernet_dyvit-tiny_scratch_shapes.py', model__backbone__arch='small',
                 model__auxiliary_head__in_channels=99)
    assert other.model.auxiliary_head.in_channels == 99 and list(other.model.decode_head.in_channels) == [96, 192, 384, 768]
    neck = dict(type='LinearNeck', in_channels=256, out_channels=256)
    behind = read('shapes/dyvit-tiny_scratch_shapes.py', model__backbone__arch='small', model__neck=neck)
    assert (behind.model.neck.in_channels, behind.model.head.in_channels) == (768, 256)


def test_a_wrong_arch_is_left_to_the_backbones_own_message(said):
    for arch in ('smal', 5):
        cfg = read_config(str(ROOT / UPERNET), {'model.backbone.arch': arch})
        assert list(cfg.model.decode_head.in_channels) == [112, 224, 448, 896]
        with pytest.raises((UserError, TypeError)):
            build(cfg)


# The patch


def test_the_patch_is_written_once(read):
    cfg = read(COMA, model__backbone__patch_size=16)
    model = build(cfg)
    assert [step.patch_size for step in masks(cfg)] == [16] * 3
    assert model.backbone.patch_size == model.decoder.patch_size == model.head.patch_size == 16
    assert [conv.in_features for conv in model.neck.convs] == [4 * 112, 4 * 224, 448]
    assert shapes(model) == shapes(build(read_plain('ablations/coma_dyvit-base-p16_8xb512-amp-coslr-300e_in1k.py')))
    # The default of the class counts too.
    cfg = read_plain(COMA_VIT)
    assert [step.patch_size for step in masks(cfg)] == [16] * 3
    assert build(cfg).decoder.patch_size == 16


def test_the_patch_follows_in_a_dumped_config_and_an_option_for_a_step_wins(tmp_path, read, said):
    path = tmp_path / 'dumped.py'
    cfg = read(COMA, model__backbone__patch_size=16)
    cfg.dump(path)
    assert read_config(str(path)).to_dict()['train_dataloader'] == cfg.to_dict()['train_dataloader']
    assert [step.patch_size for step in masks(read_config(str(path), {'model.backbone.patch_size': 32}))] == [32] * 3
    key = 'val_dataloader.dataset.pipeline.3.patch_size'
    assert [step.patch_size for step in masks(read_config(str(path), {key: 8}))] == [16, 8, 16]


def test_values_that_a_config_gives_the_model_win_and_follow(tmp_path, said):
    path = tmp_path / 'my.py'
    path.write_text(f'_base_ = {str(ROOT / COMA)!r}\n'
                    'model = dict(neck=dict(in_channels=(112, 224, 448, 896)), head=dict(patch_size=32),'
                    'decoder=dict(in_channels=896, patch_size=32))')
    cfg = read_config(str(path), {'model.backbone.patch_size': 16, 'model.backbone.arch': 'small'})
    assert cfg.model.head.patch_size == cfg.model.decoder.patch_size == 16
    assert tuple(cfg.model.neck.in_channels) == (96, 192, 384, 768) and cfg.model.decoder.in_channels == 768
    build(cfg)
    with pytest.raises(UserError, match="patch_size differs: .*'head': 32"):
        build(read_config(str(path), {'model.backbone.patch_size': 16, 'model.head.patch_size': 32}))


# The images' size and the mask's unit


@pytest.mark.parametrize(('name', 'size'), [
    (COMA, 256), (COMA, 192), (SHAPES, 96), ('small/coma_dyvit-tiny_2e_folder-128px.py', 64)])
def test_size_and_unit_go_into_all_pipelines(name, size, read):
    plain = read_plain(name)
    cfg = read(name, size=size, mask_unit=64)
    assert [step.unit for step in masks(cfg)] == [64] * 3
    text = json.dumps([cfg[f'{split}_dataloader'].to_dict() for split in ('train', 'val', 'test')], default=str)
    expected = json.dumps([plain[f'{split}_dataloader'].to_dict() for split in ('train', 'val', 'test')], default=str)
    for key in ('"scale": ', '"scale": [', '"crop_size": '):
        expected = expected.replace(f'{key}{plain.size}', f'{key}{size}')
    expected = expected.replace(f'[{size}, {plain.size}]', f'[{size}, {size}]')
    assert text.replace(', "unit": 64', '') == expected
    assert str(size) in text
    # In a dumped config nothing is applied twice.
    again = read(name, size=size)
    assert again.size == size and masks(again)[0].get('unit') is None


def test_a_size_of_height_and_width_goes_into_all_pipelines_in_their_order(read):
    cfg = read(COMA, size=(160, 320))
    train, val = (cfg[f'{split}_dataloader'].dataset.pipeline for split in ('train', 'val'))
    assert train[0].scale == (160, 320) and val[1].scale == (160, 320)  # LoadRandomResizedCrop, ResizeEdge: (H, W)
    assert val[2].crop_size == (320, 160)  # mmcv's CenterCrop: (W, H)


def test_the_size_of_a_config_file_goes_into_the_pipelines_that_it_inherits(tmp_path, read):
    path = tmp_path / 'own.py'
    path.write_text(f'_base_ = {str(ROOT / COMA)!r}\nsize = (160, 320)\n')
    (tmp_path / 'below.py').write_text("_base_ = 'own.py'\n")
    (tmp_path / 'square.py').write_text("_base_ = 'own.py'\nsize = 96\n")
    asked = read(COMA, size=(160, 320)).val_dataloader
    assert read(path).val_dataloader == read(tmp_path / 'below.py').val_dataloader == asked
    assert read(tmp_path / 'square.py').train_dataloader == read(COMA, size=96).train_dataloader


def test_a_pipeline_that_a_config_file_writes_with_another_size_stays(tmp_path, read):
    (tmp_path / 'own.py').write_text(
        f"_base_ = {str(ROOT / COMA)!r}\nsize = 160\nmask_sampler = None\n"
        "val_dataloader = dict(dataset=dict(pipeline=[{'type': 'CenterCrop', 'crop_size': (224, 224)}]))\n"
        "test_dataloader = val_dataloader\n")
    (tmp_path / 'below.py').write_text("_base_ = 'own.py'\n")
    for name in ('own.py', 'below.py'):
        cfg = read(tmp_path / name)
        assert [cfg[f'{split}_dataloader'].dataset.pipeline[0].crop_size for split in ('val', 'test')] == [(224, 224)] * 2
        assert cfg.train_dataloader == read(COMA, size=160, mask_sampler=None).train_dataloader
    inherits = tmp_path / 'inherits.py'
    inherits.write_text(f"_base_ = {str(ROOT / COMA)!r}\nsize = 160\n"
                        "val_dataloader = dict(dataset=dict(pipeline=_base_.val_pipeline))\n")
    assert read(inherits).val_dataloader == read(COMA, size=160).val_dataloader


@pytest.mark.parametrize('size', ['160', 160., [160], [160, 160, 3]])
def test_what_is_no_size_and_takes_the_place_of_one_is_said(tmp_path, read, size):
    path = tmp_path / 'own.py'
    path.write_text(f'_base_ = {str(ROOT / COMA)!r}\nsize = {size!r}\n')
    with pytest.raises(UserError, match='own.py: size=.*160.*: expected a whole number of px, 1 or more'):
        read(path)


def test_a_pair_that_a_config_file_writes_into_all_steps_is_height_first_in_each(tmp_path, read):
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = {str(ROOT / COMA)!r}\nsize = (160, 320)\n"
                    "train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadRandomResizedCrop', scale=size)]))\n"
                    "val_dataloader = dict(dataset=dict(pipeline=[dict(type='CenterCrop', crop_size=size)]))\n"
                    "mask_sampler = None\n")
    cfg = read(path)
    assert cfg.train_dataloader.dataset.pipeline[0].scale == (160, 320)
    assert cfg.val_dataloader.dataset.pipeline[0].crop_size == (320, 160)


def test_size_and_unit_in_a_dumped_config(tmp_path, read, said):
    path = tmp_path / 'dumped.py'
    cfg = read(COMA, size=256, mask_unit=64, mask_pair='independent')
    assert [step.pair for step in masks(cfg)] == ['independent'] * 3
    cfg.dump(path)
    again = read_config(str(path))
    assert again.train_dataloader == cfg.train_dataloader and again.val_dataloader == cfg.val_dataloader
    other = read_config(str(path), dict(size=224, mask_unit=32, mask_pair='complementary'))
    assert {(step.unit, step.pair) for step in masks(other)} == {(32, 'complementary')}
    assert [step.scale for step in other.val_dataloader.dataset.pipeline if 'scale' in step] == [224]
