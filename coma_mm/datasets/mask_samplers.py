"""Mask samplers: which patches of a sample are kept, and which are the rest."""
import numpy as np
from mmengine.registry import TASK_UTILS
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

from coma_mm.errors import UserError, choice


class MaskSampler:
    """Masks an exact number of a grid's patches; what it shares with others is here, `draw` is its own.

    A mask sampler is called with one sample's grid and a generator, and returns two disjoint index sets that cover the
    grid. What becomes of the second set (nothing in MAE, the evaluation model in CoMA) is not the sampler's business.

    Args:
        ratio (float): Share of patches that are masked, in (0, 1). Defaults to 0.6, the paper's: of 49 patches,
            round(49 · 0.4) = 20 are kept.

    Raises:
        UserError: `ratio` outside (0, 1), or no patch left on one side at the given grid.
    """

    def __init__(self, ratio: float = 0.6):
        if not isinstance(ratio, (int, float)) or not 0 < ratio < 1:
            raise UserError(f'{type(self).__name__}: mask ratio {ratio} is outside (0, 1); the paper uses 0.6')
        self.ratio = ratio

    def num_keep(self, grid: tuple[int, int]) -> int:
        """Number of patches kept on a grid of (rows, columns)."""
        n = grid[0] * grid[1]
        keep = round(n * (1 - self.ratio))
        if not 0 < keep < n:
            raise UserError(f'{type(self).__name__}: mask ratio {self.ratio} on {grid[0]}×{grid[1]} patches keeps '
                            f'{keep} of {n}; at least one must be kept and one masked: change the ratio or use '
                            'larger images')
        return keep

    def __call__(self, grid: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw a mask.

        Args:
            grid (tuple[int, int]): Rows and columns of patches.
            rng (np.random.Generator): The only source of randomness.

        Returns:
            tuple[ndarray, ndarray]: Ascending int64 indices of the patches to keep, and of the rest.
        """
        keep = self.num_keep(grid)
        masked = self.draw(grid, grid[0] * grid[1] - keep, rng)
        return np.flatnonzero(~masked), np.flatnonzero(masked)

    def draw(self, grid: tuple[int, int], num_masked: int, rng: np.random.Generator) -> np.ndarray:
        """bool (rows, columns), or flat: True on exactly `num_masked` patches."""
        raise NotImplementedError


@TASK_UTILS.register_module()
class UniformMaskSampler(MaskSampler):
    """Every subset of patches with the same probability (MAE's random masking); see `MaskSampler`."""

    def draw(self, grid: tuple[int, int], num_masked: int, rng: np.random.Generator) -> np.ndarray:
        """See the base class."""
        mask = np.zeros(grid[0] * grid[1], bool)
        mask[rng.permutation(mask.size)[mask.size - num_masked:]] = True
        return mask


@TASK_UTILS.register_module()
class ColorNoiseMaskSampler(MaskSampler):
    """Masks the patches where filtered noise is largest (ColorMAE, Hinojosa et al. 2024).

    White noise, one number per patch, is split by two Gaussian blurs into low frequencies (red), middle ones (green)
    and high ones (blue), which add up to it; purple is what green leaves, red and blue. Red masks are large clumps,
    green ones small clumps, blue ones dispersed.

    Differences to ColorMAE: the noise is drawn and filtered for each sample, where ColorMAE crops large patterns that
    it filtered beforehand; so nothing is to be downloaded. To make every patch equally likely all the same, the filters
    wrap around the grid. The blurs' widths are ours, small enough for 7×7 patches. ColorMAE's code *keeps* the largest
    values; as noise is symmetric about 0, that is the same distribution.

    Args:
        ratio (float): See `MaskSampler`. Defaults to 0.6.
        color (str): 'green', 'blue', 'purple' or 'red'. Defaults to 'green', ColorMAE's best.

    Raises:
        UserError: Another colour; see `MaskSampler` for the ratio.
    """
    COLORS = ('green', 'blue', 'purple', 'red')
    SIGMAS = (0.75, 1.5)
    """Standard deviations in patches of the weak and the strong blur; they halve amplitudes of waves 4 and 8 patches
    long."""

    def __init__(self, ratio: float = 0.6, color: str = 'green'):
        super().__init__(ratio)
        self.color = choice('ColorNoiseMaskSampler: color', color, self.COLORS)

    def noise(self, grid: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Noise of this colour, (rows, columns)."""
        white = rng.standard_normal(grid)
        weak, strong = (gaussian_filter(white, sigma, mode='wrap') for sigma in self.SIGMAS)
        green = weak - strong
        return dict(red=strong, green=green, blue=white - weak, purple=white - green)[self.color]

    def draw(self, grid: tuple[int, int], num_masked: int, rng: np.random.Generator) -> np.ndarray:
        """See the base class."""
        mask = np.zeros(grid, bool)
        mask.flat[self.noise(grid, rng).argsort(axis=None)[mask.size - num_masked:]] = True
        return mask


@TASK_UTILS.register_module()
class BlockMaskSampler(MaskSampler):
    """Masks rectangles of random size, aspect ratio and place until enough is masked (BEiT, Bao et al. 2021, Alg. 1).

    Like BEiT's, rectangles lie inside the grid, so patches near its border are masked less often. Ours: the smallest
    area is BEiT's share of the grid (16 of 196 patches), so that smaller grids get several rectangles too; a place is
    drawn among those that mask something new, so that it always ends; and where the last rectangle would mask too
    many, a random selection of its patches is, so that the number is exact.

    Args:
        ratio (float): See `MaskSampler`. Defaults to 0.6.
    """
    SMALLEST = 16 / 196
    """Smallest area of a rectangle, as a share of the grid."""
    ASPECTS = (0.3, 1 / 0.3)
    """Height over width."""

    def draw(self, grid: tuple[int, int], num_masked: int, rng: np.random.Generator) -> np.ndarray:
        """See the base class."""
        rows, columns = grid
        mask = np.zeros(grid, bool)
        while (missing := num_masked - mask.sum()) > 0:
            area = rng.uniform(min(self.SMALLEST * mask.size, missing), missing)
            aspect = np.exp(rng.uniform(*np.log(self.ASPECTS)))  # as likely upright as lying
            height = int(np.clip(round((area * aspect)**0.5), 1, rows))
            width = int(np.clip(round((area / aspect)**0.5), 1, columns))
            news = sliding_window_view(~mask, (height, width)).any((2, 3))  # by the rectangle's upper left corner
            top, left = rng.choice(np.argwhere(news))
            block = np.zeros(grid, bool)
            block[top:top + height, left:left + width] = True
            new = np.flatnonzero(block & ~mask)
            mask.flat[rng.permutation(new)[:missing]] = True
        return mask


def expand_units(ids: np.ndarray, grid: tuple[int, int], scale: int) -> np.ndarray:
    """Indices of mask units of scale×scale patches -> indices of their patches.

    Args:
        ids (ndarray): Indices of units, in raster order.
        grid (tuple[int, int]): Rows and columns of *units*.
        scale (int): Patches along a unit's side.

    Returns:
        ndarray: Ascending indices into (rows·scale)×(columns·scale) patches.
    """
    if scale == 1:
        return np.sort(ids)
    rows, columns = grid
    patches = np.arange(rows * columns * scale**2).reshape(rows, scale, columns, scale).swapaxes(1, 2)
    return np.sort(patches.reshape(rows * columns, -1)[ids].ravel())
