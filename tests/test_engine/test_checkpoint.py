"""Checkpoints are read as weights only, and a backbone's load is reported."""
import hashlib
import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file
from torch import nn

import coma_mm.engine.checkpoint as checkpoint_module
from coma_mm.engine import load_backbone, load_weights_only
from coma_mm.errors import UserError


class Tripwire:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


class Backbone(nn.Sequential):
    arch = 'tiny'

    def __init__(self, width=3):
        super().__init__(nn.Linear(2, width), nn.LayerNorm(width))


def save(path, module, prefix='backbone.', meta=None, **extra):
    weights = {prefix + name: value for name, value in module.state_dict().items()}
    torch.save(dict(state_dict={**weights, **extra}, meta=meta or {}), path)
    return str(path)


def one_line(caught, *parts):
    text = str(caught.value)
    assert '\n' not in text and all(part in text for part in parts), text


def test_what_a_training_checkpoint_holds_is_read(tmp_path):
    curve = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(state_dict=dict(a=torch.ones(2)), message_hub=dict(log_scalars=dict(loss=curve)), meta=dict(epoch=3),
                   optimizer=dict(param_groups=[dict(lr=0.1, betas=(0.9, 0.95))]))
    torch.save(content, tmp_path / 'a.pth')
    loaded = load_weights_only(tmp_path / 'a.pth')
    assert torch.equal(loaded['state_dict']['a'], torch.ones(2)) and loaded['meta'] == dict(epoch=3)
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert loaded['optimizer'] == content['optimizer']


def test_plain_dicts_and_safetensors_are_read(tmp_path):
    weights = dict(a=torch.arange(3.0))
    torch.save(weights, tmp_path / 'plain.pth')
    torch.save(dict(model=weights, epoch=1), tmp_path / 'model.pth')
    save_file(weights, tmp_path / 'a.safetensors')
    for name in ('plain.pth', 'model.pth', 'a.safetensors'):
        loaded = load_weights_only(tmp_path / name)
        assert torch.equal(loaded['state_dict']['a'], weights['a']) and isinstance(loaded['meta'], dict)


@pytest.mark.parametrize('legacy', [False, True])
def test_nothing_in_a_file_is_run(tmp_path, legacy):
    target = tmp_path / 'created'
    torch.save(dict(state_dict={}, meta=Tripwire(target)), tmp_path / 'a.pth',
               _use_new_zipfile_serialization=not legacy)
    for read in (load_weights_only, lambda path: load_checkpoint(nn.Linear(1, 1), str(path))):
        with pytest.raises(UserError) as caught:
            read(tmp_path / 'a.pth')
        one_line(caught, 'a.pth', 'open')
        assert not target.exists()


def test_getattr_is_allowed_for_the_curves_statistics_alone():
    assert checkpoint_module._statistic(HistoryBuffer, 'mean') is HistoryBuffer.mean
    for owner, name in ((HistoryBuffer, '__init__'), (torch, 'load')):
        with pytest.raises(pickle.UnpicklingError):
            checkpoint_module._statistic(owner, name)


def test_unusable_files_give_one_line(tmp_path):
    whole = save(tmp_path / 'whole.pth', Backbone(40))
    content = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[:len(content) // 2])
    (tmp_path / 'empty.pth').write_bytes(b'')
    (tmp_path / 'text.pth').write_text('not weights')
    (tmp_path / 'cut.safetensors').write_bytes(b'\x40')
    torch.save(torch.ones(2), tmp_path / 'tensor.pth')
    torch.save(dict(epoch=3), tmp_path / 'other.pth')
    for name in ('cut.pth', 'empty.pth', 'text.pth', 'cut.safetensors', 'tensor.pth', 'other.pth', 'missing.pth'):
        with pytest.raises(UserError) as caught:
            load_weights_only(str(tmp_path / name))
        one_line(caught, str(tmp_path / name))
    assert load_weights_only(whole)['state_dict']


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(checkpoint_module, 'print_log', lambda line, **_: lines.append(line))
    return lines


def test_a_backbone_is_loaded_and_its_origin_kept(tmp_path, log):
    source, target = Backbone(), Backbone()
    facts = dict(algorithm='CoMA', epochs=100, mask_ratio=0.6)
    path = save(tmp_path / 'a.pth', source, meta=dict(coma_mm=facts),
                **{'backbone.norm0.weight': torch.ones(1), 'head.bias': torch.ones(1)})
    load_backbone(target, path)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)
    assert log == [f'loaded 4 of 4 tensors into Backbone from {path} (pre-trained with CoMA, 100 epochs); 1 tensors of '
                   'the checkpoint have no place here: norm0.weight']
    digest = hashlib.sha256((tmp_path / 'a.pth').read_bytes()).hexdigest()
    assert target.provenance == dict(facts, checkpoint=path, sha256=digest)


def test_a_backbone_alone_needs_no_prefix(tmp_path, log):
    source, target = Backbone(), Backbone()
    load_backbone(target, save(tmp_path / 'a.pth', source, prefix=''))
    assert torch.equal(source[0].weight, target[0].weight)
    assert len(log) == 2 and 'backbone.' in log[0] and 'loaded 4 of 4' in log[1]


def test_a_backbone_that_does_not_fit_is_refused(tmp_path, log):
    meta = dict(coma_mm=dict(arch='base'))
    with pytest.raises(UserError) as caught:
        load_backbone(Backbone(), save(tmp_path / 'wide.pth', Backbone(5), meta=meta))
    one_line(caught, 'wide.pth', "'base'", "'tiny'", '0.weight', '(5, 2)', '(3, 2)')
    with pytest.raises(UserError) as caught:
        load_backbone(Backbone(), save(tmp_path / 'other.pth', nn.Conv2d(1, 1, 1)))
    one_line(caught, 'nothing', 'other.pth', 'weight, bias', '0.weight')
    part = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(UserError) as caught:
        load_backbone(Backbone(), save(tmp_path / 'part.pth', part))
    one_line(caught, 'part.pth', 'lacks 2 of 4', '1.weight')
    tolerant = Backbone()
    tolerant.allowed_missing = ('1.weight', '1.bias')
    load_backbone(tolerant, save(tmp_path / 'part.pth', part))
    assert 'loaded 2 of 4' in log[-1]
