"""The linear probe's solutions against conditions of an optimum, SciPy, and data with a known answer."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from coma_mm.errors import UserError
from coma_mm.evaluation.features import Features
from coma_mm.evaluation.linear_probe import (
    choose_l2,
    fit_lbfgs,
    fit_linear_probe,
    fit_sgd,
    gradient,
    linear_accuracy,
    objective,
    standardise,
)


def clusters(n=300, channels=6, num_classes=4, spread=0.3, dtype=torch.float32):
    """Points around one centre for each class."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(num_classes, channels, generator=generator)
    labels = torch.arange(n) % num_classes
    noise = spread * torch.randn(n, channels, generator=generator)
    return Features((centres[labels] + noise).to(dtype), labels)


def test_channels_are_standardised_by_the_train_split():
    train, test = clusters(), clusters(50)
    train.values[:, 2], test.values[:, 2] = 5, 6  # without variance
    x, y = train.values.double().numpy().copy(), test.values.double().numpy().copy()
    standardise(train, test)
    for found, source in ((train, x), (test, y)):
        np.testing.assert_allclose(found.values, (source - x.mean(0)) / np.sqrt(x.var(0) + 1e-6), rtol=1e-4, atol=1e-4)


def test_objective_is_the_penalised_cross_entropy_in_any_chunks():
    features = clusters(23, dtype=torch.float64)
    head = torch.nn.Linear(6, 4).double()
    x, w, b = features.values.numpy(), head.weight.detach().numpy(), head.bias.detach().numpy()
    expected = -np.mean(log_softmax(x @ w.T + b, axis=1)[np.arange(23), features.labels]) + 0.1 / 2 * (w**2).sum()
    gradients = []
    for chunk in (1, 5, 23, 100):
        head.zero_grad()
        assert objective(head, features, 0.1, chunk).item() == pytest.approx(expected)
        gradients.append(torch.cat([head.weight.grad.flatten(), head.bias.grad]))
        torch.testing.assert_close(gradients[-1], gradients[0])


@pytest.mark.parametrize('l2', [0.1, 1e-3])
def test_lbfgs_finds_scipys_optimum(l2):
    features = clusters(60, spread=1., dtype=torch.float64)
    x, labels = features.values.numpy(), features.labels.numpy()

    def loss(parameters):
        w, b = parameters[:24].reshape(4, 6), parameters[24:]
        return -np.mean(log_softmax(x @ w.T + b, axis=1)[np.arange(60), labels]) + l2 / 2 * (w**2).sum()

    expected = minimize(loss, np.zeros(28), tol=1e-12)
    head = fit_lbfgs(features, 4, l2, tolerance=1e-9)
    assert loss(np.concatenate([head.weight.detach().numpy().ravel(), head.bias.detach()])) <= expected.fun + 1e-12
    np.testing.assert_allclose(head.weight.detach().numpy().ravel(), expected.x[:24], atol=1e-4)
    assert gradient(head, features, l2) < 1e-8


def test_separable_classes_are_found():
    train, test = clusters(spread=0.1), clusters(40, spread=0.1)
    standardise(train, test)
    l2, held_out = choose_l2(train, 4)
    assert max(held_out.values()) == 100 and held_out[l2] == 100
    assert l2 == max(value for value, top1 in held_out.items() if top1 == 100)
    for head in (fit_lbfgs(train, 4, l2), fit_sgd(train, 4, epochs=30, batch_size=32)):
        assert linear_accuracy(head, train)['top1'] == linear_accuracy(head, test, chunk=7)['top1'] == 100


def test_the_penalty_is_chosen_by_what_is_held_out():
    noise = Features(torch.randn(60, 80), torch.arange(60) % 4)  # which a weak penalty learns by heart
    _, held_out = choose_l2(noise, 4)
    assert linear_accuracy(fit_lbfgs(noise, 4, 1e-6), noise)['top1'] == 100 > held_out[1e-6]


def test_sgd_nears_the_unpenalised_optimum_and_depends_on_its_seed():
    features = clusters(200, spread=2.)
    best = objective(fit_lbfgs(features, 4, 0.), features, 0.).item()
    heads = [fit_sgd(features, 4, epochs=60, lr=0.05, batch_size=32, seed=seed) for seed in (0, 0, 1)]
    assert best <= objective(heads[0], features, 0.).item() < best + 0.01
    assert torch.equal(heads[0].weight, heads[1].weight) and not torch.equal(heads[0].weight, heads[2].weight)


@pytest.mark.parametrize(('options', 'words'), [
    (dict(lr=float('nan')), 'fit_linear_probe: lr=nan: expected a number above 0'),
    (dict(epochs=0), 'fit_linear_probe: epochs=0: expected a whole number, 1 or more'),
    (dict(l2=-1.), 'fit_linear_probe: l2=-1.0: expected a number, 0 or more'),
    (dict(solver='sgd', epochs=5, lr=1e38), r'the linear classifier diverged \(sgd, lr=1e\+38\); take a smaller --lr')])
def test_a_classifier_that_cannot_be_right_has_no_accuracy(options, words):
    data = clusters(40), clusters(20)
    with pytest.raises(UserError, match=words):
        fit_linear_probe(SimpleNamespace(train=data[0], test=data[1], num_classes=4), **options)


def test_too_little_to_hold_out_gives_one_line():
    with pytest.raises(UserError, match='9 train images are too few'):
        choose_l2(clusters(9), 4)
