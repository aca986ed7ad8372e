"""What a checkpoint and a run say of where they come from."""
import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.registry import MODELS
from torch import nn

from coma_mm.datasets import SeededDataset
from coma_mm.engine.hooks.provenance import ProvenanceHook, _command, _complement, masking_facts
from coma_mm.weights import load_weights_only

from ..test_runs import make_cfg, quiet, train  # noqa: F401


def test_a_commands_variables_are_part_of_it(monkeypatch):
    monkeypatch.setenv('IMAGE_ROOT', '/my images')
    monkeypatch.delenv('PRETRAINED', raising=False)
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'a.py'])
    cfg = SimpleNamespace(text="a = '{{$IMAGE_ROOT:data}}/x'\nb = '{{ $PRETRAINED:c }}'\nd = '{{_base_.size}}'")
    assert _command(cfg) == "IMAGE_ROOT='/my images' tools/train.py a.py"


def test_provenance_is_written_with_the_checkpoint_and_the_run(tmp_path):
    runner = train(make_cfg(tmp_path / 'iters', train_cfg=dict(type='IterBasedTrainLoop', max_iters=4),
                            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4))))
    facts = load_weights_only(f'{runner.work_dir}/iter_4.pth')['meta']['coma_mm']
    assert (facts['epochs'], facts['iters']) == (None, 4)

    runner = train(make_cfg(tmp_path, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2)))
    facts = load_weights_only(f'{runner.work_dir}/epoch_2.pth')['meta']['coma_mm']
    assert (facts['algorithm'], facts['backbone'], facts['epochs'], facts['iters']) == ('Toy', 'Linear', 2, 6)
    assert facts['seed'] == 3 and facts['images_per_update'] == 2 and facts['backbone_from'] is None
    with open(f'{runner.work_dir}/provenance.json') as file:
        written = json.load(file)
    assert written.items() >= dict(facts, epochs=0, iters=0).items()
    assert (written['world_size'], written['device']) == (1, 'CPU') and written['versions']['torch'] == torch.__version__
    assert written['command'] and 'command' not in facts
    assert (facts['max_epochs'], facts['images']) == (2, 6)
    # The next run's backbone carries them on.
    runner.model.backbone.provenance = dict(algorithm='CoMA', sha256='0' * 64)
    assert ProvenanceHook.facts(runner, 2, 6)['backbone_from'] == runner.model.backbone.provenance


def test_the_masking_is_found_in_the_pipeline_or_the_model():
    plain = nn.Linear(1, 1)

    def masking(data=None, model=plain):
        facts = masking_facts(model, data)
        return facts['mask_ratio'], facts['mask_sampler']

    def data_set(*pipeline):
        dataset = BaseDataset(pipeline=[dict(type='LoadImage'), *pipeline], lazy_init=True)
        return SeededDataset(ConcatDataset([dataset, dataset], lazy_init=True))

    assert masking(data_set(dict(type='PatchMask'))) == (0.6, 'UniformMaskSampler')
    sampler = dict(type='mmengine.BlockMaskSampler', ratio=0.75)
    mask = dict(type='PatchMask', sampler=sampler)
    assert masking(data_set(mask)) == (0.75, 'BlockMaskSampler')
    assert masking(data_set(dict(type='RandomApply', transforms=[mask]))) == (0.75, 'BlockMaskSampler')
    mae = nn.ModuleDict(dict(backbone=nn.Identity()))
    mae.backbone.mask_ratio = 0.7
    assert masking(data_set(), mae) == (0.7, None) and masking(data_set(mask), mae) == (0.75, 'BlockMaskSampler')
    assert masking(data_set()) == masking() == (None, None)


@pytest.mark.parametrize(('pair', 'expected'), [('complementary', 'full'), ('independent', 'independent')])
def test_a_second_mask_that_is_no_complement_is_told_apart(pair, expected):
    model = nn.Identity()
    model.complement = 'full'
    data = BaseDataset(pipeline=[dict(type='PatchMask', pair=pair)], lazy_init=True)
    assert _complement(model, data) == expected and _complement(model, None) == 'full'


def test_the_decoder_is_that_of_the_built_model():
    def decoding(kind, **parts):
        with torch.device('meta'):
            facts = masking_facts(MODELS.build(dict(parts, type=kind)))
        return facts['decoder'], facts['decoder_depth']

    backbone = dict(type='mmpretrain.DyViT', arch='tiny', out_indices=(0, 1, 2, 3), out_type='raw')
    neck = dict(type='mmpretrain.MultiScaleFusion', in_channels=(32, 64, 128, 256))
    head = dict(type='mmpretrain.PixelHead', patch_size=32)
    for kind, options, depth in (('ViTDecoder', {}, 8), ('ConvNeXtDecoder', dict(depth=3), 3)):
        decoder = dict(options, type=f'mmpretrain.{kind}', in_channels=256, patch_size=32)
        assert decoding('mmpretrain.CoMA', backbone=backbone, neck=neck, decoder=decoder, head=head) == (kind, depth)
    assert decoding('mmpretrain.MAE', backbone=dict(type='mmpretrain.MAEViT', arch='b', patch_size=16), neck=dict(
        type='mmpretrain.MAEPretrainDecoder', decoder_depth=2), head=None) == ('MAEPretrainDecoder', 2)
    assert decoding('mmpretrain.ImageClassifier', backbone=backbone) == (None, None)
