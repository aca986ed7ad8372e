"""The paper's ablations, and ours, as options on the command line: what is written there arrives in what is built."""
import argparse

import pytest
import torch
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope

from coma_mm.commands.arguments import add_run_arguments
from coma_mm.config import read as config_module
from coma_mm.config.read import parse_options, read_config

from ..test_configs import ROOT

COMA = 'coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k.py'
CONVNEXT = 'ablations/coma_dyvit-base_convnext-decoder_8xb512-amp-coslr-300e_in1k.py'


def parse(line):
    """dict: What the tools make of options, as a shell hands them on."""
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    return parse_options(parser.parse_args(['--cfg-options', *line.split()]).cfg_options)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(config_module, 'say', lines.append)
    return lines


@pytest.fixture
def model(said):
    """Callable: From options, and a config, to the model without values."""
    def build(line, name=COMA):
        with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
            return MODELS.build(read_config(str(ROOT / name), parse(line)).model)

    yield build
    assert said == []  # no doubt about any key


@pytest.fixture
def samplers(said):
    """Callable: From options to the mask samplers of the training and the validation pipeline."""
    def build(line):
        cfg = read_config(str(ROOT / COMA), parse(line))
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return [TRANSFORMS.build(step).sampler for split in ('train', 'val', 'test')
                    for step in cfg[f'{split}_dataloader'].dataset.pipeline if step.type == 'PatchMask']

    yield build
    assert said == []


@pytest.mark.parametrize('ratio', [0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9])
def test_mask_ratio(samplers, ratio):
    found = samplers(f'mask_sampler.ratio={ratio}')
    assert [(type(sampler).__name__, sampler.ratio) for sampler in found] == [('UniformMaskSampler', ratio)] * 3
    assert found[0].num_keep((7, 7)) == round(49 * (1 - ratio))


@pytest.mark.parametrize('color', ['green', 'blue', 'purple', 'red'])
def test_colour_noise(samplers, color):
    found = samplers(f'mask_sampler.type=ColorNoiseMaskSampler mask_sampler.color={color}')
    assert [(type(sampler).__name__, sampler.color, sampler.ratio) for sampler in found] == [
        ('ColorNoiseMaskSampler', color, 0.6)] * 3


def test_blocks(samplers):
    found = samplers('mask_sampler.type=BlockMaskSampler mask_sampler.ratio=0.5')
    assert [(type(sampler).__name__, sampler.ratio) for sampler in found] == [('BlockMaskSampler', 0.5)] * 3


@pytest.mark.parametrize('depth', [1, 2, 4, 6, 8, 10, 12])
@pytest.mark.parametrize(('name', 'block'), [(COMA, 'TransformerEncoderLayer'), (CONVNEXT, 'ConvNeXtBlock')])
def test_depth_of_the_decoder(model, name, block, depth):
    built = model(f'model.decoder.depth={depth}', name)
    for decoder in (built.decoder, built.evaluation['decoder']):
        assert [type(module).__name__ for module in decoder.blocks] == [block] * depth


@pytest.mark.parametrize(('windows', 'expected'), [
    ('default', ((8, 4), (4, ), (), ())),
    ('fine', ((8, 4, 2), (4, 2), (), ())),
    ('eq8', ((8, 4, 2, 1), (4, 2, 1), (), ())),
    ('plain', ((), (), (), ())),
    ('[[8],[4],[],[]]', ((8, ), (4, ), (), ())),
])
def test_windows(model, windows, expected):
    built = model(f'model.backbone.windows={windows}')
    for backbone in (built.backbone, built.evaluation['backbone']):
        for (_, *blocks), sides in zip(backbone.stages, expected, strict=True):
            assert {block.attn.windows for block in blocks} == {sides}
            assert all([conv.area for conv in block.attn.convs] == [side**2 for side in sides] for block in blocks)


def test_fusion_in_parallel(model):
    convs = model('model.neck.mode=parallel').neck.convs
    assert [conv.in_features for conv in convs] == [64 * 112, 16 * 224, 4 * 448]
    assert [conv.out_features for conv in convs] == [896] * 3


def test_raw_pixels(model):
    assert model('model.head.norm_pix=True').head.norm_pix is True
    assert model('model.head.norm_pix=False').head.norm_pix is False


def test_moving_average(model):
    assert model('model.momentum=0.996').momentum == 0.996


@pytest.mark.parametrize(('complement', 'copies'), [
    ('none', []), ('frozen', ['backbone', 'neck', 'decoder']), ('decoder', ['backbone']), ('full', []),
    ('latent', ['backbone'])])
def test_complement(model, complement, copies):
    built = model(f'model.complement={complement}')
    assert built.complement == complement and list(built.evaluation) == copies


def test_interval_of_evaluation(said):
    hook, = read_config(str(ROOT / COMA), parse('custom_hooks.0.interval=4')).custom_hooks
    assert HOOKS.build(hook).interval == 4 and type(HOOKS.build(hook)).__name__ == 'EvaluationModelHook'
    assert said == []
