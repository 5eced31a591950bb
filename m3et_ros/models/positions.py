"""Fixed two-dimensional sine-cosine positions (MultiMAE, MAE; papers.md, sections 1 and 2.3)."""

import torch
from torch import Tensor


def sincos_2d(rows: int, columns: int, d: int) -> Tensor:
    """Return the positions (rows * columns, d) of a raster-ordered grid, float32, each entry in [-1, 1].

    The first half of a vector tells the column, the second half the row; each is d/4 sines beside d/4 cosines of
    wavelengths from 2 pi to 20,000 pi.

    Raises:
        ValueError: d is not a multiple of 4.
    """
    if d % 4:
        raise ValueError(f'd is {d}; give a multiple of 4')
    frequencies = 10000.0 ** -(torch.arange(d // 4, dtype=torch.float64) / (d // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
    angles = torch.stack([column.flatten(), row.flatten()], 1)[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1).float()
