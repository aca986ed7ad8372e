"""A tiny comparison of classifiers on noise: rates are chosen by the validation split alone."""
import json
from dataclasses import replace

import pytest
import torch

from coma_mm.benchmark.complement import study as complement
from coma_mm.benchmark.complement.images import Pack
from coma_mm.benchmark.small_scale import page, supervised
from coma_mm.benchmark.small_scale.images import NONE, Data
from coma_mm.benchmark.small_scale.supervised import MODELS_COMPARED, SCALE, SupervisedStudy, classifier

RATES = (1e-4, 1e-3)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A function that makes a study of two models, two rates and two seeds."""
    images = torch.randint(0, 256, (20, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    probes = Pack(images, torch.arange(20) % 5, NONE, torch.arange(8), torch.arange(15, 20), 'noise')
    monkeypatch.setattr(supervised, 'scenes', lambda folder, size: Data(probes, probes, probes))
    monkeypatch.setattr(complement.Trainer, 'save', lambda self, path: None)  # which waits for the disk
    monkeypatch.setattr(complement, 'environment', lambda: dict(Processor='one'))
    monkeypatch.setattr(complement, 'commit', lambda: 'c0ffee')
    return lambda: SupervisedStudy(tmp_path, tmp_path / 'facts.json', ('resnet', 'dyvit-plain'), (0, 1), RATES,
                                   replace(SCALE, updates=2, batch=4, fractions=(1., )))


def test_rates_are_chosen_by_the_validation_split_and_told_on_the_test_split(tiny, tmp_path, monkeypatch):
    # Validation prefers the higher rate, and the test split the lower one.
    monkeypatch.setattr(SupervisedStudy, 'measure', lambda self, trainer: dict(
        val=10. + 1000 * trainer.scale.lr, test=60. + trainer.seed - 10000 * trainer.scale.lr))
    assert tiny().run()
    facts = json.loads((tmp_path / 'facts.json').read_text())['scratch']
    assert facts['chosen'] == {'resnet': 1e-3, 'dyvit-plain': 1e-3}
    assert set(facts['runs']) == {*(f'{model}@{rate:g}-0-x1' for model in ('resnet', 'dyvit-plain') for rate in RATES),
                                  'resnet@0.001-1-x1', 'dyvit-plain@0.001-1-x1'}
    target = tmp_path / 'page.md'
    target.write_text('<!-- small-study:results -->\n<!-- /small-study -->\n')
    page.write_page(tmp_path / 'facts.json', target)
    assert 'ResNet-18, 24 to 192 channels | 1.58 | 10.1 | 11.0 | 0.001 | 2 | **50.5 ± 0.7** |' in target.read_text()


def test_the_test_images_are_neither_trained_on_nor_those_that_choose(tiny):
    study = tiny()
    job = next(study.phases({}))[0]
    trainer = study.trainer(job)
    probes = study.scenes.probes
    assert torch.equal(trainer.images, probes.images[:8]) and trainer.scale.lr == 1e-4
    before = trainer.digest()
    trainer.update()
    found = study.measure(trainer)
    assert trainer.digest() != before and trainer.model.training
    trainer.model.eval()
    scores = trainer.model(supervised.normalised(probes.images.float())).argmax(1) == probes.labels
    for split, ids in (('test', slice(8, 15)), ('val', slice(15, 20))):
        assert found[split] == pytest.approx(100 * scores[ids].float().mean().item())


def test_the_models_are_of_equal_size():
    sizes = [sum(p.numel() for p in classifier(model, 0).parameters()) / 1e6 for model in MODELS_COMPARED]
    assert sizes == pytest.approx([1.57] * 5, rel=.06)
