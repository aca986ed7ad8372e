"""Mask samplers: which patches of a sample are kept, and which are the rest."""
import numpy as np
from mmengine.registry import TASK_UTILS

from coma_mm.errors import UserError


@TASK_UTILS.register_module()
class UniformMaskSampler:
    """Masks round(n · ratio) of n patches, each subset with the same probability (MAE's random masking).

    A mask sampler is called with one sample's grid and a generator, and returns two disjoint index sets that cover the
    grid. What becomes of the second set (nothing in MAE, the evaluation model in CoMA) is not the sampler's business.

    Args:
        ratio (float): Share of patches that are masked, in (0, 1). Defaults to 0.6, the paper's: of 49 patches,
            round(49 · 0.4) = 20 are kept.

    Raises:
        UserError: ``ratio`` outside (0, 1), or no patch left on one side at the given grid.
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
        order = rng.permutation(grid[0] * grid[1])
        keep = self.num_keep(grid)
        return np.sort(order[:keep]), np.sort(order[keep:])


def expand_units(ids: np.ndarray, grid: tuple[int, int], scale: int) -> np.ndarray:
    """Indices of mask units of scale×scale patches -> indices of their patches.

    Args:
        ids (ndarray): Indices of units, in raster order.
        grid (tuple[int, int]): Rows and columns of *units*.
        scale (int): Patches along a unit's side.

    Returns:
        ndarray: Ascending indices into (rows·scale)×(columns·scale) patches.
    """
    rows, columns = grid
    patches = np.arange(rows * columns * scale**2).reshape(rows, scale, columns, scale).swapaxes(1, 2)
    return np.sort(patches.reshape(rows * columns, -1)[ids].ravel())
