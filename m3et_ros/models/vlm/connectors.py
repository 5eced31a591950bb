"""Connectors from visual tokens to a language model (docs/papers.md 4, 5 and 6).

    mlp       d_vision -> 4 d_vision -> d -> d                       (Cobra, EMMA, the baseline of ML-Mamba)
    short     d_vision -> d -> d                                     (TinyLLaVA, MaTVLM)
    basic     d_vision -> d, scan layers, d -> 4 d -> d -> d         (ML-Mamba's MSC without SwiGLU)
    advanced  the same with SwiGLU after every scan                  (ML-Mamba's MSC)

All matrices have a GELU between them. The Mamba-2 Scan Connector (MSC) of ML-Mamba scans the image, which has no order
of its own, in several directions: 'bidirectional' is the raster and its reverse (BSM), 'cross' adds the columns (CSM).
A layer is h = h + DropPath(Scan(h)), and for 'advanced' also h = h + DropPath(SwiGLU(LN h)).

Symbols: B batch, n = rows * cols visual tokens in raster order, d_vision their width, d width of the language model.
"""

import itertools
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.scan2d import SCANS, ScanLayer
from m3et_ros.models.config_checks import check_choice, check_divides, check_number, check_whole

KINDS = ('mlp', 'short', 'basic', 'advanced')
RANGES = {
    'd_vision': (1, 65536),
    'd': (1, 65536),
    'rows': (1, 1024),
    'cols': (1, 1024),
    'layers': (1, 64),
    'expand': (1, 16),
    'N': (1, 4096),
    'P': (1, 4096),
    'G': (1, 1024),
    'd_conv': (1, 64),
    'chunk': (1, 4096),
}


@dataclass(frozen=True)
class ConnectorConfig:
    """Sizes and switches of one connector; the defaults are tiny.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # One of mlp, short, basic and advanced.
    kind: str = 'advanced'
    # Width of the visual tokens.
    d_vision: int = 48
    # Width of the language model.
    d: int = 64
    # Rows of the largest grid of visual tokens.
    rows: int = 9
    # Columns of the largest grid of visual tokens.
    cols: int = 9
    # 'bidirectional' scans the raster forward and backward, 'cross' the columns too.
    scan: str = 'bidirectional'
    # Scan layers.
    layers: int = 2
    # Inner width of a scan as a multiple of d.
    expand: int = 2
    # States of a channel.
    N: int = 16
    # Channels of a head; divides expand * d.
    P: int = 16
    # Groups of heads that share B and C.
    G: int = 1
    # Length of the causal convolutions.
    d_conv: int = 4
    # Longest chunk of a scan, tokens.
    chunk: int = 64
    # Probability that a sample skips a branch of the last scan layer in training, falling to 0 at the first: 0..0.9.
    drop_path: float = 0.1

    def __post_init__(self):
        check_whole(self, RANGES)
        check_choice(self, {'kind': KINDS, 'scan': tuple(SCANS)})
        check_number(self, {'drop_path': (0, 0.9)})
        if self.scans:
            check_divides(self, 'P', self.expand * self.d, 'expand * d')
            check_divides(self, 'G', self.expand * self.d // self.P, 'the heads')

    @property
    def scans(self) -> bool:
        """Return True if the connector scans, so that the grid of the visual tokens matters."""
        return self.kind in ('basic', 'advanced')

    @property
    def tokens(self) -> int:
        """Return the largest number of visual tokens."""
        return self.rows * self.cols

    def grid(self, tokens: int, given: tuple[int, int] | None = None) -> tuple[int, int]:
        """Return rows and columns of the visual tokens.

        Args:
            tokens: their number.
            given: rows and columns, if known.

        Raises:
            ValueError: more tokens than the model was built for, or a grid that they do not fill.
        """
        if tokens > self.tokens:
            raise ValueError(
                f'there are {tokens} visual tokens and the model was built for {self.tokens} '
                f'({self.rows} x {self.cols}); give a smaller image or build it for a larger grid'
            )
        if given is None and not self.scans and tokens != self.tokens:
            return 1, tokens
        rows, cols = given or (self.rows, self.cols)
        if rows * cols != tokens:
            raise ValueError(
                f'{tokens} visual tokens do not fill a grid of {rows} x {cols}; give the grid that they come from'
            )
        return rows, cols


class Connector(nn.Module):
    """Visual tokens (B, n, d_vision) -> vectors (B, n, d) for a language model."""

    def __init__(self, config: ConnectorConfig):
        super().__init__()
        self.config = config
        self.input: nn.Linear | None = None
        self.norm: nn.LayerNorm | None = None
        self.layers = nn.ModuleList()
        if config.scans:
            self.input = nn.Linear(config.d_vision, config.d)
            self.layers.extend(_scan_layer(config, index) for index in range(config.layers))
            self.norm = nn.LayerNorm(config.d)
        self.projector = _projector(config)

    def forward(self, features: Tensor, *, grid: tuple[int, int] | None = None) -> Tensor:
        """Map visual tokens to the width of the language model.

        Args:
            features: (B, n, d_vision), raster order.
            grid: rows and columns of the n tokens; None takes those of the config.

        Returns:
            (B, n, d).

        Raises:
            ValueError: more tokens than the connector was built for, a grid that they do not fill, another width.
        """
        if features.dim() != 3 or features.shape[2] != self.config.d_vision:
            raise ValueError(
                f'the visual tokens are {tuple(features.shape)}; give (batch, tokens, {self.config.d_vision})'
            )
        rows, cols = self.config.grid(features.shape[1], grid)
        if self.input is not None and self.norm is not None:
            features = F.gelu(self.input(features))
            for layer in self.layers:
                features = layer(features, rows=rows, cols=cols)
            features = self.norm(features)
        return self.projector(features)


def _scan_layer(config: ConnectorConfig, index: int) -> ScanLayer:
    return ScanLayer(
        d=config.d,
        advanced=config.kind == 'advanced',
        drop_path=config.drop_path * index / max(1, config.layers - 1),
        scan=config.scan,
        expand=config.expand,
        N=config.N,
        P=config.P,
        G=config.G,
        d_conv=config.d_conv,
        chunk=config.chunk,
    )


def _projector(config: ConnectorConfig) -> nn.Sequential:
    first = config.d if config.scans else config.d_vision
    widths = (first, config.d, config.d) if config.kind == 'short' else (first, 4 * first, config.d, config.d)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [nn.GELU(), linear] if layers else [linear]
    return nn.Sequential(*layers)
