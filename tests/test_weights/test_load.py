"""Checkpoints are read as weights only, and a backbone's load is reported."""
import hashlib
import zipfile

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from torch import nn

import coma_mm.weights.load as checkpoint_module
from coma_mm.errors import UserError
from coma_mm.weights import load_backbone, load_weights_only, safe_pickle
from coma_mm.weights.load import stated_backbone
from tests.helpers.pickles import tensor, write

ZIP = b'PK\5\6' + bytes(18)  # without a file in it


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
    torch.save(dict(state_dict=dict(a=torch.ones(2)), meta=Tripwire(target)), tmp_path / 'a.pth',
               _use_new_zipfile_serialization=not legacy)
    for read in (load_weights_only, lambda path: load_checkpoint(nn.Linear(1, 1), str(path))):
        with pytest.raises(UserError) as caught:
            read(tmp_path / 'a.pth')
        one_line(caught, 'a.pth', 'open', '--trust-checkpoint')
        assert not target.exists()


def test_a_pickle_is_run_if_it_is_trusted_and_a_warning_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_pickle, 'trusted', True)
    lines = []
    monkeypatch.setattr(safe_pickle, 'print_log', lambda line, **_: lines.append(line))
    torch.save(dict(state_dict=dict(a=torch.ones(2))), tmp_path / 'plain.pth')
    load_weights_only(tmp_path / 'plain.pth')
    assert not lines
    torch.save(dict(state_dict=dict(a=torch.ones(2)), meta=Tripwire(tmp_path / 'created')), tmp_path / 'a.pth')
    assert torch.equal(load_weights_only(tmp_path / 'a.pth')['state_dict']['a'], torch.ones(2))
    assert (tmp_path / 'created').exists()
    assert len(lines) == 1 and '--trust-checkpoint' in lines[0] and 'a.pth runs code of its own (io.open)' in lines[0]
    # Of a class that is not here.
    (tmp_path / 'b.pth').write_bytes(b'\x80\x02cnowhere\nnothing\n.')
    with pytest.raises(UserError) as caught:
        load_weights_only(tmp_path / 'b.pth')
    one_line(caught, 'cannot unpickle the checkpoint', 'b.pth')


def test_every_flipped_bit_of_the_weights_is_noticed(tmp_path):
    """torch itself loads a checkpoint with other values than were saved, without a word."""
    module = Backbone(16)
    save(tmp_path / 'a.pth', module)
    content = bytearray((tmp_path / 'a.pth').read_bytes())
    start = content.index(module[0].weight.detach().numpy().tobytes())
    for bit in range(0, 16 * 2 * 4 * 8, 37):
        content[start + bit // 8] ^= 1 << bit % 8
        (tmp_path / 'b.pth').write_bytes(content)
        assert torch.load(tmp_path / 'b.pth', weights_only=True)
        with pytest.raises(UserError, match='b.pth is damaged or cut off .its check sums differ.; copy'):
            load_weights_only(tmp_path / 'b.pth')
        content[start + bit // 8] ^= 1 << bit % 8


def test_a_small_file_that_unfolds_to_a_huge_one_is_refused(tmp_path):
    save(tmp_path / 'a.pth', Backbone())
    with zipfile.ZipFile(tmp_path / 'a.pth') as source, zipfile.ZipFile(tmp_path / 'b.pth', 'w', 8) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry) + bytes(50_000_000 * entry.filename.endswith('data/0')))
    assert (tmp_path / 'b.pth').stat().st_size < 100_000
    with pytest.raises(UserError, match='b.pth is damaged'):
        load_weights_only(tmp_path / 'b.pth')


def test_what_is_verified_is_what_torch_reads(tmp_path):
    """One file can be two archives, where zipfile finds a whole one and torch another."""
    shown, hidden = (write(tmp_path / 'a.pth', dict(a=tensor(1)), [torch.tensor(value).numpy().tobytes()]).read_bytes()
                     for value in (1., 2.))
    (tmp_path / 'shown').write_bytes(shown)
    for prefix, name in ((hidden, 'two.pth'), (b'PK' + bytes(98), 'prefixed.pth')):
        (tmp_path / name).write_bytes(prefix + shown)
    assert torch.load(tmp_path / 'two.pth', weights_only=True)['a'].tolist() == [2.]
    with zipfile.ZipFile(tmp_path / 'two.pth') as archive:
        assert archive.testzip() is None and archive.read('a/data/0') == torch.tensor(1.).numpy().tobytes()
    (tmp_path / 'commented.pth').write_bytes(shown[:-2] + b'\1\0x')
    with zipfile.ZipFile(tmp_path / 'shown') as source, zipfile.ZipFile(tmp_path / 'cases.pth', 'w') as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
        target.writestr('A/DATA/0', bytes(4))
    assert load_weights_only(tmp_path / 'shown')['state_dict']['a'] == 1
    for name in ('two.pth', 'prefixed.pth', 'commented.pth', 'cases.pth'):
        with pytest.raises(UserError, match=f'{name} is damaged'):
            load_weights_only(tmp_path / name)


def test_a_missing_file_is_also_pythons_own_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint at .*a.pth'):
        load_checkpoint(nn.Linear(1, 1), str(tmp_path / 'a.pth'))


def test_addresses_that_end_alike_are_different_files(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(checkpoint_module, 'print_log', lambda line, **_: lines.append(line))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file',
                        lambda address, target: torch.save(dict(a=torch.tensor(float(len(address)))), target))
    for address in ('https://models.example/a/model.pth', 'https://models.example/another/model.pth?x=1') * 2:
        assert load_weights_only(address)['state_dict']['a'] == len(address)
    assert ['downloaded' in line for line in lines] == [True, True, False, False]
    for line in lines:
        path = line.partition(': ')[2].partition(' (')[0]
        assert hashlib.sha256(open(path, 'rb').read()).hexdigest() in line


def test_weights_are_tensors_by_name(tmp_path):
    for weights in ({}, dict(a=1), {1: torch.ones(1)}, [torch.ones(1)], None):
        torch.save(dict(state_dict=weights), tmp_path / 'a.pth')
        with pytest.raises(UserError, match="a.pth is not a model's checkpoint"):
            load_weights_only(tmp_path / 'a.pth')


def test_every_scheme_of_mmengine_is_read_safely(tmp_path, monkeypatch):
    assert set(CheckpointLoader._schemes.values()) == {checkpoint_module.load_from_weights_only}
    assert {'torchvision://', 'open-mmlab://', 'pavi://', ''} <= CheckpointLoader._schemes.keys()
    asked = []

    def download(address, target):
        asked.append(address)
        torch.save(dict(a=Tripwire(tmp_path / 'created')), target)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    for path, expected in (('torchvision://resnet18', 'is not the file of'), ('open-mmlab://resnet50_v1c', 'is not the'),
                           ('https://models.example/a.pth', 'refused to read .* pass --trust-checkpoint')):
        with pytest.raises(UserError, match=expected):
            load_checkpoint(nn.Linear(1, 1), path)
    assert len(asked) == 3 and all(address.startswith('https://') for address in asked)
    assert not (tmp_path / 'created').exists()
    for path, expected in (('torchvision://resnet81', "is it 'resnet18'"), ('s3://bucket/a.pth', 'download it first'),
                           ('pavi://a', 'download it first'), ('https:///', 'cannot download')):
        monkeypatch.undo()
        with pytest.raises(UserError) as caught:
            load_checkpoint(nn.Linear(1, 1), path)
        one_line(caught, path, expected)


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


@pytest.mark.parametrize('content, expected', [
    (b'\xff\xd8\xff\xe0', 'it looks like a JPEG image'), (b'Please see the readme', 'it looks like a text'),
    (b'\x80K as in text', 'it looks like data of an unknown kind'), (b'<!DOCTYPE html>', 'it looks like a page of the'),
    (b'version https://git-lfs.github.com/spec/v1', 'it looks like a pointer of Git LFS'),
    (b'\x50\0\0\0\0\0\0\0{"a":', 'it looks like a .safetensors file'), (ZIP, 'it looks like a zip archive')])
def test_what_is_no_checkpoint_is_called_what_it_looks_like(tmp_path, content, expected):
    """Not one of "pickle protocol 75", nor damaged, by the first bytes of another kind of file."""
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(UserError, match=f'a.pth is not a PyTorch checkpoint: {expected}'):
        load_weights_only(tmp_path / 'a.pth')


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
    with pytest.raises(UserError) as caught:  # the same, but for the bands of the images
        load_backbone(nn.Sequential(nn.Conv2d(4, 2, 3)), save(tmp_path / 'rgb.pth', nn.Sequential(nn.Conv2d(3, 2, 3))))
    one_line(caught, 'it was trained on images of 3 bands, and this model is for 4: take in_channels=3 and such images')
    assert 'arch' not in str(caught.value)
    with pytest.raises(UserError, match='use the same arch'):
        load_backbone(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / 'rgb.pth')
    part = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(UserError) as caught:
        load_backbone(Backbone(), save(tmp_path / 'part.pth', part))
    one_line(caught, 'part.pth', 'lacks 2 of 4', '1.weight')
    tolerant = Backbone()
    tolerant.allowed_missing = ('1.weight', '1.bias')
    load_backbone(tolerant, save(tmp_path / 'part.pth', part))
    assert 'loaded 2 of 4' in log[-1] and log[-1].endswith('; 2 that it lacks start afresh: 1.weight, 1.bias')


@pytest.mark.parametrize('cfg', ['x=' + '-' * 200_000 + '1', 'x=' + '+'.join('1' * 100_000), 'x=1\0'])
def test_a_config_text_that_cannot_be_read_says_nothing_of_the_backbone(cfg):
    assert stated_backbone(dict(cfg=cfg)) == {}


def test_what_a_checkpoint_says_of_itself_reaches_the_log_as_text(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('coma_mm.weights.load.print_log', lambda line, **_: lines.append(line))
    weights = {**nn.Linear(2, 2).state_dict(), 'a\n\x1b[31m': torch.ones(1)}
    torch.save(dict(state_dict=weights, meta=dict(coma_mm=dict(algorithm='A\nB', epochs='\x1b[31m'))), tmp_path / 'a.pth')
    load_backbone(nn.Linear(2, 2), tmp_path / 'a.pth')
    assert lines and all(line.isprintable() for line in lines) and any('A\\nB' in line for line in lines)


@pytest.mark.parametrize('settings', [
    'patch_size', ['patch_size'], 7, dict(patch_size='\x1b[31m'), dict(patch_size=torch.ones(2)),
    dict(patch_size=[torch.ones(2)]), dict(patch_size='9' * 10_000),
])
def test_settings_of_any_kind_are_text(tmp_path, monkeypatch, settings):
    lines = []
    monkeypatch.setattr('coma_mm.weights.load.print_log', lambda line, **_: lines.append(line))
    module = nn.Linear(2, 2)
    module.settings = dict(patch_size=32)
    torch.save(dict(state_dict=module.state_dict(), meta=dict(coma_mm=dict(settings=settings))), tmp_path / 'a.pth')
    load_backbone(module, tmp_path / 'a.pth')
    assert all(line.isprintable() and len(line) < 5000 for line in lines)
    assert any('was trained with patch_size=' in line for line in lines) == isinstance(settings, dict)


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors'])
def test_a_device_that_is_not_there_is_not_called_damage(tmp_path, name):
    weights = dict(a=torch.ones(1))
    (save_file if name.endswith('safetensors') else torch.save)(weights, tmp_path / name)
    with pytest.raises(UserError, match=f'cannot put the checkpoint .*{name} on xpu') as caught:
        load_weights_only(tmp_path / name, map_location='xpu')
    assert 'damaged' not in str(caught.value)
