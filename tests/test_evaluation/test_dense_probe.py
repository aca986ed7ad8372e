"""Linear probes of dense models: the config of a segmenter made into one, and the objects in a detector's data."""
import json
from pathlib import Path

import pytest
import torch

from coma_mm.config.read import read_config
from coma_mm.engine.models import build_model
from coma_mm.evaluation.dense_probe import use_linear_head
from coma_mm.models import DyViT
from coma_mm.prepare.shapes import write_shapes

CONFIGS = Path(__file__).parents[2] / 'configs/shapes'
SEGMENTER = CONFIGS / 'upernet_dyvit-tiny-p16_coma_shapes-easy.py'
DETECTOR = CONFIGS / 'mask-rcnn_dyvit-tiny-p16_coma_shapes-easy.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """CoMA-Shapes, and a backbone's checkpoint."""
    folder = tmp_path_factory.mktemp('dense')
    write_shapes(folder / 'shapes', dict(unlabelled=0, train=8, val=4, test=4), size=64, progress=False, level='easy')
    backbone = DyViT('tiny', patch_size=16, pos_scale=.25)
    backbone.init_weights()
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in backbone.state_dict().items()}),
               folder / 'pretrained.pth')
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv('SHAPES_ROOT', str(folder / 'shapes'))


def test_only_the_linear_layer_of_a_segmenter_is_trained():
    cfg = read_config(str(SEGMENTER))
    use_linear_head(cfg, 'pretrained.pth', [1, 3])
    model = build_model(cfg)
    assert [name for name, one in model.named_parameters() if one.requires_grad] == [
        'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias']
    assert model.decode_head.conv_seg.weight.shape == (5, 64 + 256, 1, 1)
    assert type(model.backbone).__name__ == 'DyViT' and isinstance(model.backbone, DyViT)
    model.train()
    assert model.decode_head.training and not any(part.training for part in model.backbone.modules())
    assert cfg.optim_wrapper.optimizer.type == 'AdamW' and 'constructor' not in cfg.optim_wrapper
    model.init_weights()
    weights = torch.load('pretrained.pth', weights_only=True)['state_dict']
    assert all(torch.equal(value, weights[f'backbone.{name}']) for name, value in model.backbone.state_dict().items()
               if f'backbone.{name}' in weights)


def test_a_segmenters_backbone_is_probed_by_the_command_and_goes_on(run_tool):
    args = ('linear_probe.py', SEGMENTER, 'pretrained.pth', '--epochs', 1, '--work-dir', 'probe', '--cfg-options',
            'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0')
    text = run_tool(*args, '--out', 'linear.json')
    metrics = json.loads(Path('linear.json').read_text())
    assert 0 <= metrics['mIoU'] <= 100 and metrics['tested']['images'] == 4
    assert 'EncoderDecoder with DyViT tiny' in text and 'of them trained' in text
    assert 'holds checkpoints of an earlier run' in run_tool(*args, code=2)
    trained = torch.load('probe/epoch_1.pth', weights_only=True)['state_dict']
    weights = torch.load('pretrained.pth', weights_only=True)['state_dict']
    shared = trained.keys() & weights.keys()
    assert len(shared) > 80 and all(torch.equal(trained[name], weights[name]) for name in shared)
    assert 'expected some of them, each once' in run_tool(*args, '--overwrite', '--stages', 0, 4, code=2)


def test_a_detectors_backbone_is_probed_on_its_objects(run_tool):
    text = run_tool('linear_probe.py', DETECTOR, 'pretrained.pth', '--l2', '1e-6', '--out', 'objects.json')
    metrics = json.loads(Path('objects.json').read_text())
    boxes = json.loads(Path('shapes/coco/annotations/instances_train.json').read_text())['annotations']
    assert metrics['train_objects'] == len(boxes) and f'test objects by {len(boxes)} train objects, ' in text
    assert metrics['train']['top1'] > metrics['test']['top1']
    run_tool('knn.py', DETECTOR, 'pretrained.pth', '--k', 1, '--out', 'nearest.json', '--cfg-options',
             'test_dataloader.dataset.ann_file=annotations/instances_train.json',
             'test_dataloader.dataset.data_prefix.img=train/')
    assert json.loads(Path('nearest.json').read_text())['k']['1']['top1'] == 100  # each is its own nearest
    said = run_tool('linear_probe.py', DETECTOR, 'pretrained.pth', '--stages', 0, code=2)
    assert 'are for the config of a segmenter' in said
