import torch

from coma_mm.benchmark.complement.draws import MASK, crop, draw_masks, order, uniforms

EPOCHS, IMAGES = torch.tensor([0, 0, 1, 7]), torch.tensor([3, 4, 3, 9])


def test_numbers_are_those_of_splitmix64():
    """Written out in Python's whole numbers."""
    bits = 2**64 - 1

    def mix(x):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            x = (x ^ (x >> shift)) * factor & bits
        return x

    golden = 0x9E3779B97F4A7C15
    state = mix((mix((mix(6 * golden & bits) + 7) & bits) * golden + 9) & bits)
    expected = [(mix((state + place * golden) & bits) >> 11) * 2.**-53 for place in (3, 4)]
    assert uniforms(5, EPOCHS, IMAGES, 2, 2)[3].tolist() == expected


def test_numbers_are_even_and_know_nothing_of_each_other():
    ids = torch.arange(20000)
    found = uniforms(0, ids * 0, ids, 0, 3)
    others = [uniforms(1, ids * 0, ids, 0, 1), uniforms(0, ids * 0 + 1, ids, 0, 1)]
    assert torch.allclose(found.mean(0), torch.tensor(.5).double(), atol=.01)
    assert torch.allclose(found.histc(10) / 6000, torch.ones(10).double(), atol=.05)
    together = torch.corrcoef(torch.cat([found, *others], 1).T) - torch.eye(5)
    assert together.abs().max() < .03


def test_an_image_has_the_same_numbers_in_any_batch():
    together = uniforms(5, EPOCHS, IMAGES, MASK, 16)
    alone = [uniforms(5, EPOCHS[i:i + 1], IMAGES[i:i + 1], MASK, 16) for i in range(4)]
    assert torch.equal(together, torch.cat(alone)) and len(together.unique()) == together.numel()


def test_an_epoch_has_every_image_once_and_an_order_of_its_own():
    assert torch.equal(order(0, 0, 50).sort().values, torch.arange(50))
    assert not torch.equal(order(0, 0, 50), order(0, 1, 50)) and not torch.equal(order(0, 0, 50), order(1, 0, 50))


def test_the_second_mask_is_another_draw_and_leaves_the_first_as_it_is():
    complement = draw_masks(5, EPOCHS, IMAGES, 16, 6)
    pair = draw_masks(5, EPOCHS, IMAGES, 16, 6, 'independent')
    assert torch.equal(complement.ids_keep, pair.ids_keep) and torch.equal(complement.ids_rest, pair.ids_rest)
    assert complement.second_keep is None
    assert pair.second_keep.shape == complement.ids_rest.shape  # as many as the complement
    assert not torch.equal(pair.second_keep, complement.ids_rest)
    for seen, hidden in (complement[:2], pair[2:]):
        assert torch.equal(torch.cat([seen, hidden], 1).sort(1).values, torch.arange(16).expand(4, 16))


def test_independent_masks_share_what_chance_says():
    ids = torch.arange(4000)
    masks = draw_masks(0, ids * 0, ids, 16, 8, 'independent')
    seen = [torch.zeros(4000, 16).scatter_(1, one, 1.) for one in (masks.ids_keep, masks.second_keep)]
    shared = (seen[0] * seen[1]).sum(1)
    assert abs(float(shared.mean()) - 4) < .05 and abs(float(shared.var()) - 16 / 15) < .1  # hypergeometric
    assert torch.allclose(seen[1].mean(0), torch.tensor(.5), atol=.03)


def test_a_crop_lies_in_the_image_and_half_are_mirrored():
    ids = torch.arange(2000)
    ramp = torch.arange(16, dtype=torch.uint8).expand(2000, 3, 16, 16)
    found = crop(ramp, 0, ids * 0, ids)
    assert found.min() >= 0 and found.max() <= 15
    mirrored = found[:, 0, 0, 0] > found[:, 0, 0, -1]
    assert abs(float(mirrored.float().mean()) - .5) < .05
    width = (found[:, 0, 0].max(1).values - found[:, 0, 0].min(1).values) / 15
    assert .35 < float(width.min()) < .5 and float(width.max()) > .95
