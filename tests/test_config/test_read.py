"""Configs are prepared the same way for all libraries, and keys that nothing reads are found."""
import random
from pathlib import Path

import mmdet
import mmpretrain
import mmseg
import pytest
import torch
from mmengine.config import Config

from coma_mm.config import read as config_module
from coma_mm.config.check_hooks import check_hooks
from coma_mm.config.check_keys import KNOWN_KEYS, check_keys
from coma_mm.config.check_values import check_values
from coma_mm.config.read import draw_predictions, read_config, register_libraries, use_tta
from coma_mm.errors import UserError

# Keys in the libraries' own configs that nothing reads: left over from the old format, or never used.
LEFT_OVERS = {'bgr_std', 'cudnn_benchmark', 'data', 'fp16', 'norm_cfg', 'optimizer', 'runner'}


def write(tmp_path, text, name='my.py'):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


MINIMAL = "default_scope = 'mmpretrain'\nmodel = dict(type='ImageClassifier')\n"


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(config_module, 'say', lines.append)
    return lines


@pytest.mark.parametrize('key', ['load_from', 'work_dir'])
def test_an_empty_path_is_refused(tmp_path, key):
    path = write(tmp_path, MINIMAL)
    with pytest.raises(UserError, match=f'my.py: {key} is empty; is a shell variable in --cfg-options not set'):
        read_config(path, {key: ''})
    assert read_config(path, dict(load_from=None)).load_from is None


def test_our_configs_are_read_by_the_packages_name():
    cfg = read_config('coma_mm::shapes/dyvit-tiny_scratch_shapes.py')
    assert cfg.model.backbone.arch == 'tiny' and cfg.work_dir == 'work_dirs/dyvit-tiny_scratch_shapes'
    with pytest.raises(UserError, match='did you mean coma_mm::shapes/dyvit-tiny_scratch_shapes.py'):
        read_config('coma_mm::shapes/dyvit-tiny_scratch_shape.py')


@pytest.mark.parametrize('library', [mmpretrain, mmseg, mmdet])
def test_no_false_alarm_on_the_libraries_configs(library):
    folder = Path(library.__file__).parent / '.mim' / 'configs'
    files = sorted(path for path in folder.rglob('*.py') if '_base_' not in path.parts and 'dsdl' not in path.parts)
    for number, path in enumerate(random.Random(0).sample(files, 14)):
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
        except Exception:  # some of the shipped files cannot be read at all
            continue
        register_libraries(cfg.get('default_scope', 'mmengine'))
        assert check_values(cfg, path) == [] == check_hooks(cfg, path)
        for line in check_keys(cfg):
            assert line.split("'")[1] in LEFT_OVERS, f'{path}: {line}'
        # Also as a run dumps it, with every variable written out (which takes seconds).
        for line in check_keys(Config.fromstring(cfg.pretty_text, '.py')) if number < 3 else ():
            assert line.split("'")[1] in LEFT_OVERS, f'{path} dumped: {line}'


def test_a_misspelt_key_is_an_error_and_an_unread_one_a_warning(tmp_path):
    def check(text):
        return check_keys(Config.fromfile(write(tmp_path, text)), 'my.py')

    for key in ('optim_wraper', 'custom_hook', 'train_dataloder', 'visualiser', 'defalt_hooks'):
        with pytest.raises(UserError, match=f"my.py: nothing reads the key '{key}'; did you mean "):
            check(f'{key} = dict(a=1)')
    assert all(not check(f'{key} = 1') for key in KNOWN_KEYS - {'custom_imports', 'compile'})
    for key in ('fp16', 'optimizer', 'optimizer_config', 'lr_config', 'runner', 'total_epochs', 'data', 'evaluation',
                'amp'):
        for start in ('', 'size = 7\ntrain_cfg = dict(a=size)\n'):  # without and with variables
            line, = check(f'{start}{key} = dict(a=1)\nmodel = dict(b=1)')
            assert f"'{key}'" in line and 'what you want is' in line
    assert len(check('size = 7\nmodel = dict(a=size)\nother = 7')) == 1
    assert not check('size = 7\nmodel = dict(size=2 * size)')
    write(tmp_path, 'size = 7\nunused = 5', 'base.py')
    assert not check("_base_ = 'base.py'\nmodel = dict(size=_base_.size + 1, other={{_base_.unused}})")
    # A base may hold variables for others; the config itself is for itself.
    assert not check("_base_ = 'base.py'\nmodel = dict(size=_base_.size + 1)")
    assert len(check("_base_ = 'base.py'\nmodel = dict(size=_base_.size + 1)\nunused = 6")) == 1
    write(tmp_path, 'size = 7\nfp16 = dict()', 'base.py')
    assert len(check("_base_ = 'base.py'\nmodel = dict(size=_base_.size + 1)")) == 1


def test_options_are_merged_last_and_defaults_filled_in(tmp_path, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    path = write(tmp_path, MINIMAL + "resume = True\n"
                 "train_dataloader = dict(batch_size=2, num_workers=2, pin_memory=True)\n"
                 "val_dataloader = dict(batch_size=2, num_workers=0)\n"
                 "optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=2., dtype='float16', "
                 "optimizer=dict(lr=1.))\n")

    options = {'work_dir': 'last', 'load_from': 'last.pth', 'optim_wrapper.optimizer.lr': 3.}
    cfg = read_config(path, options, work_dir='first', launcher='pytorch', resume='first.pth')
    assert cfg.work_dir == 'last' and cfg.launcher == 'pytorch' and cfg.resume is True and cfg.load_from == 'last.pth'
    assert cfg.optim_wrapper == dict(type='AutocastOptimWrapper', optimizer=dict(lr=3.))
    assert said == ['No GPU here: AutocastOptimWrapper (bf16 on the CPU) takes the place of AmpOptimWrapper']
    assert cfg.train_dataloader == dict(batch_size=2, num_workers=2, persistent_workers=True,
                                        collate_fn=dict(type='default_collate'))
    assert 'persistent_workers' not in cfg.val_dataloader
    assert Path(read_config(path).work_dir) == Path('work_dirs/my')


MASKED = MINIMAL + """
mask_sampler = dict(type='UniformMaskSampler', ratio=0.6)
pipeline = [dict(type='LoadImage'), dict(type='PatchMask', sampler=mask_sampler)]
train_dataloader = dict(num_workers=0, dataset=dict(type='RepeatDataset', times=2, dataset=dict(
    type='ImageFolder', data_root='a', pipeline=pipeline)))
val_dataloader = dict(num_workers=0, dataset=dict(type='ImageFolder', data_root='a', pipeline=[dict(type='PatchMask')]))
"""


def samplers(cfg):
    """The samplers of the train and the val pipeline."""
    datasets = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    return [dataset.pipeline[-1].get('sampler') for dataset in datasets]


def test_mask_sampler_goes_into_all_pipelines(tmp_path, said):
    path = write(tmp_path, MASKED)
    green = {'mask_sampler.type': 'ColorNoiseMaskSampler', 'mask_sampler.color': 'green'}
    for options, expected in (
        (None, dict(type='UniformMaskSampler', ratio=0.6)),
        ({'mask_sampler.ratio': 0.75}, dict(type='UniformMaskSampler', ratio=0.75)),
        (green, dict(type='ColorNoiseMaskSampler', ratio=0.6, color='green')),
    ):
        assert samplers(read_config(path, options)) == [expected] * 2
    # The key wins over what a config of its own gives a step, an option for a single step over the key.
    write(tmp_path, MASKED, 'base.py')
    heir = write(tmp_path, "_base_ = 'base.py'\nmask_sampler = dict(_delete_=True, type='BlockMaskSampler')", 'heir.py')
    assert samplers(read_config(heir)) == [dict(type='BlockMaskSampler')] * 2
    options = {'mask_sampler.ratio': 0.75, 'val_dataloader.dataset.pipeline.0.sampler.ratio': 0.5}
    assert [one['ratio'] for one in samplers(read_config(path, options))] == [0.75, 0.5]
    # Without the key nothing is touched.
    plain = write(tmp_path, MASKED.replace('mask_sampler = ', 'other = ').replace('=mask_sampler', '=other'), 'plain.py')
    assert samplers(read_config(plain)) == [dict(type='UniformMaskSampler', ratio=0.6), None]
    for text, options, expected in (
        (MASKED, {'mask_sampler': 'BlockMaskSampler'}, "expected dict\\(type='UniformMaskSampler'"),
        (MINIMAL, {'mask_sampler.ratio': 0.75}, 'the config has no PatchMask to put it into'),
        (MINIMAL + 'mask_samplr = dict(ratio=0.5)', None, "did you mean 'mask_sampler'"),
    ):
        with pytest.raises(UserError, match=expected):
            read_config(write(tmp_path, text), options)


def test_amp(tmp_path, said, monkeypatch):
    def after_amp(wrapper, gpu):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
        path = write(tmp_path, MINIMAL + f'optim_wrapper = {wrapper}\n')
        return read_config(path, amp=True).optim_wrapper

    for gpu in (False, True):
        assert after_amp(dict(optimizer=dict(lr=1)), gpu)['type'] == 'AutocastOptimWrapper'
        scoped = dict(type='mmengine.OptimWrapper', optimizer=dict(lr=1))
        assert after_amp(scoped, gpu)['type'] == 'AutocastOptimWrapper'
    fp16 = dict(type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(lr=1))
    assert after_amp(fp16, gpu=True) == fp16
    assert after_amp(fp16, gpu=False)['type'] == 'AutocastOptimWrapper'
    for wrapper in (dict(type='ApexOptimWrapper', optimizer=dict(lr=1)), dict(type='OptimWrapper')):
        with pytest.raises(UserError, match='--amp'):
            after_amp(wrapper, gpu=True)


def test_bad_configs_give_one_line(tmp_path, said):
    cases = {
        'def': 'line 1',
        'a = 1/0': 'division by zero',
        "_base_ = './none.py'": 'none.py',
        'import os\nb = missing': 'missing',
        "default_scope = 'mmpretain'": 'mmpretrain, mmseg, mmdet',
        "default_scope = 'mmpretrain'": 'model',
    }
    for text, part in cases.items():
        path = write(tmp_path, text)
        with pytest.raises(UserError) as caught:
            read_config(path)
        assert part in str(caught.value) and '\n' not in str(caught.value), text
    with pytest.raises(UserError, match='none.py'):
        read_config('none.py')
    with pytest.raises(UserError, match='cfg-options'):
        read_config(write(tmp_path, MINIMAL + 'hooks = [1]\nuse = dict(a=hooks)'), {'hooks.7.a': 1})
    with pytest.raises(UserError, match='base_batch_size'):
        read_config(write(tmp_path, MINIMAL), auto_scale_lr=True)


@pytest.mark.parametrize('text, expected', [
    ('randomness = dict(seed="abc")', "randomness.seed='abc': expected a whole number, 0 or more"),
    ('randomness = dict(seed=-1)', 'randomness.seed=-1: expected a whole number'),
    ('randomness = 5', 'randomness=5: expected a dict'), ('train_dataloader = [1]', 'train_dataloader=[1]: expected a dict'),
    ('custom_hooks = dict(a=1)', "custom_hooks={'a': 1}: expected a list"),
    ('optim_wrapper = dict(paramwise_cfg=(1, 2))', 'optim_wrapper.paramwise_cfg=(1, 2): expected a dict'),
    ('load_from = 2.5', 'load_from=2.5: expected a str'),
    ('resume = "yes"', "resume='yes': expected a bool"), ('default_scope = 5', 'default_scope=5: expected a str')])
def test_values_of_a_wrong_type_are_named(tmp_path, said, text, expected):
    path = write(tmp_path, MINIMAL + text)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f'{path}: {expected}')
    read_config(write(tmp_path, MINIMAL + 'randomness = None\nload_from = None\ncustom_hooks = None'))


def test_values_of_a_wrong_type_in_options_are_named(tmp_path, said):
    path = write(tmp_path, MINIMAL + 'randomness = dict(seed=0)')
    with pytest.raises(UserError, match="randomness.seed='abc': expected a whole number"):
        read_config(path, {'randomness.seed': 'abc'})


@pytest.mark.parametrize('name', [
    'mmpretrain::resnet/resnet18_8xb32_in1k.py', 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
])
def test_tta_and_drawing_apply_to_each_library(tmp_path, name, said):
    cfg = read_config(write(tmp_path, f"_base_ = '{name}'"))
    use_tta(cfg)
    cfg.default_hooks.pop('visualization', None)
    draw_predictions(cfg, 'drawn')
    assert cfg.model.module.type in ('ImageClassifier', 'EncoderDecoder', 'MaskRCNN')
    assert cfg.test_dataloader.dataset.pipeline[-1].type == 'TestTimeAug'
    hook = cfg.default_hooks.visualization
    assert (hook.type, hook.out_dir) == ('DrawingsHook', 'drawn')
    # The log stays in the work_dir, where a test's results are looked for.
    assert 'save_dir' not in cfg.visualizer
    cfg.default_hooks.visualization = dict(type='DetVisualizationHook', score_thr=.5, draw=False)
    draw_predictions(cfg, 'drawn')
    assert cfg.default_hooks.visualization == dict(type='DrawingsHook', out_dir='drawn', score_thr=.5)


def test_a_loader_of_more_workers_than_a_machine_bears_is_refused(tmp_path, said):
    path = write(tmp_path, MINIMAL + 'val_dataloader = dict(num_workers=100000)')
    with pytest.raises(UserError, match='val_dataloader.num_workers=100000: expected at most'):
        read_config(path)


def test_tta_of_a_detector_is_of_its_boxes_and_refused_where_that_is_nothing(tmp_path, said):
    path = write(tmp_path, "_base_ = 'coma_mm::shapes/mask-rcnn_dyvit-tiny_scratch_shapes.py'")
    cfg = read_config(path)
    use_tta(cfg)
    assert cfg.model.module.roi_head.mask_head is None and cfg.test_evaluator.metric == ['bbox']
    line, = said
    assert line.endswith('merges the boxes of augmented images alone, so masks are neither predicted nor evaluated')
    with pytest.raises(UserError, match='merges boxes alone, and .*metric=segm evaluates masks of a MaskRCNN; test without'):
        use_tta(read_config(path, {'test_evaluator.metric': 'segm'}))
    with pytest.raises(UserError, match='averages the scores of an ImageClassifier, and the model is a CoMA; test without'):
        use_tta(read_config(write(tmp_path, "_base_ = 'coma_mm::shapes/coma_dyvit-tiny_shapes.py'")))
