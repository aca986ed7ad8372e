from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS

from ..test_models.helpers import randomise, small_batch, small_coma


def start(model, iteration):
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), 0.1)
    runner = SimpleNamespace(model=model, iter=iteration, optim_wrapper=SimpleNamespace(optimizer=optimizer))
    HOOKS.build(dict(type='EvaluationModelHook')).before_train(runner)
    return optimizer


def equal(model):
    theirs = model.evaluation['backbone'].state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in model.backbone.state_dict().items())


def test_a_new_run_starts_equal():
    """Also one that has loaded weights into the adaptive model alone."""
    model = small_coma()
    randomise(model.backbone, seed=9)
    start(model, 0)
    assert equal(model)


def test_a_resumed_run_keeps_the_lag():
    model = small_coma()
    randomise(model.evaluation, seed=9)
    lagged = {name: value.clone() for name, value in model.evaluation.state_dict().items()}
    start(model, 7)
    assert all(torch.equal(value, lagged[name]) for name, value in model.evaluation.state_dict().items())


@pytest.mark.parametrize('complement', ['frozen', 'decoder', 'full', 'none'])
def test_follows_the_optimizer(complement):
    model = small_coma(complement)
    optimizer = start(model, 0)
    for step in range(2):
        before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
        optimizer.zero_grad()
        model(**small_batch(seed=step), mode='loss')['loss'].backward()
        optimizer.step()
    assert not torch.equal(model.backbone.stem.weight, before['stem.weight'])
    if model.evaluation:
        assert torch.equal(model.evaluation['backbone'].stem.weight, before['stem.weight'])
