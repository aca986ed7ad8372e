"""The estimate of memory and operations, against counting by hand."""
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location('estimate', ROOT / 'tools/estimate.py')
estimate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(estimate)


class Classifier(nn.Module):
    """Two layers on the pixels of 4×4 images; the first is frozen."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(48, 10).requires_grad_(False)
        self.hidden = nn.Linear(10, 20)
        self.head = nn.Linear(20, 5)

    def extract_feat(self, images):
        return self.hidden(self.backbone(images.flatten(1))).relu()


@pytest.mark.parametrize('bf16', [False, True])
def test_counts_of_a_small_network(bf16):
    found = estimate.measure(Classifier(), batch=7, size=4, bf16=bf16)
    trained = 10 * 20 + 20 + 20 * 5 + 5
    assert found['parameters'] == trained
    # Forward: all layers; backward: the weights' gradients of two, and the input's of one.
    assert found['macs'] == 48 * 10 + 2 * 10 * 20 + 3 * 20 * 5
    assert found['state_bytes'] == 4 * (48 * 10 + 10) + 16 * trained
    # Saved: the input of the second layer and that of the third, which the activation function needs too; in bf16 also
    # the weight of the third, as a copy.
    assert found['saved_bytes'] == (2 * (7 * 10 + 7 * 20 + 20 * 5) if bf16 else 4 * (7 * 10 + 7 * 20))


@pytest.mark.parametrize('config', [
    'shapes/coma_dyvit-tiny_shapes.py', 'shapes/dyvit-tiny_scratch_shapes.py',
    'shapes/upernet_dyvit-tiny_scratch_shapes.py', 'shapes/mask-rcnn_dyvit-tiny_scratch_shapes.py'])
def test_kinds_of_models(config, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['estimate.py', str(ROOT / 'configs' / config), '--size', '64', '--batch-size', '2'])
    estimate.main()
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert '2 images of 64 px in float32' in line
    assert 1 < float(line.split(' M parameters')[0]) < 10 and '0.00 GMACs' not in line


def test_a_masked_step_costs_less_than_a_whole_one():
    from ..test_models.helpers import small_coma, small_mae
    mae, coma = small_mae().float(), small_coma().float()
    costs = [estimate.measure(mae, 2, 64, ratio)['macs'] for ratio in (0.25, 0.5, 0.75)]
    assert costs == sorted(costs, reverse=True)
    one, two = (estimate.measure(model, 2, 64, 0.5) for model in (mae, coma))
    assert two['saved_bytes'] == pytest.approx(one['saved_bytes'], rel=0.02)  # the evaluation model saves nothing
    assert two['macs'] == pytest.approx(one['macs'] * 4 / 3, rel=0.05)
    assert two['state_bytes'] - one['state_bytes'] == 4 * sum(p.numel() for p in mae.parameters())
    assert torch.is_grad_enabled()
