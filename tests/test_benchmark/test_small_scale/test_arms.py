"""Arms are built as their titles say."""

import pytest
import torch

from coma_mm.benchmark.complement.arms import build, loss, operations
from coma_mm.benchmark.complement.draws import draw_masks
from coma_mm.benchmark.small_scale.arms import AGAINST, ARMS, BASES, GROUPS
from coma_mm.benchmark.small_scale.study import parameters
from coma_mm.models import MaskedVisionTransformer

IDS = torch.arange(2)


def batch(scale, arm):
    images = torch.randn(2, 3, scale.size, scale.size, generator=torch.Generator().manual_seed(0))
    return images, draw_masks(0, IDS, IDS, scale.patches, scale.keep(arm))


def model(name):
    arm = ARMS[name]
    return build(arm.scale, arm, 0), *batch(arm.scale, arm)


@pytest.mark.parametrize('name', ['last', 'all', 'open-last', 'open-all', '128-all', '128-open-all'])
def test_masked_pixels_reach_the_kept_tokens_only_while_the_leak_is_open(name):
    coma, images, masks = model(name)
    before, scale = coma.backbone(images, masks.ids_keep)[-1], ARMS[name].scale
    side = scale.size // scale.patch_size
    hidden = torch.zeros(2, side**2).scatter_(1, masks.ids_rest, 1.).view(2, 1, side, side)
    changed = images + hidden.repeat_interleave(scale.patch_size, 2).repeat_interleave(scale.patch_size, 3)
    assert torch.equal(coma.backbone(changed, masks.ids_keep)[-1], before) == ('open' not in name)


def test_the_decoder_sees_what_an_arm_says_and_detached_stages_get_nothing_through_the_fusion():
    for name, seen in (('last', [3]), ('all', [0, 1, 2, 3]), ('detached', [3]), ('weighted', [0, 1, 2, 3])):
        coma, images, masks = model(name)
        loss(coma, images, masks).backward()
        norms = {stage: getattr(coma.backbone, f'norm{stage}', None) for stage in range(4)}
        assert [stage for stage, norm in norms.items() if norm and norm.weight.grad is not None] == seen
        assert len(coma.neck.convs) == (0 if name == 'last' else 3)
        assert all(conv.weight.grad.abs().sum() > 0 for conv in coma.neck.convs)


def test_arms_have_what_their_titles_say():
    for name, arm in ARMS.items():
        scale, config = arm.scale, arm.scale.model(arm)
        assert config['decoder']['depth'] == int(name[-1] if 'depth' in name else 1), name
        assert scale.lr == (5e-4 if 'half' in name else 2e-3 if 'double' in name else 1e-3), name
        assert config['complement'] == next((mode for mode in ('full', 'frozen', 'latent') if mode in name), 'none'), name
        assert scale.patches == (25 if '25' in name else 16), name
        assert scale.keep(arm) == (6 if 'frozen' in name else scale.patches // 2), name
        assert scale.fractions[-1] == (2 if 'long' in name else 1), name
        assert scale.patch_size == (32 if name.startswith('128') else 16), name
        assert scale.size == (128 if name.startswith('128') else 80 if '25' in name else 64), name
    assert {arm.group for arm in ARMS.values()} == set(GROUPS) == set(BASES)
    assert set(AGAINST) == set(ARMS) - {'last', 'last-25', '128-last'}
    assert all(ARMS[name].data == ARMS[base].data for name, base in AGAINST.items())


def test_only_what_is_said_differs_and_the_vit_is_as_large_as_the_dyvit():
    built = {name: build(ARMS[name].scale, ARMS[name], 0) for name in ('all', 'all-xavier', 'zero', 'vit')}
    base, other = (built[name].backbone.state_dict() for name in ('all', 'zero'))
    assert all(torch.equal(base[key], other[key]) for key in base)
    assert all(not conv.weight.any() for conv in built['zero'].neck.convs)
    assert all(conv.weight.any() for conv in built['all'].neck.convs)
    block = {name: [p for key, p in built[name].backbone.state_dict().items() if 'stages.3.1' in key and p.ndim > 1]
             for name in ('all', 'all-xavier')}
    assert [any(not p.any() for p in one) for one in block.values()] == [True, False]
    assert isinstance(built['vit'].backbone, MaskedVisionTransformer)
    assert parameters(ARMS['vit'].scale, ARMS['vit']) == pytest.approx(parameters(ARMS['all'].scale, ARMS['all']), rel=.02)


def test_two_branches_cost_twice_the_operations_of_one():
    last, full, vit = (operations(ARMS[name].scale, ARMS[name]) for name in ('last', 'full', 'vit'))
    assert full == 2 * last and vit == pytest.approx(last, rel=.1)
