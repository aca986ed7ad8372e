"""How much a complementary second mask could teach: where the variance of the encoder's gradient comes from.

The gradient of one image under one mask varies between images (V_i) and between masks of an image (V_m). Two masks of one
image, averaged, have the variance V_i + V_m · (1 + rho) / 2, where rho is the correlation of the two masks' gradients around
the image's mean. Independent masks have rho = 0, so what complementary ones save, per image, is -rho · V_m / 2.
Fully-explored masked language modelling (arXiv 2010.06040) argues that disjoint masks lower this covariance.
"""
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from coma_mm.config.read import parse_options, read_config
from coma_mm.errors import UserError
from coma_mm.evaluation.panels import spread_indices
from coma_mm.files import write_whole
from coma_mm.markdown import markdown_table
from coma_mm.models import MaskedAutoencoder
from coma_mm.progress import track
from coma_mm.visualization.loading import load_for_viewing

BATCHES = (64, 512, 4096)
"""Images per update at which the saving is compared with the mean gradient."""


class Products(NamedTuple):
    """Inner products of gradients, from which everything follows; a number per image, in float64.

    Args:
        same (ndarray): Mean of |g|², (n, ).
        apart (ndarray): Mean of <g(m), g(m')> of masks that know nothing of each other, (n, ).
        complement (ndarray): Mean of <g(m), g(rest of m)>, (n, ).
        pairs (ndarray): Mean of <g(m), g(m')> over pairs that share no mask, the control, (n, ).
        overlap (ndarray): Sum of <g(m), g(m')> by the number of patches that both see, (n, patches / 2 + 1).
        overlap_count (ndarray): How many of these there are.
        across (ndarray): <mean over masks of g of one image, of another>, (n, n).
    """
    same: np.ndarray
    apart: np.ndarray
    complement: np.ndarray
    pairs: np.ndarray
    overlap: np.ndarray
    overlap_count: np.ndarray
    across: np.ndarray


def run(args) -> None:
    """Measure each set of weights, print the table, write the facts."""
    measured = []
    cfg = read_config(args.config, parse_options(args.cfg_options), data_root=args.data_root)
    for name, checkpoint in [*((f'random, seed {seed}', None) for seed in range(args.random)),
                             *((path, path) for path in args.checkpoints)]:
        torch.manual_seed(int(name.rpartition(' ')[2]) if checkpoint is None else 0)
        model, dataset = load_for_viewing(cfg, checkpoint, 'train')
        if not isinstance(model, MaskedAutoencoder):
            raise UserError(f'{args.config}: the model is a {type(model).__name__}; expected CoMA or MaskedAutoencoder')
        found = measure(model, dataset, args.images, args.masks, args.seed, name)
        measured.append(dict(weights=name, **summarise(found, args.bootstrap, args.seed)))
        if args.out:
            facts = dict(config=args.config, images=args.images, masks=args.masks, bootstrap=args.bootstrap, seed=args.seed)
            write_whole(args.out, json.dumps(dict(facts, results=measured), indent=2))
    if not measured:
        raise UserError('nothing to measure; give checkpoints, or --random N')
    print(table(measured))


def measure(model: nn.Module, dataset: Dataset, images: int = 128, masks: int = 8, seed: int = 0,
            name: str = '') -> Products:
    """The products of a masked autoencoder's gradients by its backbone's parameters, at 50 % masked.

    Args:
        model (MaskedAutoencoder): Or CoMA, whose adaptive part is looked at.
        dataset (Dataset): Of masked pre-training; its own masks are not used.
        images (int): How many, spread evenly over the data set. Defaults to 128.
        masks (int): Of each image, besides their complements; even. Defaults to 8.
        seed (int): Of the masks. Defaults to 0.
        name (str): For the progress. Defaults to none.

    Returns:
        Products: Of these images.

    Raises:
        UserError: The images have an odd number of patches.
    """
    model.eval()
    parameters = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]

    def gradient(image: torch.Tensor, keep: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        errors = model.head.patch_errors(model.reconstruct(image, keep, ids=rest), image, rest)
        parts = torch.autograd.grad(errors.mean(), parameters, allow_unused=True)
        return torch.cat([torch.zeros_like(parameter).flatten() if part is None else part.flatten()
                          for part, parameter in zip(parts, parameters, strict=True)])

    chosen = spread_indices(dataset, images)
    inputs = [model.data_preprocessor(dict(inputs=dataset[index]['inputs'][None]))['inputs'] for index in chosen]
    patches = model.head.patchify(inputs[0]).shape[1]
    return products(gradient, inputs, patches, masks, seed, f'Gradients, {name}')


def products(gradient: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor], images: Sequence[torch.Tensor],
             patches: int, masks: int = 8, seed: int = 0, name: str = '') -> Products:
    """The products of any gradients.

    Args:
        gradient (Callable): Takes an image, int64 (1, patches / 2) of what is seen and of what is not; gives a vector.
        images (Sequence[Tensor]): What it takes.
        patches (int): Of each image, even.
        masks (int): Of each image, besides their complements; even. Defaults to 8.
        seed (int): Of the masks. Defaults to 0.
        name (str): Of the progress, which there is none of without. Defaults to none.

    Returns:
        Products: Of these images.

    Raises:
        UserError: An odd number of patches or masks, or fewer than two images.
    """
    if patches % 2 or masks % 2 or masks < 2 or len(images) < 2:
        raise UserError(f'{patches} patches, {masks} masks, {len(images)} images: expected an even number of patches and of '
                        'masks, and two images or more')
    rng, half = np.random.default_rng(seed), patches // 2
    seen = np.zeros((len(images), masks, patches), bool)
    rows, means = [], []
    apart = ~np.eye(masks, dtype=bool)
    for number, image in enumerate(track(images, name, disable=not name)):
        for mask in seen[number]:
            mask[rng.permutation(patches)[:half]] = True
        both = np.concatenate([seen[number], ~seen[number]])
        ids = [[torch.from_numpy(np.flatnonzero(one))[None] for one in (mask, ~mask)] for mask in both]
        vectors = torch.stack([gradient(image, *pair).detach() for pair in ids])
        gram = (vectors @ vectors.mT).double().numpy()
        first, cross, second = gram[:masks, :masks], gram[:masks, masks:], gram[masks:, masks:]
        common = seen[number].astype(int) @ seen[number].T  # patches that two masks share
        shares = [np.bincount(common[apart], weights, half + 1) + np.bincount(half - common[apart], other, half + 1)
                  for weights, other in (((first + second)[apart] / 2, (cross + cross.T)[apart] / 2), (None, None))]
        rows.append((np.diag(gram).mean(), np.mean([first[apart], cross[apart], cross.T[apart], second[apart]]),
                     np.diag(cross).mean(), first[range(0, masks, 2), range(1, masks, 2)].mean(), *shares))
        means.append(vectors.mean(0))
    across = torch.stack(means)
    return Products(*map(np.stack, zip(*rows, strict=True)), (across @ across.mT).double().numpy())


def estimate(found: Products, weights: np.ndarray | None = None) -> dict[str, float]:
    """What follows from products.

    Args:
        found (Products): Of n images.
        weights (ndarray, optional): How often each image counts, (n, ). Defaults to once.

    Returns:
        dict[str, float]: 'mean' |E g|², 'V_i', 'V_m', 'rho' of complementary masks, 'rho_independent' of the control,
        'saved' -rho · V_m / 2, 'share' of it in the variance of two independent masks, 'at_N' it by N images against the
        mean, and 'rho_overlap_K' of masks that share K patches. All estimates of squares leave out an image's product with
        itself, so that they have no bias.
    """
    w = np.ones(len(found.same)) if weights is None else weights
    total = w.sum()
    same, apart, complement, pairs = (float(w @ one / total) for one in found[:4])
    others = np.outer(w, w) * ~np.eye(len(w), dtype=bool)
    mean = float((others * found.across).sum() / others.sum())
    V_m, V_i = same - apart, apart - mean
    rho = (complement - apart) / V_m
    saved = -rho * V_m / 2
    counts = w @ found.overlap_count
    centred = w @ (found.overlap - found.overlap_count * found.apart[:, None])
    overlap = {f'rho_overlap_{k}': float(centred[k] / counts[k] / V_m) for k in np.flatnonzero(counts)}
    return dict(mean=mean, V_i=V_i, V_m=V_m, rho=rho, rho_independent=(pairs - apart) / V_m, saved=saved,
                share=saved / (V_i + V_m / 2), **{f'at_{batch}': saved / batch / mean for batch in BATCHES}, **overlap)


def summarise(found: Products, bootstrap: int = 1000, seed: int = 0) -> dict[str, list[float]]:
    """Estimates with their 95 % intervals over images, by the bootstrap.

    Args:
        found (Products): Of n images.
        bootstrap (int): Resamples. Defaults to 1000.
        seed (int): Of them. Defaults to 0.

    Returns:
        dict[str, list[float]]: By name, see `estimate`: estimate, lower and upper end.
    """
    rng, n = np.random.default_rng(seed), len(found.same)
    drawn = [estimate(found, rng.multinomial(n, np.full(n, 1 / n)).astype(float)) for _ in range(bootstrap)]
    return {name: [value, *np.nanpercentile([one.get(name, np.nan) for one in drawn], [2.5, 97.5]).tolist()]
            for name, value in estimate(found).items()}


def table(measured: Sequence[dict]) -> str:
    """A row for each set of weights, with 95 % intervals, in Markdown."""

    def cell(one: dict, name: str, digits: int = 2, percent: bool = False) -> str:
        value, low, high = (100 * number if percent else number for number in one[name])
        return f'{value:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})'

    rows = []
    for one in measured:
        parts = [one[name][0] for name in ('V_i', 'V_m')]
        rows.append([one['weights'], f'{100 * parts[1] / sum(parts):.0f}', cell(one, 'rho'), cell(one, 'rho_independent'),
                     cell(one, 'share', 1, True), *(cell(one, f'at_{batch}', 2, True) for batch in BATCHES)])
    header = ['weights', 'V_m, % of the variance', 'rho, complementary', 'rho, independent', 'saved, % of the variance',
              *(f'saved by |mean|², %, {batch} images' for batch in BATCHES)]
    return markdown_table(header, rows, len(header) - 1, aligned=True)
