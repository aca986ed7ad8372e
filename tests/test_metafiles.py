"""What the metafiles say of our configs is true, and mmpretrain knows these by name."""
import re

import mmpretrain
import pytest
import torch
from mmengine.fileio import load
from mmengine.registry import MODELS, DefaultScope

from coma_mm.benchmark.counting.counting import measure
from coma_mm.files import MIM
from coma_mm.models import DyViT, MaskedVisionTransformer

from .test_configs import NAMES, read

FILES = [load(str(MIM / file)) for file in load(str(MIM / 'model-index.yml'))['Import']]
ENTRIES = {model['Name']: model for file in FILES for model in file['Models']}
BACKBONES = {
    'dyvit-small': (DyViT, dict(arch='small')), 'dyvit-base': (DyViT, dict(arch='base')),
    'dyvit-base-p16': (DyViT, dict(arch='base', patch_size=16)),
    'vit-base-p16': (MaskedVisionTransformer, dict(arch='base', patch_size=16)),
}


def test_every_config_of_the_paper_has_an_entry():
    # Those of ViT-B by MAE are mmpretrain's own models, under mmpretrain's names.
    expected = {name for name in NAMES if not name.startswith(('shapes/', 'small/', 'mae/mae_vit-'))}
    assert {f'configs/{name}' for name in expected} == {entry['Config'] for entry in ENTRIES.values()}
    assert all(entry['Config'].endswith(f'/{name}.py') for name, entry in ENTRIES.items())
    collections = {collection['Name'] for file in FILES for collection in file.get('Collections', ())}
    assert collections == {entry['In Collection'] for entry in ENTRIES.values()}


@pytest.mark.parametrize('name', ENTRIES)
def test_parameters_are_those_of_the_model(name):
    cfg = read(ENTRIES[name]['Config'].removeprefix('configs/'))
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        parameters = MODELS.build(cfg.model).named_parameters()
    expected = sum(value.numel() for key, value in parameters if not key.startswith('evaluation.'))
    assert ENTRIES[name]['Metadata']['Parameters'] == expected


def test_operations_are_those_of_the_backbone_on_224_px():
    counted = {}
    for name, entry in ENTRIES.items():
        arch = re.search(r'(?:dy)?vit-[a-z]+(?:-p16)?', name)[0]
        if arch not in counted:
            kind, settings = BACKBONES[arch]
            counts = measure(kind(**settings), 1, 224, None, forward=lambda model, images, _: model(images))
            counted[arch] = counts['macs_attention']
        if entry['Config'].split('/')[1] not in ('segmentation', 'detection'):  # of images of other sizes
            assert entry['Metadata']['FLOPs'] == counted[arch]


def test_mmpretrain_knows_our_models():
    assert set(mmpretrain.list_models('*dyvit*')) == {name for name in ENTRIES if 'dyvit' in name}
    for name in ('dyvit-small_8xb128-coslr-100e_in1k', 'mask-rcnn_dyvit-small_fpn_8xb8-lsj-100e_coco-768px'):
        with torch.device('meta'):
            model = mmpretrain.get_model(name)
        assert isinstance(model.backbone, DyViT)
        assert sum(value.numel() for value in model.parameters()) == ENTRIES[name]['Metadata']['Parameters']
