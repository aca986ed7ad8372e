"""Average pooling to a fixed number of cells from maps of any size, which ONNX has no operator for."""
import torch
from torch import nn


class AdaptiveAveragePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` as two products of matrices, which can be exported for maps of any size.

    Args:
        size (tuple[int, int]): Rows and columns of the output.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, rows, columns)."""
        rows, columns = (_shares(cells, side, x) for cells, side in zip(self.size, x.shape[-2:], strict=True))
        return rows @ x @ columns.mT


def _shares(cells: int, side: int, like: torch.Tensor) -> torch.Tensor:
    """How much each of `side` pixels counts in the mean of each cell: (cells, side)."""
    cell = torch.arange(cells, device=like.device)[:, None]
    pixel = torch.arange(side, device=like.device)
    start, end = cell * side // cells, ((cell + 1) * side + cells - 1) // cells
    inside = ((pixel >= start) & (pixel < end)).to(like.dtype)
    return inside / (end - start)


def exportable_pools(module: nn.Module) -> nn.Module:
    """Put `AdaptiveAveragePool` in the place of every `nn.AdaptiveAvgPool2d` inside a module, but for means of all.

    Args:
        module (nn.Module): Changed in place.

    Returns:
        nn.Module: The same.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            size = child.output_size
            size = (size, size) if isinstance(size, int) else tuple(size)
            if size != (1, 1) and None not in size:
                setattr(module, name, AdaptiveAveragePool(size))
        else:
            exportable_pools(child)
    return module
