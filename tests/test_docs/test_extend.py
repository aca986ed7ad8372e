"""The examples of docs/extend.md are run as they stand there."""
import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from coma_mm.config.read import read_config
from coma_mm.datasets import PatchMask
from tests.helpers.suites import MaskedEncoderSuite, MaskSamplerSuite

PAGE = Path(__file__).resolve().parents[2] / 'docs/extend.md'


@pytest.fixture(scope='module')
def examples(tmp_path_factory):
    """The page's files, written to a folder; its modules by name, imported as a config's custom_imports would do it."""
    folder = tmp_path_factory.mktemp('examples')
    blocks = re.findall(r'^```python\n# file: (\S+)\n(.*?)^```$', PAGE.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)
    for name, text in blocks:
        (folder / name).write_text(text, encoding='utf-8')
    sys.path.insert(0, str(folder))
    modules = {name[:-3]: importlib.import_module(name[:-3]) for name, _ in blocks if name.startswith('my_')}
    yield SimpleNamespace(folder=folder, names=[name for name, _ in blocks], **modules)
    sys.path.remove(str(folder))


def tiny_model(examples, config, **options):
    """What an example's config trains, with few channels."""
    torch.manual_seed(0)
    cfg = read_config(str(examples.folder / config), options)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    return model, cfg


def train_step(model, pipeline_step):
    """The loss of a training step on noise, masked by the config's own PatchMask; its gradients are in the model."""
    images = torch.randn(2, 3, 64, 96)
    masks = [pipeline_step(dict(img=np.zeros((64, 96, 3), np.uint8))) for _ in images]
    keep, rest = (torch.from_numpy(np.stack([mask[key] for mask in masks])) for key in ('ids_keep', 'ids_rest'))
    loss = model(images, keep, rest, mode='loss')['loss']
    loss.backward()
    return loss


def patch_mask(cfg):
    """The step of a config's training pipeline that draws the masks."""
    settings = next(step for step in cfg.train_dataloader.dataset.pipeline if step['type'] == 'PatchMask')
    return PatchMask(**{key: value for key, value in settings.items() if key != 'type'})


def test_each_example_has_a_module_and_a_config(examples):
    assert sorted(examples.names) == ['coma_conv-decoder.py', 'coma_disc.py', 'coma_plain.py', 'my_backbone.py',
                                      'my_decoder.py', 'my_mask.py']


class TestTheMask(MaskSamplerSuite):

    @pytest.fixture(autouse=True)
    def sampler(self, examples):
        self.build = examples.my_mask.DiscMaskSampler

    def test_uniform_over_patches(self):
        """They are not: a disc covers the centre more often than a corner. But every patch is masked now and then."""
        rng, sampler = np.random.default_rng(0), self.build()
        counts = np.zeros(49)
        for _ in range(500):
            counts[sampler((7, 7), rng)[1]] += 1
        assert counts[24] > counts[0] > 0

    def test_its_patches_lie_around_a_point(self):
        """Any patch outside is at least as far from it as any patch inside, give or take two patches."""
        for seed in range(20):
            _, masked = self.build(0.3)((9, 9), np.random.default_rng(seed))
            point = np.random.default_rng(seed).uniform(0, (9, 9))
            distance = np.hypot(*(np.indices((9, 9)) + 0.5 - point[:, None, None])).ravel()
            assert distance[masked].max() < np.delete(distance, masked).min() + 2

    def test_the_config_masks_with_it(self, examples):
        cfg = read_config(str(examples.folder / 'coma_disc.py'))
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            assert [step.sampler.type for step in loader.dataset.pipeline if step.type == 'PatchMask'] == ['DiscMaskSampler']
        masks = patch_mask(cfg)(dict(img=np.zeros((224, 224, 3), np.uint8)))
        assert (len(masks['ids_keep']), len(masks['ids_rest'])) == (20, 29)


def test_the_decoder_learns(examples):
    model, cfg = tiny_model(examples, 'coma_conv-decoder.py', **{
        'model.backbone.arch': 'tiny', 'model.decoder.embed_dims': 16, 'model.decoder.depth': 2})
    loss = train_step(model, patch_mask(cfg))
    assert type(model.decoder) is examples.my_decoder.ConvDecoder and loss.isfinite()
    gradients = [parameter.grad for parameter in model.decoder.parameters()]
    assert len(gradients) == 11 and all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def test_the_decoder_lets_patches_exchange_what_they_know(examples):
    decoder = examples.my_decoder.ConvDecoder(in_channels=8, embed_dims=16, depth=2).eval()
    tokens = torch.randn(1, 2, 8, requires_grad=True)
    pixels = decoder(tokens, torch.tensor([[0, 5]]), (2, 3), torch.tensor([[1]]))
    assert pixels.shape == (1, 1, 32 * 32 * 3)
    pixels.square().sum().backward()
    assert tokens.grad.any(-1).all()  # a patch that nobody saw is predicted from both that were seen


class TestTheBackbone(MaskedEncoderSuite):

    @pytest.fixture(autouse=True)
    def backbone(self, examples):
        self.kind = examples.my_backbone.PlainEncoder

    def build(self):
        backbone = self.kind(dims=16, depth=2, num_heads=2).double()
        backbone.eval()
        return backbone

    def test_without_indices_it_returns_a_map_for_dense_tasks(self):
        backbone = self.build()
        images = self.images(backbone)
        feature_map, = backbone(images)
        tokens, = backbone(images, torch.arange(6).expand(2, -1))
        assert feature_map.shape == (2, 16, 2, 3)
        torch.testing.assert_close(feature_map.flatten(2).mT, tokens)

    def test_it_learns(self, examples):
        model, cfg = tiny_model(examples, 'coma_plain.py', **{
            'model.backbone.dims': 16, 'model.backbone.depth': 2, 'model.backbone.num_heads': 2,
            'model.decoder.embed_dims': 16, 'model.decoder.depth': 1, 'model.decoder.num_heads': 2})
        loss = train_step(model, patch_mask(cfg))
        assert type(model.backbone) is self.kind and loss.isfinite()
        gradients = [parameter.grad for parameter in model.backbone.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)

    def test_pre_trained_weights_must_all_be_there(self, tmp_path):
        path = str(tmp_path / 'weights.pth')
        backbone = self.build()
        torch.save(backbone.state_dict(), path)
        settings = dict(dims=16, depth=2, num_heads=2, init_cfg=dict(type='Pretrained', checkpoint=path))
        loaded = self.kind(**settings)
        loaded.init_weights()
        assert torch.equal(loaded.norm.weight.double(), backbone.norm.weight) and loaded.provenance['checkpoint'] == path
        with pytest.raises(Exception, match='lacks .* tensors of PlainEncoder'):
            self.kind(**settings | dict(depth=3)).init_weights()
