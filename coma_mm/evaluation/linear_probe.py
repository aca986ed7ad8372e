"""Linear classifiers on frozen features, without augmentation: a quick look, not the paper's linear probing."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from coma_mm.errors import UserError
from coma_mm.progress import track
from coma_mm.ranges import SEED, above, number, whole

from .features import Features, Probe, accuracies, ranks

L2_GRID = tuple(10.**-i for i in range(7))
"""Penalties to choose from, strongest first."""


def fit_linear_probe(probed: Probe, solver: str = 'lbfgs', l2: float | None = None, epochs: int = 100, lr: float = 0.01,
                     seed: int = 0) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Fit a linear classifier to frozen features, and see how well it does.

    Args:
        probed (Probe): The features; they are standardised in place.
        solver (str): 'lbfgs' or 'sgd'. Defaults to 'lbfgs'.
        l2 (float, optional): The penalty of 'lbfgs'. Defaults to the best of `L2_GRID` on a tenth that is held out.
        epochs (int): Passes over the features, for 'sgd'. Defaults to 100.
        lr (float): The first learning rate, for 'sgd'. Defaults to 0.01.
        seed (int): Of the tenth, or of the order of the images. Defaults to 0.

    Returns:
        tuple[dict, dict]: What `accuracies` gives, in per cent, of the splits 'train' and 'test'; and how they were found.

    Raises:
        UserError: If a number is outside its range, there are too few images to choose the penalty by, or the classifier
            diverged.
    """
    for what, value, values in (('l2', l2, number(0, also=((None, 'the best'), ))), ('epochs', epochs, whole(1)),
                                ('lr', lr, above(0)), ('seed', seed, SEED)):
        values.check(f'fit_linear_probe: {what}', value)
    standardise(probed.train, probed.test)
    if solver == 'sgd':
        how = dict(epochs=epochs, lr=lr)
        head = fit_sgd(probed.train, probed.num_classes, epochs, lr, seed=seed)
    else:
        how = dict(l2=l2)
        if l2 is None:
            how['l2'], how['held_out_top1'] = choose_l2(probed.train, probed.num_classes, seed=seed)
        head = fit_lbfgs(probed.train, probed.num_classes, how['l2'])
        how['gradient'] = gradient(head, probed.train, how['l2'])
    if not all(parameter.isfinite().all() for parameter in head.parameters()):
        raise UserError(f'the linear classifier diverged ({solver}, '
                        f'{", ".join(f"{key}={how[key]:g}" for key in ("lr", "l2") if key in how)}); take '
                        + ('a smaller --lr' if solver == 'sgd' else 'a larger --l2'))
    return {split: linear_accuracy(head, getattr(probed, split)) for split in ('train', 'test')}, how


def check_count(images: int) -> None:
    """Look, before anything is computed, whether the penalty can be chosen.

    Raises:
        UserError: If there are fewer than ten train images.
    """
    if images < 10:
        raise UserError(f'{images} train images are too few to hold a tenth out; give the penalty by --l2')


def standardise(train: Features, test: Features) -> None:
    """Give each channel mean 0 and variance 1 on the train features, in place.

    It is what batch normalisation without an affine map does before MAE's linear classifier (He et al. 2022,
    Appendix A.1).

    Args:
        train (Features): Determines mean and variance.
        test (Features): Is changed in the same way.
    """
    variance, mean = torch.var_mean(train.values, 0, correction=0)
    for features in (train, test):
        features.values.sub_(mean).div_((variance + 1e-6).sqrt())


def gradient(head: nn.Linear, features: Features, l2: float) -> float:
    """float: The largest entry of `objective`'s gradient, 0 at the optimum."""
    head.zero_grad()
    objective(head, features, l2)
    return max(parameter.grad.abs().max().item() for parameter in head.parameters())


def objective(head: nn.Linear, features: Features, l2: float, chunk: int = 65536) -> torch.Tensor:
    """The mean cross-entropy plus l2 / 2 times the squared weights (not the biases); its gradient is added to the head.

    Args:
        head (nn.Linear): The classifier.
        features (Features): Of n images.
        l2 (float): The penalty.
        chunk (int): Images whose logits are in memory at a time. Defaults to 65536.

    Returns:
        Tensor: The value, a scalar.
    """
    total = l2 / 2 * head.weight.square().sum()
    total.backward()
    total = total.detach()
    for values, labels in zip(features.values.split(chunk), features.labels.split(chunk), strict=True):
        loss = F.cross_entropy(head(values), labels, reduction='sum') / len(features.labels)
        loss.backward()
        total += loss.detach()
    return total


def fit_lbfgs(features: Features, num_classes: int, l2: float, start: nn.Linear | None = None,
              tolerance: float = 1e-5) -> nn.Linear:
    """Minimise `objective` over the whole data set by L-BFGS with a strong Wolfe line search, in 500 iterations at most.

    Args:
        features (Features): Standardised.
        num_classes (int): The number of classes.
        l2 (float): The penalty.
        start (nn.Linear, optional): Where to start, and what is changed. Defaults to zeros.
        tolerance (float): Ends when no entry of the gradient is larger. Defaults to 1e-5.

    Returns:
        nn.Linear: The classifier.
    """
    head = start or _zeros(features, num_classes)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=500, max_eval=1000, tolerance_grad=tolerance,
                                  tolerance_change=tolerance**2, history_size=20, line_search_fn='strong_wolfe')

    def closure():
        optimiser.zero_grad()
        return objective(head, features, l2)

    optimiser.step(closure)
    return head


def choose_l2(features: Features, num_classes: int, seed: int = 0) -> tuple[float, dict[float, float]]:
    """Choose the penalty by the accuracy on a tenth of the features that is held out, as in CLIP (Radford et al. 2021).

    Each fit of `L2_GRID` starts where the one before ended.

    Args:
        features (Features): Of the train split.
        num_classes (int): The number of classes.
        seed (int): Of the choice of the tenth. Defaults to 0.

    Returns:
        tuple[float, dict[float, float]]: The best, of equal ones the strongest; the accuracy in per cent of each.

    Raises:
        UserError: If there are fewer than ten images.
    """
    n = len(features.labels)
    check_count(n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(features.labels.device)
    held_out, rest = (Features(features.values[part], features.labels[part]) for part in (order[:n // 10], order[n // 10:]))
    head, found = None, {}
    for l2 in track(L2_GRID, 'Choosing the penalty'):
        head = fit_lbfgs(rest, num_classes, l2, head)
        found[l2] = linear_accuracy(head, held_out)['top1']
    return max(found, key=found.get), found


def fit_sgd(features: Features, num_classes: int, epochs: int = 100, lr: float = 0.01, batch_size: int = 1024,
            seed: int = 0) -> nn.Linear:
    """Minimise the cross-entropy by SGD (momentum 0.9, cosine decay of the learning rate, no weight decay).

    Args:
        features (Features): Standardised.
        num_classes (int): The number of classes.
        epochs (int): Passes over the features. Defaults to 100.
        lr (float): The first learning rate. Defaults to 0.01.
        batch_size (int): Defaults to 1024.
        seed (int): Of the order of the images. Defaults to 0.

    Returns:
        nn.Linear: The classifier.
    """
    head, n = _zeros(features, num_classes), len(features.labels)
    optimiser = torch.optim.SGD(head.parameters(), lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * -(-n // batch_size))
    generator = torch.Generator().manual_seed(seed)
    for _ in track(range(epochs), 'SGD'):
        for batch in torch.randperm(n, generator=generator).to(features.labels.device).split(batch_size):
            optimiser.zero_grad()
            F.cross_entropy(head(features.values[batch]), features.labels[batch]).backward()
            optimiser.step()
            schedule.step()
    return head


@torch.no_grad()
def linear_accuracy(head: nn.Linear, features: Features, chunk: int = 65536) -> dict[str, float]:
    """Accuracy of a linear classifier.

    Args:
        head (nn.Linear): The classifier.
        features (Features): Of the images to classify.
        chunk (int): Images whose logits are in memory at a time. Defaults to 65536.

    Returns:
        dict[str, float]: What `accuracies` gives, in per cent.
    """
    parts = zip(features.values.split(chunk), features.labels.split(chunk), strict=True)
    return accuracies(torch.cat([ranks(head(values), labels) for values, labels in parts]), features.labels)


def _zeros(features: Features, num_classes: int) -> nn.Linear:
    """nn.Linear: Of the features' type, on their device."""
    head = nn.Linear(features.values.shape[1], num_classes).to(features.values)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head
