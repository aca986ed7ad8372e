"""Weighted k-nearest-neighbour classification of frozen features (Wu et al. 2018, as in DINO, Caron et al. 2021)."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from coma_mm.errors import UserError
from coma_mm.progress import track

from .features import Features, accuracies, ranks

KS = (10, 20, 100, 200)
"""Numbers of neighbours, as in DINO."""


def usual_ks(images: int) -> list[int]:
    """Those of `KS` that there are train images for, or else the number of the images."""
    return [k for k in KS if k <= images] or [images]


def check_settings(ks: Sequence[int], temperature: float, images: int) -> None:
    """Look at the settings before anything is computed.

    Args:
        ks (Sequence[int]): Numbers of neighbours.
        temperature (float): Of the votes.
        images (int): The number of train images.

    Raises:
        UserError: If a k or the temperature is not positive, or a k exceeds the number of train images.
    """
    if not min(ks) > 0 or not temperature > 0:
        raise UserError(f'k={min(ks)}, temperature={temperature}: expected more than 0')
    if max(ks) > images:
        raise UserError(f'k={max(ks)} is more than the {images} train images; take a smaller --k')


def knn_accuracy(train: Features, test: Features, num_classes: int, ks: Sequence[int] = KS,
                 temperature: float = 0.07, chunk: int = 128, quiet: bool = False) -> dict[int, dict[str, float]]:
    """Classify test features by the votes of the k most similar train features.

    Similarity s is the cosine; each neighbour votes for its class with weight exp(s / temperature). Of equally similar
    train features the first ones are the neighbours, of classes with equal votes the lower id wins, and a class without
    a vote is none of the first five.

    Args:
        train (Features): What is known; normalised in place, as ImageNet's may take gigabytes.
        test (Features): What is classified; normalised in place.
        num_classes (int): The number of classes.
        ks (Sequence[int]): Numbers of neighbours. Defaults to (10, 20, 100, 200).
        temperature (float): Of the weights. Defaults to 0.07.
        chunk (int): Test features at a time. Defaults to 128, whose similarities to ImageNet take 650 MB.
        quiet (bool): Whether to show no progress. Defaults to False.

    Returns:
        dict[int, dict[str, float]]: For each k what `accuracies` gives, in per cent.

    Raises:
        UserError: If a k or the temperature is not positive, or a k exceeds the number of train features.
    """
    check_settings(ks, temperature, len(train.labels))
    for features in (train, test):
        F.normalize(features.values, out=features.values)
    ks = dict.fromkeys(ks)  # one that is named twice counts once
    places = {k: [] for k in ks}
    for start in track(range(0, len(test.labels), chunk), 'k-NN', disable=quiet):
        similarity, neighbours = nearest(test.values[start:start + chunk] @ train.values.T, max(ks))
        # Over the largest, so that a low temperature does not overflow; the order of the classes stays.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        classes, labels = train.labels[neighbours], test.labels[start:start + chunk]
        for k in ks:
            votes = weights.new_zeros(len(labels), num_classes).scatter_add_(1, classes[:, :k], weights[:, :k])
            without = votes.gather(1, labels[:, None])[:, 0] == 0
            places[k].append(ranks(votes, labels).masked_fill(without, num_classes + 5))
    return {k: accuracies(torch.cat(places[k]), test.labels) for k in ks}


def nearest(similarity: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest values of each row, largest first; of equal ones the first ones, which `topk` leaves open.

    Args:
        similarity (Tensor): (B, n).
        k (int): At most n.

    Returns:
        tuple[Tensor, Tensor]: The values and their indices, (B, k).
    """
    values, indices = similarity.topk(k)
    tied = (values.diff(dim=1) == 0).any(1) | ((similarity >= values[:, -1:]).sum(1) > k)
    if tied.any():  # rare: sorting takes longer
        values[tied], indices[tied] = (x[:, :k] for x in similarity[tied].sort(descending=True, stable=True))
    return values, indices
