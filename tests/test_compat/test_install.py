"""`coma_mm.compat.install` in fresh processes: what is imported, printed and left alone."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmcv import _ext
from mmcv.utils import collect_env
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.hub import get_config
from mmengine.utils.dl_utils.misc import mmcv_full_available

import coma_mm
from coma_mm.compat import config_path
from coma_mm.errors import UserError

ROOT = Path(__file__).parents[2]

# Runs install() alone, without what else importing coma_mm does.
INSTALL = f"""
import sys, types
sys.modules['coma_mm'] = types.ModuleType('coma_mm')
sys.modules['coma_mm'].__path__ = {coma_mm.__path__!r}
from coma_mm.compat import install
install()
"""


def run(code, path=()):
    """Standard output and error of a Python process that runs `code`, with `path` in front on its module path."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([*map(str, path), os.environ['PYTHONPATH']]))
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_import_is_quiet():
    code = ('import coma_mm, mmpretrain.models, mmseg.models, mmdet.models, '
            'mmpretrain.datasets, mmseg.datasets, mmdet.datasets, mmdet.engine, mmdet.evaluation, mmdet.visualization')
    assert run(code) == ''


def test_own_warnings_are_heard():
    heard = run(INSTALL + 'import warnings; warnings.warn("mine"); warnings.warn("mine too", SyntaxWarning)')
    assert 'UserWarning: mine' in heard and 'SyntaxWarning: mine too' in heard


def test_own_messages_are_heard():
    assert run(INSTALL + 'from mmengine.logging import print_log; print_log("mine")') == 'mine\n'


def test_install_twice_changes_nothing():
    run(INSTALL + 'import mmengine.logging as log\n'
        'before = list(sys.meta_path), log.print_log\n'
        'install()\n'
        'assert before == (sys.meta_path, log.print_log)')


def test_install_imports_no_models():
    run(INSTALL + 'assert not {"mmcv", "mmdet", "mmpretrain", "mmseg", "torchvision"} & set(sys.modules)')


def test_compiled_operators_are_preferred(tmp_path):
    # Python looks for mmcv._ext in mmcv.__path__, as it does for a compiled one.
    (tmp_path / '_ext.py').write_text('nms = "compiled"\n')
    assert run(INSTALL + f'import mmcv; mmcv.__path__.insert(0, {str(tmp_path)!r})\n'
               'from mmcv import _ext; print(_ext.nms, hasattr(_ext, "softnms"))') == 'compiled False\n'


def test_mmcv_tells_that_operators_exist():
    assert mmcv_full_available()
    assert 'torchvision' in collect_env()['MMCV Compiler'] or not _ext.__file__.endswith('.py')


@pytest.mark.parametrize('base, model', [
    ('mmpretrain::_base_/models/resnet18.py', 'ImageClassifier'),
    ('mmseg::_base_/models/upernet_r50.py', 'EncoderDecoder'),
    ('mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'MaskRCNN'),
])
def test_configs_are_inherited_by_library_name(tmp_path, monkeypatch, base, model):
    """Without a look at all metafiles of the library, which takes a second."""
    monkeypatch.setattr(config_utils, 'load', lambda path: pytest.fail(f'it reads {path}'))
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {base!r}\n')
    assert Config.fromfile(path).model.type == model


def test_a_library_config_that_is_not_there_is_named_as_ever(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("_base_ = 'mmdet::_base_/models/none.py'\n")
    with pytest.raises(FileNotFoundError, match='mmdet/.mim/configs/_base_/models/none.py'):
        Config.fromfile(path)


def test_our_configs_are_inherited_by_the_packages_name(tmp_path):
    name = 'detection/mask-rcnn_dyvit-small_fpn_8xb8-lsj-100e_coco-768px.py'  # with relative bases, and a library's
    path = tmp_path / 'config.py'
    path.write_text(f"_base_ = 'coma_mm::{name}'\nmodel = dict(backbone=dict(drop_path_rate=0.5))\n")
    found, expected = Config.fromfile(path), Config.fromfile(ROOT / 'configs' / name)
    assert found.model.backbone.drop_path_rate == 0.5 != expected.model.backbone.drop_path_rate
    expected.model.backbone.drop_path_rate = 0.5
    assert found.to_dict() == expected.to_dict()  # without a scope that no registry has
    assert get_config(f'coma_mm::{name}').model == Config.fromfile(ROOT / 'configs' / name).model


def test_a_misspelt_config_of_ours_is_named_with_the_nearest(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("_base_ = ['coma_mm::_base_/models/coma_dyvit-bas.py']\n")
    with pytest.raises(UserError) as found:
        Config.fromfile(path)
    assert str(found.value) == ('no config coma_mm::_base_/models/coma_dyvit-bas.py; did you mean '
                                'coma_mm::_base_/models/coma_dyvit-base.py?')
    with pytest.raises(UserError, match='expected coma_mm:: and a path below configs/'):
        config_path('coma_mm::')


def fake_transformers(root, version):
    """A package `transformers` that has nothing in it but its version."""
    info = root / f'transformers-{version}.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n')
    (root / 'transformers').mkdir()
    (root / 'transformers' / '__init__.py').write_text(f'__version__ = {version!r}\n')
    return root


def test_beside_transformers_5(tmp_path):
    path = [fake_transformers(tmp_path, '5.17.0')]
    assert run(INSTALL + 'import mmpretrain.models', path=path) == ''  # which alone has models of transformers
    # The fake is broken in the way that matters: without coma_mm the same import fails.
    with pytest.raises(AssertionError, match='transformers|NoneType'):
        run(INSTALL + 'import mmpretrain.utils.dependency as d; d.WITH_MULTIMODAL = True; import mmpretrain.models',
            path=path)


def test_transformers_4_keeps_multimodal_models(tmp_path):
    # Not even mmpretrain is imported, so nothing can have been switched off.
    run(INSTALL + 'assert "mmpretrain" not in sys.modules', path=[fake_transformers(tmp_path, '4.57.0')])


def test_mask_rcnn_trains_from_a_plain_mmdet_config(tmp_path):
    config = tmp_path / 'mask_rcnn.py'
    config.write_text('''
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
default_scope = 'mmdet'
custom_imports = dict(imports=['coma_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(depth=18, init_cfg=None, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_classes=3)))
''')
    # As mmdet's own tools/train.py goes about it: mmdet first, then the config.
    printed = run(f'''
import mmdet.utils
import torch
from mmengine.config import Config
config = Config.fromfile({str(config)!r})
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
register_all_modules()
from mmdet.testing import demo_mm_inputs
torch.manual_seed(0)
model = MODELS.build(config.model).train()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batch = demo_mm_inputs(2, [[3, 64, 64]] * 2, num_classes=3, with_mask=True)
for _ in range(2):
    data = model.data_preprocessor(batch, True)
    loss, log = model.parse_losses(model(**data, mode='loss'))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss), log
    assert log['loss_mask'] > 0 and log['loss_bbox'] >= 0
assert model.neck.lateral_convs[0].conv.weight.grad.abs().sum() > 0
with torch.no_grad():
    print(len(model.eval().test_step(batch)), 'images')
''')
    assert printed.splitlines()[-1] == '2 images'
