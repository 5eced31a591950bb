"""Orders in which a scan may visit a grid of tokens (docs/papers.md sections 2.3, 4 and 8), and tokens put in their places.

An order is a permutation of rows * cols raster ids, int64: `tokens[:, p]` is the sequence to scan and
`scanned[:, inverse(p)]` puts the result back into raster order. Grids need not be square.
"""

import torch
from torch import Tensor


def raster(rows: int, cols: int) -> Tensor:
    """Row by row, left to right."""
    return torch.arange(rows * cols)


def reverse(rows: int, cols: int) -> Tensor:
    """Row by row from the last token to the first."""
    return raster(rows, cols).flip(0)


def column(rows: int, cols: int) -> Tensor:
    """Column by column, top to bottom."""
    return raster(rows, cols).view(rows, cols).T.reshape(-1)


def blocks(rows: int, cols: int, size: int = 3) -> Tensor:
    """Block by block of size x size tokens, raster order among blocks and inside each.

    Raises:
        ValueError: if the grid does not divide into such blocks.
    """
    if size < 1 or rows % size or cols % size:
        raise ValueError(
            f'a grid of {rows} x {cols} tokens does not divide into blocks of {size} x {size}: '
            'choose a block size that divides both sides'
        )
    grid = raster(rows, cols).view(rows // size, size, cols // size, size)
    return grid.transpose(1, 2).reshape(-1)


def placed(kept: Tensor | None, dim: int, places: Tensor | None, new: Tensor) -> Tensor:
    """What is kept of tokens, with new ones put at places (K,) int64 of a dimension; all are new where that is None."""
    return new if places is None else kept.index_copy(dim, places, new)


def inverse(permutation: Tensor) -> Tensor:
    """The permutation that undoes this one."""
    return torch.argsort(permutation)
