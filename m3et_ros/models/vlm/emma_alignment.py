"""EMMA's training-time modules: multi-scale feature fusion and the decoder that predicts the image (docs/papers.md 5).

    f_1 .. f_K = split(Linear(concat_k LN h_k)), channel K c + k to stream k
    q = a learned token n times, in 3 x 3 blocks of the grid
    q += CrossAttn(LN q, LN f_k);  q += Mamba2(RMSNorm(LN q)), k = 1 .. K
    prediction = Linear(LN q) (B, n, d_target), in block order

The mask of the cross-attention is causal over segments of S tokens: a query reads its own segment and earlier ones.
Queries, keys and targets are in block order. In the released code keys stay in raster order: `released_order`.

Symbols: B batch, n = rows * cols visual tokens, d width, K taps (layers whose outputs are read), H heads, S tokens of a
segment, p patch side in pixels, d_target width of a target.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from m3et_ros.layers.attention import EPS, scaled_attention
from m3et_ros.layers.mamba import Mamba2, no_decay
from m3et_ros.layers.scan_order import blocks
from m3et_ros.models.config_checks import check_choice, check_divides, check_switch, check_whole
from m3et_ros.models.m3et.adapters import patchify

TARGETS = ('pixels', 'patch', 'deep')
RANGES = {
    'rows': (3, 1024),
    'cols': (3, 1024),
    'd': (1, 65536),
    'd_target': (1, 65536),
    'heads': (1, 1024),
    'segment': (9, 1_000_000),
    'patch': (1, 256),
    'expand': (1, 16),
    'N': (1, 4096),
    'P': (1, 4096),
    'G': (1, 1024),
    'd_conv': (1, 64),
    'chunk': (1, 4096),
}


@dataclass(frozen=True)
class AlignmentConfig:
    """Sizes and switches of the alignment head; the defaults are tiny.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Rows of the grid of visual tokens, a multiple of 3.
    rows: int = 9
    # Columns of the grid of visual tokens, a multiple of 3.
    cols: int = 9
    # Width of the language model's hidden states.
    d: int = 64
    # Indices of the language layers that are read, rising; each has a decoder block.
    taps: tuple[int, ...] = (0, 1, 2, 3)
    # Heads of the cross-attention; divides d.
    heads: int = 4
    # Tokens of a segment, a multiple of 9 that divides rows * cols.
    segment: int = 27
    # Target of the prediction: 'pixels' of a patch, its 'patch' embedding (published), or 'deep' encoder features.
    target: str = 'patch'
    # Width of the target; 3 patch^2 for pixels.
    d_target: int = 48
    # Side of a patch in pixels.
    patch: int = 4
    # True standardises every target token to mean 0 and variance 1 (published).
    standardise: bool = True
    # True leaves keys in raster order while queries are in block order, as in the released code.
    released_order: bool = False
    # Inner width of the decoder's Mamba-2 as a multiple of d.
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

    def __post_init__(self):
        object.__setattr__(self, 'taps', tuple(self.taps))
        check_whole(self, RANGES)
        check_choice(self, {'target': TARGETS})
        check_switch(self, 'standardise', 'released_order')
        if self.rows % 3 or self.cols % 3:
            raise ValueError(
                f'the grid is {self.rows} x {self.cols}; give rows and columns that are multiples of 3, '
                'for the blocks of 3 x 3 tokens'
            )
        if self.segment % 9 or (self.rows * self.cols) % self.segment:
            raise ValueError(
                f'segment is {self.segment}; give a multiple of 9 that divides the {self.rows * self.cols} tokens'
            )
        if not self.taps or list(self.taps) != sorted(set(self.taps)) or self.taps[0] < 0:
            raise ValueError(f'taps is {self.taps!r}; give indices of layers, rising from 0')
        if self.target == 'pixels' and self.d_target != 3 * self.patch**2:
            raise ValueError(f'd_target is {self.d_target}; give 3 patch^2 = {3 * self.patch**2} for pixels')
        check_divides(self, 'heads', self.d, 'd')
        check_divides(self, 'P', self.expand * self.d, 'expand * d')
        check_divides(self, 'G', self.expand * self.d // self.P, 'the heads of Mamba-2')


class MultiScaleFusion(nn.Module):
    """Mixes hidden states of K layers, each (B, n, d), into K streams of all of them."""

    def __init__(self, *, d: int, streams: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(streams))
        self.mix = nn.Linear(streams * d, streams * d)

    def forward(self, hidden: list[Tensor]) -> list[Tensor]:
        """Map K tensors (B, n, d) to K tensors (B, n, d)."""
        joined = torch.cat([norm(h) for norm, h in zip(self.norms, hidden, strict=True)], -1)
        return list(self.mix(joined).unflatten(-1, (-1, len(hidden))).unbind(-1))


class SegmentAttention(nn.Module):
    """Cross-attention of n queries to the n keys of their own and earlier segments; all projections have biases."""

    def __init__(self, *, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor, *, segment: int) -> Tensor:
        """Attend from x to context, both (B, n, d) with n a multiple of segment; returns (B, n, d)."""
        q, k, v = (
            project(t).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, t in ((self.q, x), (self.k, context), (self.v, context))
        )
        number = torch.arange(x.shape[1], device=x.device) // segment
        read = scaled_attention(q, k, v, mask=(number[:, None] >= number)[None, None])
        return self.out(read.transpose(1, 2).flatten(2))


class AlignmentBlock(nn.Module):
    """q += CrossAttn(LN q, LN f); q += Mamba2(RMSNorm(LN q)); no MLP, as released."""

    def __init__(self, config: AlignmentConfig):
        super().__init__()
        d = config.d
        self.norm_query, self.norm_context, self.norm_mixer = (nn.LayerNorm(d) for _ in range(3))
        self.attention = SegmentAttention(d=d, heads=config.heads)
        self.rms = nn.RMSNorm(d, eps=1e-5)
        self.mixer = Mamba2(
            d=d, expand=config.expand, N=config.N, P=config.P, G=config.G, d_conv=config.d_conv, chunk=config.chunk
        )

    def forward(self, q: Tensor, stream: Tensor, *, segment: int) -> Tensor:
        """Update the queries q (B, n, d) by a stream (B, n, d)."""
        q = q + self.attention(self.norm_query(q), self.norm_context(stream), segment=segment)
        return q + self.mixer(self.rms(self.norm_mixer(q)))


class AlignmentHead(nn.Module):
    """Predicts the image from hidden states of the language model at the visual tokens; for training only."""

    patch_weight: Tensor
    patch_bias: Tensor

    def __init__(self, config: AlignmentConfig):
        super().__init__()
        self.config = config
        self.fusion = MultiScaleFusion(d=config.d, streams=len(config.taps))
        self.query = no_decay(torch.randn(1, 1, config.d) * 0.02)
        self.blocks = nn.ModuleList(AlignmentBlock(config) for _ in config.taps)
        self.norm = nn.LayerNorm(config.d)
        self.output = nn.Linear(config.d, config.d_target)
        if config.target == 'patch':
            # Frozen copy of the image encoder's; all zero until set_patch_embedding is called.
            self.register_buffer('patch_weight', torch.zeros(config.d_target, 3 * config.patch**2))
            self.register_buffer('patch_bias', torch.zeros(config.d_target))
        # In a tuple, because a submodule would be trained and stored.
        self._patch_encoder: tuple[nn.Module, ...] = ()

    def forward(self, hidden: Mapping[int, Tensor]) -> Tensor:
        """Predict the image.

        Args:
            hidden: outputs (B, n, d) of the layers of config.taps at the visual tokens, by index, in raster order.

        Returns:
            (B, n, d_target), in block order.

        Raises:
            ValueError: a tap is missing, or there are not rows * cols tokens.
        """
        streams = self.fusion([self._tap(hidden, index) for index in self.config.taps])
        if not self.config.released_order:
            streams = [stream[:, self.order(stream.device)] for stream in streams]
        q = self.query.expand_as(streams[0])
        for block, stream in zip(self.blocks, streams, strict=True):
            q = block(q, stream, segment=self.config.segment)
        return self.output(self.norm(q))

    def order(self, device: torch.device) -> Tensor:
        """Return the raster ids (n,) int64 in block order."""
        return blocks(self.config.rows, self.config.cols).to(device)

    @torch.no_grad()
    def targets(self, *, images: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Return the targets of the prediction, (B, n, d_target) in block order.

        Args:
            images: (B, 3, height, width) as the image encoder takes them, for pixels and patch; an incomplete patch at
                the right or lower edge is left out.
            features: deep features (B, n, d_target), raster order, for deep.

        Raises:
            ValueError: the input of the target is missing or of another size, or the patch embedding was never set.
        """
        if self.config.target == 'deep':
            found = self._checked(features)
        else:
            pixels = self._cropped(images)
            found = patchify(pixels, self.config.patch)
            if self._patch_encoder:
                found = self._patch_encoder[0].to(pixels.device)(pixels).float()
            elif self.config.target == 'patch':
                if not bool(self.patch_weight.any()):
                    raise ValueError(
                        'the patch embedding was never set; call set_patch_embedding or set_patch_encoder with that '
                        'of the encoder'
                    )
                found = nn.functional.linear(found, self.patch_weight, self.patch_bias)
        if self.config.standardise:
            found = (found - found.mean(-1, keepdim=True)) / (found.var(-1, keepdim=True) + EPS).sqrt()
        return found[:, self.order(found.device)]

    @torch.no_grad()
    def set_patch_embedding(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Copy the image encoder's patch embedding.

        Args:
            weight: (d_target, 3, p, p) or (d_target, 3 p^2).
            bias: (d_target,); None = zeros.

        Raises:
            ValueError: another shape, or a head with another target.
        """
        if self.config.target != 'patch':
            raise ValueError(f'target is {self.config.target}; only a head that predicts patch embeddings needs them')
        weight = weight.flatten(1)
        if weight.shape != self.patch_weight.shape:
            raise ValueError(f'the patch embedding is {tuple(weight.shape)}; give {tuple(self.patch_weight.shape)}')
        self.patch_weight.copy_(weight)
        self.patch_bias.copy_(torch.zeros_like(self.patch_bias) if bias is None else bias)

    @torch.no_grad()
    def set_patch_encoder(self, encoder: nn.Module) -> None:
        """Predict a frozen copy of a patch embedding of any form; it is not stored with the head.

        Args:
            encoder: maps (B, 3, rows p, cols p) to (B, n, d_target) in raster order.

        Raises:
            ValueError: the output has another shape, or the head has another target.
        """
        config = self.config
        if config.target != 'patch':
            raise ValueError(f'target is {config.target}; only a head that predicts patch embeddings needs them')
        frozen = copy.deepcopy(encoder).eval().requires_grad_(False)
        like = next(frozen.parameters())
        found = tuple(frozen(like.new_zeros(1, 3, config.rows * config.patch, config.cols * config.patch)).shape[1:])
        if found != (config.rows * config.cols, config.d_target):
            raise ValueError(f'the patch embedding gives {found}; give {(config.rows * config.cols, config.d_target)}')
        self._patch_encoder = (frozen,)

    def _tap(self, hidden: Mapping[int, Tensor], index: int) -> Tensor:
        """Return the output of a layer."""
        tokens = self.config.rows * self.config.cols
        if index not in hidden or hidden[index].shape[1] != tokens:
            found = f'has {hidden[index].shape[1]} tokens' if index in hidden else 'is missing'
            raise ValueError(f'the output of layer {index} {found}; give it at {tokens} visual tokens')
        return hidden[index]

    def _cropped(self, images: Tensor | None) -> Tensor:
        """Return the whole patches of images."""
        patch = self.config.patch
        height, width = self.config.rows * patch, self.config.cols * patch
        found = None if images is None else tuple(images.shape[1:])
        if images is not None and images.dim() == 4 and images.shape[1] == 3:
            beyond = images.shape[2] - height, images.shape[3] - width
            if min(beyond) >= 0 and max(beyond) < patch:
                return images[:, :, :height, :width]
        raise ValueError(f'the images are {found}; the target {self.config.target} needs (3, {height}, {width})')

    def _checked(self, features: Tensor | None) -> Tensor:
        """Return deep features of the right size."""
        wanted = (self.config.rows * self.config.cols, self.config.d_target)
        if features is None or tuple(features.shape[1:]) != wanted:
            found = None if features is None else tuple(features.shape[1:])
            raise ValueError(f'the features are {found}; the target deep needs {wanted}')
        return features
