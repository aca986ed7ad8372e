"""A backbone goes from any library's checkpoint to any library's model, directly and through an exported file."""
import hashlib
import logging
import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from safetensors import safe_open
from torch import nn

from coma_mm.config.read import read_config
from coma_mm.errors import UserError
from coma_mm.models import DyViT
from coma_mm.weights import load_backbone, load_weights_only
from coma_mm.weights.export import export_backbone
from coma_mm.weights.load import weights_sha256

CONFIGS = Path(__file__).parents[2] / 'configs/shapes'
PRETRAINING = 'coma_dyvit-tiny_shapes'
FINE_TUNING = ('dyvit-tiny_coma_shapes', 'upernet_dyvit-tiny_coma_shapes', 'mask-rcnn_dyvit-tiny_coma_shapes')
FACTS = dict(algorithm='CoMA', backbone='DyViT', arch='tiny', epochs=3, iters=66, mask_ratio=0.6, complement='frozen',
             config='pretraining.py', seed=0, load_from=None, backbone_from=dict(algorithm='MAE', epochs=1))


def build(name, **backbone):
    """The config and the model of a config for CoMA-Shapes."""
    cfg = read_config(str(CONFIGS / f'{name}.py'))
    cfg.model.backbone.update(backbone)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return cfg, model


def save(path, model, **meta):
    torch.save(dict(state_dict=model.state_dict(), meta=meta, optimizer=dict(lr=1)), path)
    return str(path)


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """The checkpoint of a pre-training, as mmengine's runner and `ProvenanceHook` write it."""
    cfg, model = build(PRETRAINING)
    for value in model.evaluation.state_dict().values():
        value.add_(1)  # not what is to be transferred
    return save(tmp_path_factory.mktemp('pretrained') / 'epoch_3.pth', model, epoch=3, iter=66, cfg=cfg.pretty_text,
                coma_mm=FACTS)


@pytest.fixture(scope='module')
def exported(pretrained):
    path = os.path.join(os.path.dirname(pretrained), 'new', 'backbone.safetensors')
    export_backbone(pretrained, path)
    return path


def test_the_file_holds_the_backbone_and_its_origin(pretrained, exported):
    loaded = load_weights_only(pretrained)
    expected = {name[9:]: value for name, value in loaded['state_dict'].items() if name.startswith('backbone.')}
    with safe_open(exported, 'pt') as file:
        assert set(file.keys()) == set(expected)
        assert all(torch.equal(file.get_tensor(name), value) for name, value in expected.items())
        metadata = file.metadata()
    digest = hashlib.sha256(loaded['meta']['cfg'].encode()).hexdigest()
    strings = dict(format='pt', backbone='DyViT', arch='tiny', algorithm='CoMA', epochs='3', iters='66',
                   config='pretraining.py', config_sha256=digest, weights_sha256=weights_sha256(expected))
    assert {key: value for key, value in metadata.items() if key != 'coma_mm'} == strings
    assert load_weights_only(exported)['meta']['coma_mm'] == FACTS
    assert os.listdir(os.path.dirname(exported)) == ['backbone.safetensors']


def test_a_flipped_bit_in_the_file_is_noticed(exported, tmp_path):
    content = bytearray(Path(exported).read_bytes())
    for place in range(len(content) - 1, len(content) // 2, -len(content) // 9):
        content[place] ^= 4
        (tmp_path / 'a.safetensors').write_bytes(content)
        with pytest.raises(UserError, match='a.safetensors is damaged .its check sum differs.'):
            load_weights_only(tmp_path / 'a.safetensors')
        content[place] ^= 4


@pytest.mark.parametrize('name', FINE_TUNING)
def test_checkpoint_and_file_give_all_libraries_the_same_backbone(name, pretrained, exported, monkeypatch, tmp_path):
    weights = load_weights_only(exported)['state_dict']
    for path in (pretrained, exported):
        monkeypatch.setenv('PRETRAINED', path)
        cfg, model = build(name)
        own = model.backbone.state_dict()
        shared = own.keys() & weights.keys()
        assert all(torch.equal(own[key], weights[key]) for key in shared)
        # Pre-training read the last stage alone.
        assert {key.split('.')[0] for key in own.keys() - shared} <= {'norm0', 'norm1', 'norm2'}
        facts = model.backbone.provenance
        assert {key: facts[key] for key in FACTS} == FACTS and facts['checkpoint'] == path
        assert facts['sha256'] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    # And what this library trains can be exported in turn; without our facts, its config says what it is.
    fine_tuned = save(tmp_path / 'iter_9.pth', model, epoch=0, iter=9, cfg=cfg.pretty_text)
    again, metadata = export_backbone(fine_tuned, str(tmp_path / 'again.safetensors'))
    assert again.keys() == own.keys() and all(torch.equal(value, own[key]) for key, value in again.items())
    assert (metadata['backbone'], metadata['arch'], metadata['iters']) == ('DyViT', 'tiny', '9')


@pytest.mark.parametrize('pos_embed', ['sincos', 'learned'])
@pytest.mark.parametrize('name', FINE_TUNING[1:])
def test_other_input_sizes_than_in_pretraining(name, pos_embed, tmp_path, monkeypatch):
    small = DyViT('tiny', pos_embed=pos_embed, img_size=64, out_indices=(0, 1, 2, 3)).eval()
    if pos_embed == 'learned':
        nn.init.normal_(small.pos_embed)
    path = save(tmp_path / 'backbone.pth', small, coma_mm=FACTS)
    monkeypatch.setenv('PRETRAINED', path)
    _, model = build(name, pos_embed=pos_embed, img_size=96)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        for found, expected in zip(model.eval().backbone(images), small(images), strict=True):
            assert torch.equal(found, expected)
        assert model.extract_feat(images)[0].shape[-2:] == (24, 24)


def test_stages_that_pre_training_did_not_read_get_norms_of_their_own(tmp_path):
    last, dense = DyViT('tiny', out_indices=(3, )), DyViT('tiny', out_indices=(0, 1, 2, 3))
    last.init_weights()
    load_backbone(dense, save(tmp_path / 'last.pth', nn.ModuleDict(dict(backbone=last))))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(dense.eval()(images)[3], last.eval()(images)[0])
    load_backbone(last, save(tmp_path / 'dense.pth', nn.ModuleDict(dict(backbone=dense))))  # and the other way round


def test_settings_that_no_tensor_tells_are_compared(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('coma_mm.weights.load.print_log', lambda line, **more: lines.append((line, more.get('level'))))
    source = DyViT('tiny', patch_size=16, pos_scale=.25)
    path = save(tmp_path / 'p16.pth', nn.ModuleDict(dict(backbone=source)), coma_mm=dict(FACTS, settings=source.settings))
    exported = str(tmp_path / 'p16.safetensors')
    export_backbone(path, exported)
    for file in (path, exported):
        lines.clear()
        load_backbone(DyViT('tiny', patch_size=16, pos_scale=.25), file)
        assert [level for _, level in lines if level] == []
        load_backbone(DyViT('tiny', patch_size=16), file)
        assert lines[-1] == (f'the backbone in {file} was trained with pos_scale=0.25, and is loaded into one with '
                             'pos_scale=1.0; set model.backbone.pos_scale=0.25, unless that is meant', logging.WARNING)


def test_another_arch_is_named_beside_this_one(pretrained, exported, tmp_path):
    meta = dict(cfg="model = dict(\n    backbone=dict(arch='tiny', depths=[open('x')], type='DyViT'))\n")
    learned = DyViT('tiny', pos_embed='learned', img_size=64)
    by_text = save(tmp_path / 'by_text.pth', learned, **meta)
    text_exported = str(tmp_path / 'text.safetensors')
    export_backbone(save(tmp_path / 'whole.pth', nn.ModuleDict(dict(backbone=learned)), **meta), text_exported)
    for path in (pretrained, exported, by_text, text_exported):
        target = DyViT('small', pos_embed='sincos' if path in (pretrained, exported) else 'learned', img_size=96)
        with pytest.raises(UserError) as caught:
            load_backbone(target, path)
        line = str(caught.value)
        assert f"{path} (arch 'tiny') does not fit DyViT (arch 'small')" in line and '\n' not in line
    narrower = dict(dims=(32, 64, 128, 192), depths=(1, 1, 3, 1), num_heads=(1, 2, 4, 8))
    with pytest.raises(UserError, match=r"does not fit DyViT \(arch 'custom'\): stages.3"):  # pos_embed was resized
        load_backbone(DyViT(narrower, pos_embed='learned', img_size=96), by_text)
    unknown = save(tmp_path / 'unknown.pth', DyViT('tiny'), cfg='model = dict(')
    with pytest.raises(UserError, match=r"unknown.pth does not fit DyViT \(arch 'small'\): stem.weight has shape \(32, "):
        load_backbone(DyViT('small'), unknown)


def test_what_cannot_be_exported_leaves_nothing(pretrained, exported, tmp_path, monkeypatch):
    def fail(checkpoint, out, expected, force=False):
        with pytest.raises(UserError) as caught:
            export_backbone(checkpoint, str(out), force)
        assert expected in str(caught.value) and '\n' not in str(caught.value)

    out = tmp_path / 'out.safetensors'
    fail(str(tmp_path / 'none.pth'), out, 'no checkpoint at')
    fail(pretrained, tmp_path / 'out.pth', 'expected a name that ends in .safetensors')
    head = save(tmp_path / 'head.pth', nn.ModuleDict(dict(head=nn.Linear(2, 2))))
    fail(head, out, 'head.pth has no backbone')
    fail(exported, out, 'has no backbone')
    fail(pretrained, tmp_path / 'head.pth' / 'out.safetensors', 'cannot write')
    fail(pretrained, exported, 'is there already')

    def break_off(_):
        raise OSError('no space left')

    before = Path(exported).read_bytes()
    monkeypatch.setattr('os.fsync', break_off)
    fail(pretrained, out, 'no space left')
    fail(pretrained, exported, 'no space left', force=True)
    assert Path(exported).read_bytes() == before and os.listdir(os.path.dirname(exported)) == ['backbone.safetensors']
    assert os.listdir(tmp_path) == ['head.pth']


def test_a_file_is_replaced_on_demand(pretrained, tmp_path):
    out = tmp_path / 'out.safetensors'
    out.write_text('another')
    export_backbone(pretrained, str(out), force=True)
    assert load_weights_only(str(out))['meta']['coma_mm'] == FACTS


@pytest.mark.parametrize('meta, expected', [
    ([1], {}), (dict(cfg=5), {}), (dict(cfg=['a']), {}), (dict(cfg=dict(a=1)), {}), (dict(epoch=torch.ones(2)), dict(
        epochs='tensor([1., 1.])')), (dict(epoch='\ud800\n\x1b'), dict(epochs=r'\ud800\n\x1b')),
    (dict(epoch='x' * 10**6), dict(epochs=f'{"x" * 1000} … {"x" * 1000}')),
    (dict(coma_mm=dict(algorithm=torch.ones(1))), dict(algorithm='tensor([1.])')), (dict(coma_mm={(1, 2): 3}), {}),
    (dict(coma_mm=dict(seed='x' * 10**6)), {}), (dict(dataset_meta=[1], cfg='x=1\n' * 2**20), None)])
def test_whatever_a_checkpoint_says_of_itself_it_can_be_exported(tmp_path, meta, expected):
    torch.save(dict(state_dict={'backbone.weight': torch.ones(1)}, meta=meta), tmp_path / 'a.pth')
    _, metadata = export_backbone(str(tmp_path / 'a.pth'), str(tmp_path / 'a.safetensors'))
    known = {key: value for key, value in metadata.items() if key not in ('format', 'weights_sha256')}
    assert known == expected or expected is None and list(known) == ['config_sha256']
    assert all(value.isprintable() for value in metadata.values())
    assert torch.equal(load_weights_only(tmp_path / 'a.safetensors')['state_dict']['weight'], torch.ones(1))
