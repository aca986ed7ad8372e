"""`--tracker` adds mmengine's classes to whatever visualiser a config has."""
import inspect
import sys
from argparse import ArgumentParser
from types import ModuleType

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, VISBACKENDS, VISUALIZERS, DefaultScope
from mmengine.visualization import LocalVisBackend, TensorboardVisBackend

from coma_mm.commands import train
from coma_mm.config.read import read_config
from coma_mm.config.trackers import PICTURES, TRACKERS, use_trackers
from coma_mm.errors import UserError

LOCAL = dict(type='LocalVisBackend')
SETTINGS = (
    None, dict(type='UniversalVisualizer', vis_backends=[LOCAL]), dict(type='SegLocalVisualizer', vis_backends=LOCAL),
    dict(type='DetLocalVisualizer', vis_backends=[LOCAL, dict(type='TensorboardVisBackend', save_dir='x')]))


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """Stand-ins for packages that are not installed; no variable of the trackers is set."""
    for name in ('wandb', 'mlflow', 'torch.utils.tensorboard'):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name in ('WANDB_PROJECT', 'WANDB_NAME', 'MLFLOW_EXPERIMENT_NAME'):
        monkeypatch.delenv(name, raising=False)


def make(visualizer=None, **more):
    return Config(dict(work_dir='work_dirs/mine', train_cfg=dict(max_epochs=2), visualizer=visualizer, **more))


@pytest.mark.parametrize('visualizer', SETTINGS)
def test_trackers_are_added_to_any_visualizer_once(visualizer):
    cfg = make(visualizer, vis_backends=[LOCAL])
    for _ in range(2):
        use_trackers(cfg, ['tensorboard', 'wandb', 'tensorboard', 'mlflow'])
    kinds = [backend.type for backend in cfg.visualizer.vis_backends]
    assert kinds == ['LocalVisBackend', 'TensorboardVisBackend', 'WandbVisBackend', 'MLflowVisBackend']
    assert cfg.visualizer.type == (visualizer or dict(type='Visualizer'))['type'] and cfg.vis_backends == [LOCAL]
    if visualizer and len(visualizer['vis_backends']) == 2 and isinstance(visualizer['vis_backends'], list):
        assert cfg.visualizer.vis_backends[1].save_dir == 'x'  # one's own stays as it is


def test_mmengines_classes_take_what_they_are_given():
    cfg = make()
    use_trackers(cfg, list(TRACKERS))
    for backend in cfg.visualizer.vis_backends:
        kind = VISBACKENDS.get(backend.type)
        assert backend.keys() - {'type'} <= inspect.signature(kind).parameters.keys()
    _, _, wandb, mlflow = cfg.visualizer.vis_backends
    assert wandb.init_kwargs == dict(project='coma_mm', name='mine')
    assert wandb.define_metric_cfg == [dict(name='*', step_metric='iter')]
    assert (mlflow.exp_name, mlflow.run_name, mlflow.tracked_config_keys) == ('coma_mm', 'mine', ['train_cfg'])


def test_the_trackers_own_variables_go_before_our_names(monkeypatch):
    for name in ('WANDB_PROJECT', 'WANDB_NAME', 'MLFLOW_EXPERIMENT_NAME'):
        monkeypatch.setenv(name, 'theirs')
    cfg = make()
    use_trackers(cfg, ['wandb', 'mlflow'])
    _, wandb, mlflow = cfg.visualizer.vis_backends
    assert wandb.init_kwargs == {} and mlflow.exp_name == 'theirs'


@pytest.mark.parametrize('imports', [None, dict(imports='coma_mm', allow_failed_imports=False), dict(imports=['coma_mm'])])
def test_the_hook_that_draws_is_in_the_config_with_its_module(imports, tmp_path):
    cfg = make(custom_imports=imports, custom_hooks=[dict(type='EMAHook')])
    for _ in range(2):
        use_trackers(cfg, ['tensorboard'])
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook', 'ValidationPicturesHook']
    assert cfg.custom_imports.imports == ['coma_mm'][:bool(imports)] + [PICTURES]
    assert HOOKS.get('ValidationPicturesHook').__module__ == PICTURES
    cfg.dump(str(tmp_path / 'again.py'))
    assert Config.fromfile(str(tmp_path / 'again.py')).visualizer == cfg.visualizer


@pytest.mark.parametrize('config', [
    'dyvit-tiny-p16_scratch', 'upernet_dyvit-tiny-p16_scratch', 'mask-rcnn_dyvit-tiny-p16_scratch'])
def test_the_visualizers_of_all_libraries_take_a_tracker(config, tmp_path, capfd):
    cfg = read_config(f'coma_mm::shapes/{config}_shapes-easy.py', trackers=['tensorboard'])
    assert 'tensorboard --logdir work_dirs/' in capfd.readouterr().out
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        visualizer = VISUALIZERS.build(dict(cfg.visualizer, name=tmp_path.name, save_dir=str(tmp_path)))
    assert [type(one) for one in visualizer._vis_backends.values()] == [LocalVisBackend, TensorboardVisBackend]


def test_where_to_look_is_said():
    cfg = make()
    assert use_trackers(cfg, ['tensorboard']) == ['TensorBoard: tensorboard --logdir work_dirs/mine']
    lines = use_trackers(cfg, list(TRACKERS))
    assert [line.split(':')[0] for line in lines] == ['TensorBoard', 'Weights & Biases', 'MLflow']


@pytest.mark.parametrize('name', TRACKERS)
def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, TRACKERS[name][1], None)
    cfg = make()
    with pytest.raises(UserError, match=rf"^--tracker {name} needs the package {name}, .*; pip install 'coma-mm\[{name}\]'"):
        use_trackers(cfg, [name])
    assert cfg.visualizer is None and 'custom_hooks' not in cfg


def test_the_command_knows_the_same_names():
    parser = ArgumentParser()
    train.add_arguments(parser)
    action = next(one for one in parser._actions if one.dest == 'tracker')
    assert action.choices == tuple(TRACKERS)
    assert parser.parse_args(['a.py', '--tracker', 'wandb', '--tracker', 'mlflow']).tracker == ['wandb', 'mlflow']
    with pytest.raises(UserError, match="--tracker='wand': .* did you mean 'wandb'"):
        use_trackers(make(), ['wand'])
