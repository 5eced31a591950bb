"""Mamba-2 over a grid of tokens in several orders, and the layers of ML-Mamba's scan connector (docs/papers.md 4).

Symbols: B batch, n = rows * cols tokens, d width, d_in inner width, H heads, K scans: 2 (raster and back) or 4 (with
    columns). y = W_out mean_k norm(unscan_k SSD_k(scan_k x), z): projections and norm are shared; each scan has its own
    convolution, step bias, decays and skip.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.mamba import Mamba2, no_decay
from m3et_ros.layers.scan_order import column, inverse, raster, reverse
from m3et_ros.ops.precision import work_dtype
from m3et_ros.ops.ssd import ssd

SCANS = {'bidirectional': 2, 'cross': 4}
"""Number of orders by name of the scan: BSM and CSM of the paper."""


def orders(scan: str, rows: int, cols: int) -> list[Tensor]:
    """Return permutations of the raster: row-major and back, with 'cross' also column-major and back."""
    found = [raster(rows, cols), reverse(rows, cols)]
    if SCANS[scan] == 4:
        found += [column(rows, cols), column(rows, cols).flip(0)]
    return found


class ScanMamba2(Mamba2):
    """Mamba-2 that scans a grid in 2 or 4 orders and takes the mean. It is not causal and has no state.

    Args:
        d: width.
        scan: 'bidirectional' or 'cross'.
        options: options of Mamba2.

    Raises:
        ValueError: the scan is unknown.
    """

    def __init__(self, *, d: int, scan: str = 'bidirectional', **options):
        super().__init__(d=d, **options)
        if scan not in SCANS:
            raise ValueError(f'scan is {scan!r}; give {" or ".join(SCANS)}')
        self.scan = scan
        # The first scan uses the weights of Mamba2; the others start from the same decays and step sizes.
        self.others = nn.ModuleList(_ScanWeights(self) for _ in range(SCANS[scan] - 1))

    def forward(self, u: Tensor, *, rows: int, cols: int) -> Tensor:  # type: ignore[override]
        """Mix a grid (B, rows * cols, d) in raster order."""
        z, xBC, dt = self.in_proj(u).split([self.d_in, self.conv1d.in_channels, self.H], -1)
        scans = []
        for part, order in zip((self, *self.others), orders(self.scan, rows, cols), strict=True):
            order = order.to(u.device)
            scans.append(self.norm(self._scanned(part, xBC[:, order], dt[:, order])[:, inverse(order)], z))
        return self.out_proj(sum(scans) / len(scans))

    def _scanned(self, part: 'ScanMamba2 | _ScanWeights', xBC: Tensor, dt: Tensor) -> Tensor:
        """Scan with one set of weights; return (B, n, d_in) in the order of the input."""
        lead = part.conv1d.kernel_size[0] - 1
        x, B, C = self._parts(F.silu(part.conv1d(F.pad(xBC.transpose(1, 2), (lead, 0))).transpose(1, 2)))
        assert part.A_log is not None
        A = -torch.exp(part.A_log.to(work_dtype(part.A_log)))
        y, _ = ssd(x, F.softplus(dt + part.dt_bias), A, B, C, D=part.D, chunk=self.chunk)
        return y.flatten(-2)


class _ScanWeights(nn.Module):
    """Convolution, step bias, decays and skip of one scan beyond the first."""

    def __init__(self, like: Mamba2):
        super().__init__()
        width = like.conv1d.in_channels
        self.conv1d = nn.Conv1d(width, width, like.conv1d.kernel_size[0], groups=width)
        assert like.A_log is not None
        self.dt_bias, self.A_log, self.D = (
            no_decay(values.detach().clone()) for values in (like.dt_bias, like.A_log, like.D)
        )


class SwiGLU(nn.Module):
    """W3 (SiLU(W1 x) * W2 x), all of width d with biases."""

    def __init__(self, d: int):
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class ScanLayer(nn.Module):
    """h += DropPath(ScanMamba2(h)), then h += DropPath(SwiGLU(LN h)) unless basic; no norm before the scan.

    Args:
        d: width.
        advanced: False leaves the SwiGLU out.
        drop_path: probability that a sample skips a branch in training, from 0 to below 1.
        options: options of ScanMamba2.
    """

    def __init__(self, *, d: int, advanced: bool = True, drop_path: float = 0.0, **options):
        super().__init__()
        self.mixer = ScanMamba2(d=d, **options)
        self.norm = nn.LayerNorm(d) if advanced else None
        self.mlp = SwiGLU(d) if advanced else None
        self.drop_path = drop_path

    def forward(self, x: Tensor, *, rows: int, cols: int) -> Tensor:
        """Mix a grid (B, rows * cols, d) in raster order."""
        x = x + self._dropped(self.mixer(x, rows=rows, cols=cols))
        if self.mlp is None or self.norm is None:
            return x
        return x + self._dropped(self.mlp(self.norm(x)))

    def _dropped(self, y: Tensor) -> Tensor:
        """Drop the branch of some samples in training, and scale that of the others to keep the mean."""
        if not self.drop_path or not self.training:
            return y
        stays = torch.rand(len(y), 1, 1, device=y.device) >= self.drop_path
        return y * stays / (1 - self.drop_path)
