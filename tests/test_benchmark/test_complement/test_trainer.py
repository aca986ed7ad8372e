"""Runs of the study on noise: the same bits for the same seed, arm by arm the same draws, and exact resume."""
from dataclasses import replace

import pytest
import torch

from coma_mm.benchmark.complement.arms import ARMS, Scale, operations, updates
from coma_mm.benchmark.complement.images import Pack
from coma_mm.benchmark.complement.trainer import Segment, Trainer, plan
from coma_mm.errors import Stopped

SMALL = Scale(('A', 'B', 'C', 'P'), dict(dims=(8, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
              dict(embed_dims=16, depth=1, num_heads=1), batch=4, updates=8, lr=1e-2, warmup=.25, decay=.5,
              fractions=(.5, 1.))


@pytest.fixture(scope='module')
def pack():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (14, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return Pack(images, torch.arange(14) % 2, torch.arange(10), torch.arange(6), torch.arange(10, 14), 'noise')


def trainer(pack, arm='C', seed=0, made=8, fractions=(.5, 1.)):
    return Trainer(SMALL, ARMS[arm], seed, pack, made, fractions)


def course(one, path, **options):
    """What `one` has at each of its budgets."""
    found = {}
    one.run(lambda fraction: found.update({one.step: one.digest()}), path, **options)
    return found


def test_a_run_alternates_between_its_course_and_decays():
    assert plan(100, (.5, 1.), .2) == [
        Segment(0, 40, None), Segment(40, 50, .5), Segment(40, 80, None), Segment(80, 100, 1.)]


def test_the_rate_rises_stays_and_falls_to_zero_at_each_budget(pack, tmp_path):
    one, rates, left = trainer(pack), [], []
    update = one.update
    one.update = lambda: (rates.append((one.step, round(one.rate(), 6))), left.append(one.left), update())
    course(one, tmp_path / 'a.pth')
    assert left == list(range(10, 0, -1)) and one.left == 0
    assert rates == [(0, .005), (1, .01), (2, .006667), (3, .003333), (2, .01), (3, .01),
                     (4, .008), (5, .006), (6, .004), (7, .002)]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(pack, tmp_path):
    first, again, other = (course(trainer(pack, seed=seed), tmp_path / 'a.pth') for seed in (0, 0, 1))
    assert first == again and set(first) == {4, 8}
    assert first[8] != other[8] != first[4]


def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bits(pack, tmp_path):
    whole, path, found = course(trainer(pack), tmp_path / 'whole.pth'), tmp_path / 'a.pth', {}
    for _ in range(20):
        one = trainer(pack)
        if path.exists():
            one.resume(path)
        calls = iter((False, False, False, True, True, True))
        try:
            one.run(lambda fraction: found.update({one.step: one.digest()}), path, lambda: next(calls, True))  # noqa: B023
            break
        except Stopped:
            pass
    assert found == whole


def test_twice_the_budget_has_the_single_one_in_its_course(pack, tmp_path):
    single = course(trainer(pack, 'A'), tmp_path / 'a.pth')
    double = course(trainer(pack, 'P', fractions=(.5, 1., 2.)), tmp_path / 'p.pth')
    assert {step: double[step] for step in single} == single and set(double) == {4, 8, 16}


def test_arm_by_arm_weights_crops_and_first_masks_are_the_same_bits(pack):
    arms = {name: trainer(pack, name) for name in 'ABCF'}
    states = [one.model.backbone.state_dict() for one in arms.values()]
    assert all(torch.equal(state[key], states[0][key]) for state in states for key in state)
    for step in (0, 3):  # the batch of step 2 ends an epoch
        images, masks = zip(*(one.inputs(step) for one in arms.values()), strict=True)
        assert all(torch.equal(one, images[0]) for one in images)
        a, b, c, _ = masks
        assert torch.equal(a.ids_keep, b.ids_keep) and torch.equal(a.ids_keep, c.ids_keep)
        assert torch.equal(a.ids_rest, b.ids_rest) and torch.equal(a.ids_rest, c.ids_rest)
        assert b.second_keep is not None and not torch.equal(b.second_keep, b.ids_rest) and c.second_keep is None


def test_more_images_per_update_are_the_same_images_in_the_same_order(pack):
    single, double = trainer(pack, 'A'), trainer(pack, 'A2')
    steps = [torch.stack(single.samples(step)) for step in range(6)]
    assert torch.equal(torch.cat(steps, 1), torch.cat([torch.stack(double.samples(step)) for step in range(3)], 1))
    ids = torch.cat(steps, 1)[1]
    assert torch.equal(ids[:10].sort().values, torch.arange(10)) and torch.equal(ids[10:20].sort().values, torch.arange(10))


@pytest.mark.parametrize('arm', 'CF')
def test_in_the_gpus_precision_a_run_is_resumed_to_the_same_bits(arm, pack, tmp_path):
    def one():
        return Trainer(SMALL, ARMS[arm], 0, pack, 4, (1., ), bf16=True)

    whole, stopped, again, path = one(), one(), one(), tmp_path / 'a.pth'
    expected = course(whole, tmp_path / 'whole.pth')
    calls = iter((False, True, True))
    with pytest.raises(Stopped):
        stopped.run(print, path, lambda: next(calls))
    again.resume(path)
    assert course(again, path) == expected
    assert expected != course(Trainer(SMALL, ARMS[arm], 0, pack, 4, (1., )), tmp_path / 'float.pth')


def test_every_arm_has_the_same_operations():
    scale = replace(SMALL, updates=1000)
    ours = {name: operations(scale, arm) for name, arm in ARMS.items()}
    assert ours['B'] == ours['C'] == 2 * ours['A'] == 2 * ours['A2'] == 2 * ours['P']
    assert ours['A'] < ours['F'] < ours['E'] < ours['D']
    made = {name: updates(scale, arm) for name, arm in ARMS.items()}
    assert (made['A'], made['A2'], made['B'], made['C'], made['P']) == (2000, 1000, 1000, 1000, 4000)
    spent = {name: made[name] * arm.images * ours[name] / arm.budget for name, arm in ARMS.items()}
    assert max(spent.values()) / min(spent.values()) < 1.001
