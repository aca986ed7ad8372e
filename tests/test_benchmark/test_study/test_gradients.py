"""What a complement could save, against cases whose answer is known."""
from itertools import combinations

import numpy as np
import pytest
import torch

from coma_mm.benchmark.study.gradients import estimate, measure, products, summarise, table
from coma_mm.errors import UserError

from ...helpers.small_models import small_mae

PATCHES = 6
MASKS = [np.isin(range(PATCHES), kept) for kept in combinations(range(PATCHES), PATCHES // 2)]


def scenes(number, seed=0):
    """Images of a toy: what is seen of each patch, and what is to be predicted."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(number, 2, PATCHES, 3, generator=generator, dtype=torch.float64) + .3)


def quadratic(image, keep, rest):
    """Gradient at theta = (1, 0, -1) of (theta · mean of what is seen - sum of what is hidden)² / 2."""
    seen = image[0][keep[0]].mean(0)
    theta = torch.tensor([1., 0, -1], dtype=torch.float64)
    return (theta @ seen - image[1][rest[0]].sum() / 3) * seen


def exact(images, gradient):
    """V_i of an endless supply of such images, V_m and rho over all masks there are."""
    found = np.array([[gradient(image, *(torch.from_numpy(np.flatnonzero(one))[None] for one in (mask, ~mask))).numpy()
                       for mask in MASKS] for image in images])
    centred = found - found.mean(1, keepdims=True)
    V_m = (centred**2).sum(2).mean()
    # Combinations come in the order in which the complement of the first is the last.
    return (np.var(found.mean(1), axis=0, ddof=1).sum(), V_m, (centred * centred[:, ::-1]).sum(2).mean() / V_m)


def test_the_parts_of_the_variance_are_those_over_all_masks():
    images = scenes(60)
    V_i, V_m, rho = exact(images, quadratic)
    found = estimate(products(quadratic, images, PATCHES, masks=40))
    assert found['V_m'] == pytest.approx(V_m, rel=0.05)
    assert found['V_i'] == pytest.approx(V_i, rel=0.1)
    assert found['rho'] == pytest.approx(rho, abs=0.03) and abs(found['rho_independent']) < 0.03
    assert found['saved'] == -found['rho'] * found['V_m'] / 2
    assert found['share'] == pytest.approx(found['saved'] / (found['V_i'] + found['V_m'] / 2))
    assert found['at_64'] == pytest.approx(8 * found['at_512']) == pytest.approx(found['saved'] / 64 / found['mean'])


def test_what_is_a_sum_over_patches_cancels_in_complements():
    """<rho> is -1: what one mask has more than the mean, the other lacks; by overlap it rises in a line."""
    def linear(image, keep, rest):
        return image[0][keep[0]].sum(0)

    found = estimate(products(linear, scenes(40), PATCHES, masks=20))
    assert found['rho'] == pytest.approx(-1, abs=0.02)
    for k, expected in enumerate((-1, -1 / 3, 1 / 3, 1)):
        assert found[f'rho_overlap_{k}'] == pytest.approx(expected, abs=0.06)


def test_a_gradient_that_no_mask_changes_saves_nothing_and_intervals_hold_the_estimate():
    generator = torch.Generator().manual_seed(0)

    def noise(image, keep, rest):  # another number each time: masks explain nothing
        return image[0, 0] + torch.randn(3, generator=generator, dtype=torch.float64)

    found = products(noise, scenes(50), PATCHES, masks=10)
    summary = summarise(found, bootstrap=200)
    value, low, high = summary['rho']
    assert low < 0 < high and low < value < high
    assert summary == summarise(found, bootstrap=200)
    assert table([dict(weights='random', **summary)]).splitlines()[2].startswith('| random ')


def test_of_a_model_its_backbones_gradient_is_taken():
    """Against the model's own loss, image by image."""
    model = small_mae()
    data = [dict(inputs=torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)) for _ in range(3)]
    found = measure(model, data, images=3, masks=2)
    rng = np.random.default_rng(0)
    mask = np.zeros(4, bool)
    mask[rng.permutation(4)[:2]] = True
    vectors = []
    image = model.data_preprocessor(dict(inputs=data[0]['inputs'][None]))['inputs']
    other = np.zeros(4, bool)
    other[rng.permutation(4)[:2]] = True
    for one in (mask, other, ~mask, ~other):
        model.zero_grad()
        ids = [torch.from_numpy(np.flatnonzero(part))[None] for part in (one, ~one)]
        model(image, *ids, mode='loss')['loss'].backward()
        vectors.append(torch.cat([p.grad.flatten() for p in model.backbone.parameters()]))
    vectors = torch.stack(vectors)
    assert found.same[0] == pytest.approx(vectors.square().sum(1).mean().item())
    assert found.complement[0] == pytest.approx(((vectors[0] @ vectors[2] + vectors[1] @ vectors[3]) / 2).item())
    assert found.across[0, 0] == pytest.approx(vectors.mean(0).square().sum().item())


@pytest.mark.parametrize('wrong', [dict(patches=5), dict(masks=3), dict(images=scenes(1))])
def test_what_cannot_be_paired_is_refused(wrong):
    with pytest.raises(UserError, match='expected an even number of patches and of masks, and two images or more'):
        products(**(dict(gradient=quadratic, images=scenes(2), patches=PATCHES, masks=2) | wrong))
