import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.models.utils import build_2d_sincos_position_embedding

from coma_mm.models.token_layout import gather_patches, grid_to_tokens, sincos_position, tokens_to_grid

from ..helpers import reference

grids = st.tuples(st.integers(1, 5), st.integers(1, 5))
sides = st.sampled_from([1, 2, 4, 8])


def numbered(grid, side, B=2, C=3):
    """A map in which every number is another."""
    rows, columns = grid[0] * side, grid[1] * side
    return torch.arange(B * C * rows * columns).reshape(B, C, rows, columns)


@settings(deadline=None, max_examples=60)
@given(grid=grids, side=sides, batch=st.integers(1, 3), channels=st.integers(1, 3))
def test_round_trip_is_exact(grid, side, batch, channels):
    x = numbered(grid, side, batch, channels)
    tokens = grid_to_tokens(x, side)
    assert tokens.shape == (batch, grid[0] * grid[1], side**2, channels)
    assert torch.equal(tokens_to_grid(tokens, grid, side), x)
    assert torch.equal(tokens_to_grid(tokens.flatten(1, 2), grid, side), x)


@settings(deadline=None, max_examples=40)
@given(grid=grids, side=sides)
def test_patches_in_raster_order_and_z_order_inside(grid, side):
    x = numbered(grid, side)
    tokens = grid_to_tokens(x, side)
    for b in range(2):
        assert torch.equal(tokens[b].flatten(0, 1), reference.raw_tokens(reference.cut_patches(x[b], side)))


@settings(deadline=None, max_examples=40)
@given(grid=grids, side=st.sampled_from([2, 4, 8]), data=st.data())
def test_every_aligned_window_is_consecutive(grid, side, data):
    k = data.draw(st.sampled_from([k for k in (2, 4, 8) if k <= side]))
    x = numbered(grid, side, B=1, C=1)
    tokens = grid_to_tokens(x, side).flatten(1, 2)[0, :, 0]
    windows = {frozenset(window.tolist()) for window in tokens.split(k * k)}
    expected = {frozenset(window.flatten().tolist()) for window in reference.cut_patches(x[0], k)}
    assert windows == expected


def test_the_next_stage_has_the_layout_of_its_own_side():
    """Pooling four consecutive tokens of side 8 gives the tokens of the pooled map at side 4, down to one."""
    x = torch.randn(2, 3, 16, 24)
    tokens = grid_to_tokens(x, 8)
    for side in (4, 2, 1):
        x = torch.nn.functional.max_pool2d(x, 2)
        tokens = tokens.view(2, 6, -1, 4, 3).amax(3)
        assert torch.equal(tokens, grid_to_tokens(x, side))


def test_gather_patches():
    x = torch.randn(3, 5, 4, 2)
    ids = torch.tensor([[0, 4], [3, 1], [2, 2]])
    out = gather_patches(x, ids)
    for b in range(3):
        for i in range(2):
            assert torch.equal(out[b, i], x[b, ids[b, i]])
    assert torch.equal(gather_patches(x[..., 0, 0], ids), out[..., 0, 0])


def test_side_must_be_a_power_of_two():
    with pytest.raises(ValueError, match='power of two'):
        grid_to_tokens(torch.zeros(1, 1, 6, 6), 3)


@pytest.mark.parametrize('grid, dims', [((1, 1), 4), ((7, 7), 16), ((3, 5), 8), ((56, 2), 12)])
def test_sincos_values(grid, dims):
    expected = reference.sincos(*grid, dims)
    assert torch.allclose(sincos_position(grid, dims)[0].double(), expected, atol=2e-5)


@pytest.mark.parametrize('size', [1, 7, 14])
def test_sincos_is_mmpretrains_on_square_grids(size):
    """mmpretrain's (which lays out (columns, rows) for rectangles) encodes the row first too on squares."""
    theirs = build_2d_sincos_position_embedding(size, 16)  # 1, size², dims
    ours = sincos_position((size, size), 16).flatten(2).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_sincos_needs_channels_divisible_by_four():
    with pytest.raises(ValueError, match='divisible by 4'):
        sincos_position((2, 2), 6)
