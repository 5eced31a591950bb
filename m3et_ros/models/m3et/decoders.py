"""Task decoders and the answer head (docs/papers.md 2.3 step 6 and 2.5).

Symbols: B batch, n queries, L context tokens, d encoder width, d' decoder width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.attention import EPS, GatedCrossAttention, SemanticGate, TransformerBlock
from m3et_ros.layers.mamba import no_decay
from m3et_ros.models.m3et.config import MODALITIES, M3ETConfig


class Decoder(nn.Module):
    """Gated cross-attention from a task's own tokens to the encoder's, Transformer blocks, and one linear output.

    One instance serves one task. The text decoder returns vectors of width d for the tied word table. With
    decoder_queries 'encoded', context_positions and cross_mlp, and without gate and semantic bias, it is a decoder of
    MultiMAE, except that queries and context are projected apart (docs/papers.md 1).
    """

    def __init__(self, *, config: M3ETConfig, task: str, outputs: int):
        super().__init__()
        width = config.d_decoder
        self.modality = MODALITIES.index(task)
        self.mask_token = no_decay(torch.randn(config.d) * 0.02)
        self.attention = GatedCrossAttention(
            d_context=config.d,
            d=width,
            heads=config.decoder_heads,
            semantic_bias=config.semantic_bias,
            gate=config.gate,
            cross_attention=config.cross_attention,
        )
        placed = config.context_positions and config.cross_attention
        # One for each modality and the global token.
        self.context_types = no_decay(torch.randn(len(MODALITIES) + 1, config.d) * 0.02) if placed else None
        self.cross_mlp = ResidualMLP(width) if config.cross_mlp else None
        self.blocks = nn.ModuleList(
            TransformerBlock(d=width, heads=config.decoder_heads) for _ in range(config.decoder_blocks)
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.output = nn.Linear(width, outputs)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def queries(self, tokens: Tensor | None, visible: Tensor | None, positions: Tensor) -> Tensor:
        """Return queries (B, n, d), or (1, n, d) where the modality is absent.

        Args:
            tokens: bare tokens of the task's own modality (B, n, d); None where it is absent.
            visible: (B, n) bool, True where the token was visible to the encoder; elsewhere the mask token is used.
                None with tokens.
            positions: (n, d).
        """
        if tokens is None or visible is None:
            return (self.mask_token + positions)[None]
        return torch.where(visible[..., None], tokens, self.mask_token.to(tokens.dtype)) + positions

    def forward(
        self,
        queries: Tensor,
        context: Tensor,
        *,
        summary: Tensor,
        gate: SemanticGate | None,
        context_mask: Tensor | None = None,
        query_mask: Tensor | None = None,
        causal: bool = False,
        positions: Tensor | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Decode.

        Args:
            queries: (B, n, d).
            context: encoder output (B, L, d).
            summary: summary of the text, (B, d).
            gate: the semantic gate, which all decoders share; None in the ablation without it.
            context_mask: (B, L) bool, False for pads.
            query_mask: (B, n) bool, False for pads.
            causal: a query does not attend to later queries.
            positions: positions of the context, (B, L, d); needed with context_positions.
            source: Encoded.source of the context; needed with context_positions.

        Returns:
            (B, n, outputs).
        """
        if self.context_types is not None:
            if positions is None or source is None:
                raise ValueError('this decoder adds positions to its context; give positions and source')
            context = context + positions + F.embedding(source, self.context_types)
            queries = queries + self.context_types[self.modality]
        y = self.attention(queries, context, summary, gate=gate, mask=context_mask)
        if self.cross_mlp is not None:
            y = self.cross_mlp(y)
        for block in self.blocks:
            y = block(y, mask=query_mask, causal=causal)
        return self.output(self.norm(y))


class ResidualMLP(nn.Module):
    """x + MLP(LN x), with a hidden layer four times as wide and GELU: (B, n, d') -> (B, n, d')."""

    def __init__(self, d: int):
        super().__init__()
        self.norm = nn.LayerNorm(d, eps=EPS)
        wide, narrow = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        for layer in (wide, narrow):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(wide, nn.GELU(), narrow)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, d')."""
        return x + self.layers(self.norm(x))


class AnswerHead(nn.Module):
    """Scores of candidate answers from the global token: (B, d) -> (B, answers)."""

    def __init__(self, *, d: int, answers: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(d, 2 * d), nn.GELU(), nn.LayerNorm(2 * d, eps=EPS), nn.Linear(2 * d, answers)
        )

    def forward(self, token: Tensor) -> Tensor:
        """Return logits (B, answers) of a global token (B, d)."""
        return self.layers(token)


def build_decoders(config: M3ETConfig) -> nn.ModuleDict:
    """Return one decoder per task of the config."""
    outputs = {
        'rgb': 3 * config.patch**2,
        'depth': config.patch**2,
        'semseg': config.classes * config.semseg_patch**2,
        'text': config.d,
    }
    return nn.ModuleDict({task: Decoder(config=config, task=task, outputs=outputs[task]) for task in config.tasks})
