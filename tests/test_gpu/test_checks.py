"""What must hold on a GPU: `pytest -m gpu` checks it there; on a CPU the cheap checks are run, to see that they work."""
import json

import pytest
import torch

from ..campaigns.gpu import checks, work
from ..campaigns.gpu.checks import CHECKS
from ..campaigns.gpu.scale import scale


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('name', CHECKS)
def test_on_a_gpu(name):
    CHECKS[name](torch.device('cuda'))


@pytest.mark.parametrize('name', ['update left out', 'optimiser after a resume', 'k-NN', 'peak memory'])
def test_on_a_cpu(name):
    assert CHECKS[name](torch.device('cpu')) != {}


def test_a_check_fails_where_its_rule_is_broken(monkeypatch):
    monkeypatch.setattr(checks.FiniteHook, 'before_step', lambda hook, *_: setattr(hook, 'skip', torch.tensor(True)))
    with pytest.raises(AssertionError, match='tensors have changed'):
        CHECKS['update left out'](torch.device('cpu'))
    monkeypatch.setattr(checks.CoMA, 'sync_evaluation', lambda *_: None)
    with pytest.raises(AssertionError, match='momentum 0.0: not followed'):
        CHECKS['copy of the weights'](torch.device('cpu'))


def test_checks_are_written_down_one_by_one_and_the_rest_goes_on(tmp_path, monkeypatch):
    def look(device):
        seen.update(json.loads((tmp_path / 'checks.json').read_text()))
        return dict(largest=0.)

    def fail(device):
        raise RuntimeError('cuDNN error\nand more')

    def differ(device):
        raise AssertionError('differs by 3')

    seen = {}
    monkeypatch.setattr(work, 'CHECKS', dict(broken=fail, wrong=differ, good=look))
    work.smoke(scale('cpu', tmp_path), tmp_path)
    assert {name: one['ended'] for name, one in seen.items()} == dict(broken='failed', wrong='wrong', good='begun')
    found = json.loads((tmp_path / 'checks.json').read_text())
    assert found['good']['ended'] == 'right' and found['good']['found'] == dict(largest=0.)
    assert found['broken']['says'] == 'RuntimeError: cuDNN error' and 'differs by 3' in found['wrong']['says']
