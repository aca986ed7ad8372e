"""What every mask sampler and every masked encoder must do; a test class inherits the suite and builds one."""
import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from coma_mm.errors import UserError


class MaskSamplerSuite:
    """The rules of a mask sampler: `sampler(grid, rng) -> (keep, rest)`."""

    def build(self, ratio=0.6):
        raise NotImplementedError

    @pytest.mark.parametrize('grid', [(7, 7), (2, 3), (12, 5), (1, 2)])
    def test_disjoint_sorted_and_covering(self, grid):
        sampler = self.build(0.5)
        for seed in range(20):
            keep, rest = sampler(grid, np.random.default_rng(seed))
            for ids in (keep, rest):
                assert ids.dtype == np.int64 and ids.ndim == 1 and len(ids)
                assert (np.diff(ids) > 0).all()
            assert sorted([*keep, *rest]) == list(range(grid[0] * grid[1]))

    @pytest.mark.parametrize('ratio, expected', [(0.6, 20), (0.75, 12), (0.5, 24), (0.9, 5)])
    def test_number_kept_of_49(self, ratio, expected):
        sampler = self.build(ratio)
        keep, rest = sampler((7, 7), np.random.default_rng(0))
        assert (len(keep), len(rest)) == (expected, 49 - expected)
        assert sampler.num_keep((7, 7)) == expected

    def test_the_generator_alone_decides(self):
        first, second = self.build(), self.build()
        np.random.seed(0)
        a = first((7, 7), np.random.default_rng(5))
        first((7, 7), np.random.default_rng(6))
        np.random.seed(1)
        b = second((7, 7), np.random.default_rng(5))
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])

    def test_samples_differ(self):
        sampler, rng = self.build(), np.random.default_rng(0)
        assert len({tuple(sampler((7, 7), rng)[0]) for _ in range(50)}) == 50

    def test_uniform_over_patches(self):
        """Every patch is kept equally often (the draws of one mask are not independent, which lowers the statistic)."""
        sampler, rng = self.build(), np.random.default_rng(0)
        counts = np.zeros(49)
        for _ in range(3000):
            counts[sampler((7, 7), rng)[0]] += 1
        assert chisquare(counts).pvalue > 0.01

    @pytest.mark.parametrize('ratio', [0, 1, -0.1, 1.5, float('nan')])
    def test_ratio_outside_0_1(self, ratio):
        with pytest.raises(UserError, match='mask ratio'):
            self.build(ratio)

    @pytest.mark.parametrize('ratio, grid', [(0.9, (2, 2)), (0.1, (2, 2)), (0.5, (1, 1))])
    def test_a_ratio_that_leaves_no_patch(self, ratio, grid):
        with pytest.raises(UserError, match='at least one must be kept'):
            self.build(ratio)(grid, np.random.default_rng(0))


class MaskedEncoderSuite:
    """The rules of a masked encoder: `encoder(images, ids_keep) -> tuple of (B, K·tokens per patch, C)`."""

    def build(self):
        """An encoder in float64 and evaluation mode."""
        raise NotImplementedError

    def images(self, encoder, rows=2, columns=3, B=2):
        P = encoder.patch_size
        return torch.randn(B, 3, rows * P, columns * P, dtype=torch.float64,
                           generator=torch.Generator().manual_seed(0))

    def test_tokens_of_the_kept_patches(self):
        encoder = self.build()
        x = self.images(encoder)
        one = encoder(x, torch.tensor([[0], [5]]))
        three = encoder(x, torch.tensor([[0, 2, 3], [1, 4, 5]]))
        assert isinstance(one, tuple)
        for a, b in zip(one, three, strict=True):
            assert a.shape[0] == 2 and b.shape[1] == 3 * a.shape[1] and a.shape[2] == b.shape[2]

    def test_masks_are_per_image(self):
        encoder = self.build()
        x = self.images(encoder)
        ids = torch.tensor([[0, 2, 3], [1, 4, 5]])
        together = encoder(x, ids)
        for b in range(2):
            for whole, alone in zip(together, encoder(x[b:b + 1], ids[b:b + 1]), strict=True):
                torch.testing.assert_close(whole[b:b + 1], alone, rtol=1e-12, atol=1e-12)

    def test_order_of_patches_is_the_order_asked_for(self):
        encoder = self.build()
        x = self.images(encoder, B=1)
        forth, back = encoder(x, torch.tensor([[1, 4, 5]])), encoder(x, torch.tensor([[5, 4, 1]]))
        for a, b in zip(forth, back, strict=True):
            a, b = (t.reshape(1, 3, -1) for t in (a, b))
            torch.testing.assert_close(a.flip(1), b, rtol=1e-10, atol=1e-10)

    def test_tokens_depend_on_their_patch_and_on_the_other_kept_ones(self):
        encoder = self.build()
        x = self.images(encoder, B=1)
        P = encoder.patch_size
        base = encoder(x, torch.tensor([[0, 5]]))[-1]
        x[..., P + 5:, 2 * P + 5:] += 1  # patch 5, beyond the reach of any stem
        changed = encoder(x, torch.tensor([[0, 5]]))[-1]
        half = base.shape[1] // 2
        assert not torch.allclose(base[:, :half], changed[:, :half])
        assert not torch.allclose(base[:, half:], changed[:, half:])

    @pytest.mark.parametrize('hidden', [1e3, float('nan')])
    def test_hidden_pixels_do_not_matter(self, hidden):
        """Not even to the last bit: what leaks of them would be copied instead of predicted."""
        encoder = self.build()
        x, P = self.images(encoder, B=1), encoder.patch_size
        for keep in ([4], [1, 3, 5], [0, 2, 3, 4, 5]):
            other = torch.full_like(x, hidden)
            for row, column in (divmod(i, 3) for i in keep):
                patch = (..., slice(row * P, (row + 1) * P), slice(column * P, (column + 1) * P))
                other[patch] = x[patch]
            for a, b in zip(encoder(x, torch.tensor([keep])), encoder(other, torch.tensor([keep])), strict=True):
                assert torch.equal(a, b)
