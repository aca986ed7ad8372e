"""Values of a config outside their range, at any depth, are named with the range before anything is built."""
import math

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS

from coma_mm.config.check_keys import KNOWN_KEYS
from coma_mm.config.check_values import TABLE, check_values
from coma_mm.config.read import read_config
from coma_mm.errors import UserError

from ..test_configs import ROOT

COMA = ROOT / 'shapes/coma_dyvit-tiny_shapes.py'
NAN = math.nan


def refused(key, value):
    """str: What is said of a value at a dotted key of an otherwise empty config."""
    cfg = Config(dict(default_scope='mmpretrain'))
    cfg.merge_from_dict({key: value})
    with pytest.raises(UserError) as caught:
        check_values(cfg, 'my.py')
    start = f'my.py: {key}'
    assert str(caught.value).startswith(start) and '\n' not in str(caught.value)
    return str(caught.value).removeprefix(start)


@pytest.mark.parametrize(('key', 'value', 'expected'), [
    ('optim_wrapper.clip_grad.max_norm', -1, '=-1: expected a number above 0'),
    ('optim_wrapper.clip_grad.max_norm', NAN, '=nan: expected a number above 0'),
    ('optim_wrapper.clip_grad', 5, '=5: expected a dict'),
    ('optim_wrapper.generator.clip_grad.max_norm', 0, '=0: expected a number above 0'),
    ('optim_wrapper.accumulative_counts', 1.5, "=1.5: expected a whole number, 1 or more, or 'auto' (as many as"),
    ('optim_wrapper.accumulative_counts', 0, '=0: expected a whole number'),
    ('optim_wrapper.loss_scale', 'x', "='x': expected a number above 0, or 'dynamic' (found while it trains)"),
    ('optim_wrapper.optimizer.lr', NAN, '=nan: expected a number, 0 or more'),
    ('optim_wrapper.optimizer.lr', -1, '=-1: expected a number, 0 or more'),
    ('optim_wrapper.optimizer.lr', '1e-3x', "='1e-3x': expected a number, 0 or more"),
    ('optim_wrapper.optimizer.lr', '1e-3', "='1e-3': expected a number, 0 or more (it is a text here"),
    ('optim_wrapper.optimizer.weight_decay', -0.1, '=-0.1: expected a number, 0 or more'),
    ('optim_wrapper.optimizer.momentum', 1.5, '=1.5: expected a number from 0 to below 1'),
    ('optim_wrapper.optimizer.betas', (0.9, 1.), '.1=1.0: expected a number from 0 to below 1'),
    ('optim_wrapper.paramwise_cfg.layer_decay_rate', 7.5, '=7.5: expected a number above 0, up to 1'),
    ('optim_wrapper.paramwise_cfg.custom_keys.norm.decay_mult', -1, '=-1: expected a number, 0 or more'),
    ('train_cfg.max_epochs', 0, '=0: expected a whole number, 1 or more'),
    ('train_cfg.max_epochs', -3, '=-3: expected a whole number, 1 or more'),
    ('train_cfg.max_iters', 1.5, '=1.5: expected a whole number, 1 or more'),
    ('train_cfg.val_interval', 0, '=0: expected a whole number, 1 or more'),
    ('train_dataloader.batch_size', 0, '=0: expected a whole number, 1 or more'),
    ('train_dataloader.batch_size', 'x', "='x': expected a whole number, 1 or more"),
    ('val_dataloader.num_workers', -1, '=-1: expected a whole number, 0 or more'),
    ('val_dataloader.sampler.shuffle', 'False', "='False': expected a bool (True or False) (it is a text here"),
    ('randomness.seed', '1', "='1': expected a whole number, 0 or more"),
    ('randomness.seed', 2**32, '=4294967296: expected a whole number, 0 or more, up to 4294967295'),
    ('randomness.deterministic', 'False', "='False': expected a bool"),
    ('env_cfg.cudnn_benchmark', '0', "='0': expected a bool"),
    ('auto_scale_lr.base_batch_size', 0, '=0: expected a whole number'),
    ('model.data_preprocessor.std', [1, 0, 1], '.1=0: expected a number above 0'),
    ('data_preprocessor.std', 0, '=0: expected a number above 0'),
    ('model.data_preprocessor.mean', [NAN], '.0=nan: expected a number'),
    ('model.backbone.drop_path_rate', 2, '=2: expected a number from 0 to below 1'),
    ('model.decoder.depth', 0, '=0: expected a whole number, 1 or more'),
    ('model.head.topk', (1, 0), '.1=0: expected a whole number, 1 or more'),
    ('val_evaluator.topk', 0, '=0: expected a whole number, 1 or more'),
    ('model.head.loss.label_smooth_val', 1, '=1: expected a number from 0 to below 1'),
    ('model.data_preprocessor.batch_augments.probs', [2], '.0=2: expected a number from 0 to 1'),
    ('mask_sampler', dict(type='UniformMaskSampler', ratio=NAN), '.ratio=nan: expected a number above 0 and below 1'),
    ('param_scheduler', [dict(type='CosineAnnealingLR', T_max=0)], '.0.T_max=0: expected a number above 0'),
    ('param_scheduler', [dict(), dict(eta_min=NAN)], '.1.eta_min=nan: expected a number, 0 or more'),
    ('default_hooks.checkpoint', dict(type='CheckpointHook', interval=0), '.interval=0: expected a whole number, 1 or '
     'more, or -1 (never)'),
    ('default_hooks.checkpoint', dict(type='mmengine.CheckpointHook', max_keep_ckpts=0), '.max_keep_ckpts=0: expected a '
     'whole number, 1 or more, or -1 (all)'),
    ('default_hooks.logger', dict(type='LoggerHook', interval=0), '.interval=0: expected a whole number, 1 or more'),
    ('custom_hooks', [dict(type=EMAHook, momentum=1)], '.0.momentum=1: expected a number above 0 and below 1'),
    ('custom_hooks', [dict(type='LossSpikeHook', factor=NAN)], '.0.factor=nan: expected a number above 1'),
    # No line in the table: arguments that are numbers or switches, by their annotation or default.
    ('default_hooks.checkpoint', dict(type='CheckpointHook', by_epoch='False'), ".by_epoch='False': expected a bool"),
    ('model', dict(type='DyViT', dense_conv='no'), ".dense_conv='no': expected a bool"),
    ('model.backbone', dict(type='ResNet', num_stages='4'), ".num_stages='4': expected a whole number"),
    ('train_dataloader.dataset.pipeline', [dict(type='LoadAnnotations', with_bbox='True')],
     ".0.with_bbox='True': expected a bool"),
])
def test_a_wrong_value_is_named_with_the_range(key, value, expected):
    assert refused(key, value).startswith(expected)


@pytest.mark.parametrize(('key', 'value'), [
    ('default_hooks.checkpoint', dict(type='CheckpointHook', interval=-1, max_keep_ckpts=-1, save_begin=0)),
    ('optim_wrapper.accumulative_counts', 'auto'), ('optim_wrapper.clip_grad', None),
    ('optim_wrapper.clip_grad.max_norm', math.inf),
    ('optim_wrapper.clip_grad.norm_type', math.inf), ('optim_wrapper.loss_scale', 'dynamic'),
    ('optim_wrapper.loss_scale', dict(init_scale=512.)), ('optim_wrapper.optimizer.eps', (None, 1e-3)),
    ('train_cfg.max_iters', 160e3), ('train_dataloader.drop_last', 1), ('model.decode_head.dropout_ratio', -1),
    ('model.backbone', dict(type='VGG', num_classes=-1)), ('param_scheduler', dict(generator=[dict(end=0.5)])),
    ('train_dataloader.dataset.pipeline', [dict(type='Pad', pad_val=dict(img=NAN))]), ('mine', dict(type='None', depth=NAN)),
    ('compile', True), ('compile', dict(mode='default'))])
def test_what_is_right_passes(key, value):
    cfg = Config()
    cfg.merge_from_dict({key: value})
    assert check_values(cfg) == []


def test_the_table_is_not_about_classes_of_others(monkeypatch):
    class BlinkHook(Hook):
        def __init__(self, interval=0.5, quiet=False, options=None):
            """Of a user, whose interval is in seconds."""

    monkeypatch.setitem(HOOKS.module_dict, 'BlinkHook', BlinkHook)
    for kind in ('BlinkHook', BlinkHook):
        check_values(Config(dict(custom_hooks=[dict(type=kind, interval=0.1, options=dict(type='', interval='x'))])))
        assert refused('custom_hooks', [dict(type=kind, quiet='False')]).startswith(".0.quiet='False': expected a bool")
        inner = dict(options=dict(type='EMAHook', momentum=1))
        assert refused('custom_hooks', [dict(type=kind, **inner)]).startswith('.0.options.momentum=1')


def test_a_learning_rate_of_0_is_warned_of():
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0))))
    assert check_values(cfg, 'my.py') == ['my.py: optim_wrapper.optimizer.lr=0: nothing will be learnt at this rate']


def test_what_an_option_replaces_is_not_looked_at():
    path = 'optim_wrapper.clip_grad'
    cfg = Config(dict(optim_wrapper=dict(clip_grad=dict(max_norm=-1))))
    for options in ([f'{path}.max_norm'], [path], ['optim_wrapper']):
        assert check_values(cfg, but=options) == []


def test_the_file_and_the_options_are_looked_at(tmp_path):
    path = tmp_path / 'my.py'
    path.write_text(f"_base_ = '{COMA}'\ntrain_cfg = dict(max_epochs=0)")
    with pytest.raises(UserError, match='my.py: train_cfg.max_epochs=0: expected a whole number, 1 or more'):
        read_config(str(path), dict(epochs=3))  # the schedules would be stretched from 0
    assert read_config(str(path), {'train_cfg.max_epochs': 3}).train_cfg.max_epochs == 3
    with pytest.raises(UserError, match='my.py: custom_hooks.0.interval=0: expected a whole number'):
        read_config(str(path), {'train_cfg.max_epochs': 3, 'custom_hooks.0.interval': 0})


def with_nan(cfg, place=''):
    """Iterator[tuple]: The dotted key of each number in nested dicts and lists, and a copy with NaN in its place."""
    for key, value in cfg.items() if isinstance(cfg, dict) else enumerate(cfg):
        name = f'{place}.{key}' if place else str(key)
        if type(value) in (int, float):
            found = [(name, NAN)]
        else:
            found = with_nan(value, name) if isinstance(value, (dict, list, tuple)) else ()
        for one, copy in found:
            yield one, {**cfg, key: copy} if isinstance(cfg, dict) else [*cfg[:key], copy, *cfg[key + 1:]]


def test_nan_in_the_place_of_any_number_of_a_run_is_named():
    passed = []
    for key, cfg in with_nan(read_config(str(COMA)).to_dict()):
        try:
            check_values(Config(cfg))
            passed += [key] if key.partition('.')[0] in KNOWN_KEYS else []  # else a variable
        except UserError as error:
            assert str(error).startswith(f': {key}=nan: expected a')
    assert passed == []


def test_the_table_says_nothing_twice():
    said = [(place, key) for places, keys, _ in TABLE for place in places.split(' ') for key in keys.split()]
    assert len(said) == len(set(said))
