"""`knn.py`, `linear_probe.py` and `export_backbone.py` as users start them, on CoMA-Shapes."""
import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from coma_mm.config.read import read_config
from coma_mm.evaluation.features import frozen_features
from coma_mm.models import DyViT
from coma_mm.prepare.shapes import write_shapes

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/shapes/dyvit-tiny_scratch_shapes.py'
FACTS = dict(algorithm='CoMA', backbone='DyViT', arch='tiny', epochs=2)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """CoMA-Shapes with twenty images to train and ten to test on, and a pre-training's checkpoint."""
    folder = tmp_path_factory.mktemp('probes')
    write_shapes(folder / 'shapes', dict(unlabelled=0, train=20, val=0, test=10), size=64, progress=False)
    backbone = DyViT('tiny', out_indices=(0, 1, 2, 3))
    backbone.init_weights()
    model = nn.ModuleDict(dict(backbone=backbone, evaluation=nn.ModuleDict(dict(backbone=DyViT('tiny')))))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(coma_mm=FACTS)), folder / 'pretrained.pth')
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv('SHAPES_ROOT', str(folder / 'shapes'))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')


@pytest.fixture
def classifier():
    """The config, and its model with the pre-training's backbone, its checkpoint being classifier.pth."""
    cfg = read_config(str(CONFIG))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
    weights = torch.load('pretrained.pth', weights_only=True)['state_dict']
    assert not model.load_state_dict(weights, strict=False).missing_keys[2:]  # the head's two
    torch.save(dict(state_dict=model.state_dict()), 'classifier.pth')
    return cfg, model


def test_features_are_what_the_classifiers_head_gets(classifier):
    cfg, model = classifier
    probe = frozen_features(cfg, 'classifier.pth')
    loader = Runner.build_dataloader(cfg.test_dataloader)
    samples = [sample for batch in loader for sample in model.test_step(batch)]
    scores = model.head.fc(probe.test.values).softmax(1)
    torch.testing.assert_close(scores, torch.stack([sample.pred_score for sample in samples]))
    assert torch.equal(probe.test.labels, torch.cat([sample.gt_label for sample in samples]))
    assert len(probe.train.labels) == 20 and probe.num_classes == 10
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')  # where mmpretrain's own configs have it
    assert torch.equal(frozen_features(cfg, 'classifier.pth').test.values, probe.test.values)


def test_knn_is_the_same_for_every_kind_of_checkpoint(run_tool, classifier):
    text = run_tool('export_backbone.py', 'pretrained.pth', 'exported.safetensors')
    assert 'exported.safetensors: 97 tensors' in text and 'arch: tiny' in text
    found = {}
    for path in ('pretrained.pth', 'exported.safetensors', 'classifier.pth'):
        text = run_tool('knn.py', CONFIG, path, '--k', 1, 7, '--out', 'out/knn.json')
        assert '10 test images by 20 train images, 10 classes; guessing: top-1 10.00 %, top-5 50.00 %; always the '\
            'largest class: top-1 10.00 %' in text
        found[path] = json.loads(Path('out/knn.json').read_text())
        assert f'k=7      top-1 {found[path]["k"]["7"]["top1"]:6.2f} %' in text
        facts = found[path].pop('backbone_from')
        assert facts['checkpoint'] == path and (path == 'classifier.pth' or FACTS.items() <= facts.items())
    assert found['pretrained.pth'] == found['exported.safetensors'] == found['classifier.pth']
    # The test split in the place of the train split: each image is its own nearest.
    same = ['--cfg-options', 'train_dataloader.dataset.data_prefix=test']
    run_tool('knn.py', CONFIG, 'pretrained.pth', '--k', 1, '--out', 'knn.json', *same)
    assert json.loads(Path('knn.json').read_text())['k']['1']['top1'] == 100


@pytest.mark.parametrize('options', [('--l2', '1e-6'), ('--solver', 'sgd', '--epochs', '300', '--lr', '0.1'), ()])
def test_linear_probe_fits_few_images(run_tool, options):
    text = run_tool('linear_probe.py', CONFIG, 'pretrained.pth', '--out', 'linear.json', *options)
    metrics = json.loads(Path('linear.json').read_text())
    assert f'test   top-1 {metrics["test"]["top1"]:6.2f} %' in text and metrics['train_images'] == 20
    if options:
        assert metrics['train']['top1'] == 100
    else:
        assert metrics['l2'] in (1, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6) and len(metrics['held_out_top1']) == 7


def test_configs_that_say_no_labels(run_tool, folder):
    def line(*args, config=CONFIG):
        return run_tool('knn.py', config, 'pretrained.pth', '--k', 1, *args, code=2)

    for name, kind in (('upernet_dyvit-tiny_scratch_shapes', 'EncoderDecoder'), ('coma_dyvit-tiny_shapes', 'CoMA')):
        assert f'is a config of {kind}; expected one of an ImageClassifier' in line(config=CONFIG.with_name(f'{name}.py'))
    train, test = 'train_dataloader.dataset.', 'test_dataloader.dataset.'
    unlabelled = line('--cfg-options', f'{train}with_label=False')
    assert 'train_dataloader.dataset (CustomDataset) have no class id each' in unlabelled
    assert 'finds no sample' in line('--cfg-options', f'{test}indices=0')
    shutil.copytree('shapes/imagenet/test', 'two_classes', dirs_exist_ok=True)
    for name in ('star', 'triangle'):
        shutil.rmtree(f'two_classes/{name}')
    assert 'differ (10: arrow, circle, crescent, …; 8: arrow' in line('--cfg-options', f'{test}data_root={folder}',
                                                                     f'{test}data_prefix=two_classes')
    Path('wrapped.py').write_text(f"_base_ = '{CONFIG}'\ntrain_dataloader = dict(dataset=dict(\n    _delete_=True, "
                                  "type='RepeatDataset', times=2, dataset={{_base_.train_dataloader.dataset}}))\n")
    assert 'train_dataloader.dataset is a RepeatDataset around other data sets' in line(config='wrapped.py')
    neck = ['model.neck.type=LinearNeck', 'model.neck.in_channels=256', 'model.neck.out_channels=8']
    assert 'model.neck has weights of its own' in line('--cfg-options', *neck)
    assert 'k=21 is more than the 20 train images' in run_tool('knn.py', CONFIG, 'pretrained.pth', '--k', 21, code=2)
    # Nothing is computed first: the checkpoint is not even there.
    for tool, args, expected in (
            ('knn.py', ('--k', 1, '--cfg-options', f'{train}indices=[0]'), 'all 1 train images are of one class'),
            ('knn.py', ('--k', 21), 'k=21 is more than the 20 train images'),
            ('knn.py', ('--out', folder), f'cannot write {folder}: it is a folder'),
            ('linear_probe.py', ('--out', CONFIG / 'x.json'), f'{CONFIG} is no folder'),
            ('linear_probe.py', ('--cfg-options', f'{train}indices=5'), '5 train images are too few to hold a tenth out')):
        assert expected in run_tool(tool, CONFIG, 'none.pth', *args, code=2)
    few = run_tool('knn.py', CONFIG, 'pretrained.pth', '--cfg-options', f'{train}indices=5')
    assert '7 of the 10 classes of the test images have no train image' in few and '\nk=5 ' in few
    assert 'needs the key test_dataloader' in line('--cfg-options', 'test_dataloader=None')


def test_data_and_checkpoints_that_are_not_there_or_wrong(run_tool, monkeypatch):
    assert 'no checkpoint at none.pth' in run_tool('knn.py', CONFIG, 'none.pth', code=2)
    small = ['--cfg-options', 'model.backbone.arch=small', 'model.head.in_channels=768']
    for tool in ('knn.py', 'linear_probe.py'):
        assert "(arch 'tiny') does not fit DyViT (arch 'small')" in run_tool(tool, CONFIG, 'pretrained.pth', *small, code=2)
    weights = torch.load('pretrained.pth', weights_only=True)
    weights['state_dict']['backbone.stem.bias'][0] = torch.nan
    torch.save(weights, 'diverged.pth')
    line = run_tool('knn.py', CONFIG, 'diverged.pth', code=2)
    assert 'shapes/imagenet/train/arrow/' in line and 'NaN or infinite' in line
    monkeypatch.setenv('SHAPES_ROOT', 'nowhere')
    line = run_tool('knn.py', CONFIG, 'pretrained.pth', code=2)
    assert 'nowhere/imagenet/train does not exist' in line and 'SHAPES_ROOT is set to nowhere' in line
    run_tool('knn.py', CONFIG, 'pretrained.pth', '--k', 1, '--data-root', 'shapes/imagenet')
    run_tool('export_backbone.py', 'pretrained.pth', 'there.safetensors')
    assert 'there already' in run_tool('export_backbone.py', 'pretrained.pth', 'there.safetensors', code=2)
    run_tool('export_backbone.py', 'pretrained.pth', 'there.safetensors', '--force')
