"""Orders in which a scan may visit a grid of tokens (docs/papers.md 2.3, 4 and 8), and the replacement of tokens.

An order is a permutation of rows * cols raster ids, int64: `tokens[:, p]` is the sequence to scan and
`scanned[:, inverse(p)]` puts the result back into raster order. Grids need not be square.
"""

import torch
from torch import Tensor


def raster(rows: int, cols: int) -> Tensor:
    """Return the order row by row, left to right."""
    return torch.arange(rows * cols)


def reverse(rows: int, cols: int) -> Tensor:
    """Return the order row by row from the last token to the first."""
    return raster(rows, cols).flip(0)


def column(rows: int, cols: int) -> Tensor:
    """Return the order column by column, top to bottom."""
    return raster(rows, cols).view(rows, cols).T.reshape(-1)


def blocks(rows: int, cols: int, size: int = 3) -> Tensor:
    """Return the order block by block of size x size tokens, raster order among blocks and inside each.

    Raises:
        ValueError: the grid does not divide into such blocks.
    """
    if size < 1 or rows % size or cols % size:
        raise ValueError(
            f'a grid of {rows} x {cols} tokens does not divide into blocks of {size} x {size}: '
            'choose a block size that divides both sides'
        )
    grid = raster(rows, cols).view(rows // size, size, cols // size, size)
    return grid.transpose(1, 2).reshape(-1)


def inverse(permutation: Tensor) -> Tensor:
    """Return the permutation that undoes this one."""
    return torch.argsort(permutation)


def replaced_tokens(cached: Tensor | None, dim: int, indices: Tensor | None, new: Tensor) -> Tensor:
    """Return `cached` with the tokens at `indices` (K,) int64 along `dim` replaced by `new`.

    Without `cached` or `indices`, `new` holds all tokens in order and is returned.
    """
    if cached is None or indices is None:
        return new
    return cached.index_copy(dim, indices, new)
