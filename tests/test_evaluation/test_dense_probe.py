"""Linear probes of dense models: the config of a segmenter made into one, and the objects in a detector's data."""
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from coma_mm.config.read import read_config
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError
from coma_mm.evaluation.box_features import _extract
from coma_mm.evaluation.dense_probe import linear_segmentation, use_linear_head
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
    with pytest.raises(UserError, match='--stages 0 4: the backbone of .* has the outputs 0 to 3; expected some of them'):
        use_linear_head(cfg, 'pretrained.pth', [0, 4])
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


def test_a_segmenters_backbone_is_probed_by_the_command(run_tool):
    args = ('linear_probe.py', SEGMENTER, 'pretrained.pth', '--epochs', 1, '--work-dir', 'probe', '--cfg-options',
            'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0')
    text = run_tool(*args, '--out', 'linear.json')
    metrics = json.loads(Path('linear.json').read_text())
    assert 0 <= metrics['mIoU'] <= 100 and metrics['tested']['images'] == 4
    assert 'EncoderDecoder with DyViT tiny' in text and 'of them trained' in text
    trained = torch.load('probe/epoch_1.pth', weights_only=True)['state_dict']
    weights = torch.load('pretrained.pth', weights_only=True)['state_dict']
    shared = trained.keys() & weights.keys()
    assert len(shared) > 80 and all(torch.equal(trained[name], weights[name]) for name in shared)


def test_a_probe_of_another_checkpoint_is_not_gone_on_with(folder):
    weights = torch.load('pretrained.pth', weights_only=True)['state_dict']
    Path('other').mkdir()
    torch.save(dict(state_dict=dict(weights, **{'backbone.stem.weight': weights['backbone.stem.weight'] + 1})),
               'other/epoch_1.pth')
    Path('other/last_checkpoint').write_text('epoch_1.pth')
    with pytest.raises(UserError, match='--resume: other/epoch_1.pth is a probe of another checkpoint than pretrained.pth'):
        linear_segmentation(str(SEGMENTER), 'pretrained.pth', work_dir='other', resume=True)


def test_a_detectors_backbone_is_probed_on_its_objects(run_tool):
    text = run_tool('linear_probe.py', DETECTOR, 'pretrained.pth', '--l2', '1e-6', '--out', 'objects.json')
    metrics = json.loads(Path('objects.json').read_text())
    boxes = json.loads(Path('shapes/coco/annotations/instances_train.json').read_text())['annotations']
    assert metrics['train_objects'] == len(boxes) and f'test objects by {len(boxes)} train objects, ' in text
    assert metrics['train']['top1'] > metrics['test']['top1']


@pytest.mark.parametrize('config, options, expected', [
    (DETECTOR, ('--stages', 0), '--stages is for the config of a segmenter, and this is --solver lbfgs; leave it out'),
    (DETECTOR, ('--resume', ), '--resume is for the config of a segmenter'),
    (DETECTOR, ('--lr', 1), '--lr is for the config of a segmenter and --solver sgd, and this is --solver lbfgs'),
    (DETECTOR, ('--solver', 'sgd', '--l2', 0), '--l2 is for --solver lbfgs, and this is --solver sgd'),
    (SEGMENTER, ('--l2', 1), '--l2 is for --solver lbfgs, and this is the config of a segmenter'),
    (SEGMENTER, ('--solver', 'lbfgs'), '--solver is for --solver lbfgs and --solver sgd, and this is the config of a seg')])
def test_options_that_would_change_nothing_are_refused(run_tool, config, options, expected):
    assert expected in run_tool('linear_probe.py', config, 'pretrained.pth', *options, code=2)


def test_the_features_of_an_object_are_the_means_in_its_box():
    images = torch.rand(2, 3, 8, 8)
    backbone = torch.nn.Conv2d(3, 3, 1, bias=False)
    backbone.weight.data = torch.eye(3)[..., None, None]

    def maps(inputs):
        return backbone(inputs), torch.nn.functional.avg_pool2d(inputs, 2)

    maps.parameters = backbone.parameters
    boxes = torch.tensor([[2., 4, 6, 8]]), torch.tensor([[0., 0, 8, 8], [6, 0, 8, 2]])
    samples = [SimpleNamespace(gt_instances=SimpleNamespace(bboxes=one, labels=torch.arange(len(one)))) for one in boxes]
    model = SimpleNamespace(backbone=maps, data_preprocessor=lambda batch: batch)
    values, labels = _extract(model, [dict(inputs=images, data_samples=samples)], 'train', amp=False)
    means = torch.stack([images[0, :, 4:8, 2:6].mean((1, 2)), images[1].mean((1, 2)), images[1, :, :2, 6:].mean((1, 2))])
    torch.testing.assert_close(values[:, :3], means)
    assert values.shape == (3, 6) and labels.tolist() == [0, 0, 1]
    torch.testing.assert_close(values[2, 3:], means[2])  # a box of one place of the coarse map
