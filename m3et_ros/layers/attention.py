"""Attention: the Transformer block and the gated cross-attention of the M3ET decoders.

Symbols: B batch, L tokens, n queries, d width, H heads.
A mask is (B, L) bool over keys, True = may be looked at. A query that may look at nothing gets zeros, never NaN.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.layers.scan_order import placed

EPS = 1e-6  # of every LayerNorm in the Transformer parts (MultiMAE, ViT)


class HeadAttention(NamedTuple):
    """One head's queries, and the keys before them that they may look at.

    q: (B * each, L, d / H), those that follow one sample one after the other.
    k: (B, K, d / H).
    mask: (B, K) bool, True = may be looked at; None = all.
    """

    q: Tensor
    k: Tensor
    mask: Tensor | None

    def weights(self, places: Tensor) -> Tensor:
        """Attention to K of some of the L queries, places (B * each, P) int64: (B, each * P, K), which sum to 1."""
        q = self.q.gather(1, places[..., None].expand(-1, -1, self.q.shape[-1]))
        q = q.unflatten(0, (len(self.k), -1)).flatten(1, 2) * self.q.shape[-1] ** -0.5
        logits = q @ self.k.transpose(-1, -2)
        if self.mask is not None:
            logits = logits.masked_fill(~self.mask[:, None], torch.finfo(logits.dtype).min)
        return logits.float().softmax(-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention (B, L, d) -> (B, L, d) with one biased projection for q, k and v."""

    def __init__(self, *, d: int, heads: int):
        super().__init__()
        _check_heads(d, heads)
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.proj = nn.Linear(d, d)
        # q, k and v start as three square matrices would (MultiMAE).
        for part in self.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.proj.bias)

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False, state: AttentionState | None = None
    ) -> tuple[Tensor, AttentionState]:
        """Attend within x and to what went before.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, hides invalid keys of x.
            causal: hides later tokens of x.
            state: of the tokens before x, of B samples or of fewer, each for as many rows of x, one after the other;
                None = nothing went before.

        Returns:
            (B, L, d), and the state with x in it; of x alone where rows share what went before.
        """
        q, k, v = (_split(t, self.heads) for t in self.qkv(x).chunk(3, -1))
        if state is not None and len(state.k) < len(k):
            own = AttentionState(k, v, mask)
            return self.proj(_merge(_attend_shared(q, state, own, causal))), own
        state = AttentionState(k, v, mask) if state is None else state.extended(k, v, mask)
        return self.proj(_merge(attend(q, state, causal))), state

    def renew(self, x: Tensor, places: Tensor | None, kept: AttentionState | None) -> tuple[Tensor, AttentionState]:
        """Attend from some tokens x (B, K, d), at places (K,) int64, to all of kept with these in it; None: to x."""
        q, k, v = (_split(t, self.heads) for t in self.qkv(x).chunk(3, -1))
        k, v = (placed(old, 2, places, new) for old, new in zip(kept[:2] if kept else (None, None), (k, v)))
        kept = AttentionState(k, v, None)
        return self.proj(_merge(attend(q, kept, False))), kept

    def look(self, x: Tensor, before: AttentionState) -> HeadAttention:
        """Return where the first head of tokens x, (B * each, L, d), looks among the tokens before them."""
        wide = before.k.shape[-1]
        return HeadAttention(F.linear(x, self.qkv.weight[:wide], self.qkv.bias[:wide]), before.k[:, 0], before.mask)


class TransformerBlock(nn.Module):
    """x += Attention(LN x); x += MLP(LN x), pre-norm, GELU (docs/papers.md section 0)."""

    def __init__(self, *, d: int, heads: int, mlp_ratio: float = 4):
        super().__init__()
        self.norm1 = nn.LayerNorm(d, eps=EPS)
        self.attention = SelfAttention(d=d, heads=heads)
        self.norm2 = nn.LayerNorm(d, eps=EPS)
        hidden = int(d * mlp_ratio)
        self.mlp = nn.Sequential(_linear(d, hidden), nn.GELU(), _linear(hidden, d))

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        state: AttentionState | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple:
        """(B, L, d) -> (B, L, d), with return_state also the state; arguments as SelfAttention."""
        attended, state = self.attention(self.norm1(x), mask=mask, causal=causal, state=state)
        x = x + attended
        x = x + self.mlp(self.norm2(x))
        return (x, state) if return_state else x

    def renew(self, x: Tensor, places: Tensor | None, kept: AttentionState | None) -> tuple:
        """Some tokens (B, K, d) anew among those of an earlier pass: theirs, what is kept, the state after all.

        Args:
            x: the new ones.
            places: theirs, (K,) int64, distinct; None = x is all tokens, in order.
            kept: of the pass before; None with places.
        """
        attended, kept = self.attention.renew(self.norm1(x), places, kept)
        x = x + attended
        return x + self.mlp(self.norm2(x)), kept, kept

    def look(self, x: Tensor, before: AttentionState) -> HeadAttention:
        """What SelfAttention.look says of this block's input."""
        return self.attention.look(self.norm1(x), before)


class SemanticGate(nn.Module):
    """How open the cross-attention is at each query, given the text: sigmoid(W2 GELU(W1 [x ; summary])).

    One gate serves all decoders, so it is handed to `GatedCrossAttention.forward` and owned by the model.
    """

    def __init__(self, *, d_context: int, hidden: int, d: int):
        super().__init__()
        self.d_context = d_context
        self.w1 = _linear(2 * d_context, hidden)
        self.w2 = _linear(hidden, d)
        nn.init.constant_(self.w2.bias, 2.0)  # mostly open at the start

    def forward(self, x: Tensor, summary: Tensor) -> Tensor:
        """Queries x (B, n, d_context), summary (B, d_context) -> gate (B, n, d) in (0, 1)."""
        # The summary's half of W1 is applied once, not once a query.
        on_x, on_summary = self.w1.weight.split(self.d_context, 1)
        hidden = F.linear(x, on_x, self.w1.bias) + F.linear(summary, on_summary)[:, None]
        return torch.sigmoid(self.w2(F.gelu(hidden)))


class GatedCrossAttention(nn.Module):
    """Decoder queries read the encoder through text-weighted, gated attention (docs/papers.md 2.3 step 6).

    q = W_q LN(x), k = W_k LN(c), v = W_v LN(c); s_j = cos(W_k LN(c_j), W_q LN(summary)) in [-1, 1];
    logits_h(i, j) = q_i k_j / sqrt(d / H) + beta_h s_j;  y = gate * W_o(attended) + (1 - gate) * q.

    Args:
        d_context: width of queries, context and summary.
        d: width of the output.
        heads: heads H; divides d.
        semantic_bias: add beta_h s_j (beta starts at 0, so training starts as plain cross-attention).
        gate: mix attended and query values; without it y = W_o(attended).
        cross_attention: False ignores the context altogether, y = q (the published ~16 dB ablation).
    """

    def __init__(
        self,
        *,
        d_context: int,
        d: int,
        heads: int,
        semantic_bias: bool = True,
        gate: bool = True,
        cross_attention: bool = True,
    ):
        super().__init__()
        _check_heads(d, heads)
        self.heads, self.gated, self.cross_attention = heads, gate, cross_attention
        self.norm_query = nn.LayerNorm(d_context, eps=EPS)
        self.w_q = _linear(d_context, d)
        if not cross_attention:
            return
        self.norm_context = nn.LayerNorm(d_context, eps=EPS)
        self.w_k = _linear(d_context, d)
        self.w_v = _linear(d_context, d)
        self.w_o = _linear(d, d)
        self.beta = nn.Parameter(torch.zeros(heads)) if semantic_bias else None

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        summary: Tensor,
        *,
        gate: SemanticGate | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Read the context.

        Args:
            x: queries (B, n, d_context), or (1, n, d_context) where all samples ask the same.
            context: encoder outputs (B, L, d_context).
            summary: text summary or global token (B, d_context).
            gate: the shared gate; needed when this module was built with gate=True.
            mask: (B, L) bool, True = valid context token.

        Returns:
            (B, n, d).

        Raises:
            ValueError: built with gate=True but called without one.
        """
        q = self.w_q(self.norm_query(x))
        if not self.cross_attention:
            return q
        if self.gated and gate is None:
            raise ValueError('this decoder was built with gate=True but got no gate: pass gate=SemanticGate(...)')
        read = self._read(q, context, summary, mask)
        return torch.lerp(q, read, gate(x, summary).to(q.dtype)) if self.gated else read

    def _read(self, q: Tensor, context: Tensor, summary: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.norm_context(context)
        k = self.w_k(normed)
        bias = self._bias(k, summary, mask)
        q = q.expand(len(context), -1, -1)
        q, k, v = (_split(t, self.heads) for t in (q, k, self.w_v(normed)))
        if bias is not None:
            bias = bias.expand(*q.shape[:3], -1)
        attended = scaled_attention(q, k, v, mask=bias)
        if mask is not None:
            attended = attended * mask.any(1)[:, None, None, None]
        return self.w_o(_merge(attended))

    def _bias(self, k: Tensor, summary: Tensor, mask: Tensor | None) -> Tensor | None:
        """What is added to the logits (B, H or 1, 1, L), or None."""
        bias = None
        if self.beta is not None:
            meaning = F.cosine_similarity(k, self.w_q(self.norm_query(summary))[:, None], dim=-1)
            bias = self.beta[:, None, None] * meaning[:, None, None]
        if mask is None:
            return bias
        hidden = ~(mask | ~mask.any(1, keepdim=True))[:, None, None]
        return torch.zeros_like(hidden, dtype=k.dtype).masked_fill(hidden, -torch.inf) + (0 if bias is None else bias)


def attend(q: Tensor, state: AttentionState, causal: bool) -> Tensor:
    """Read the state with queries (B, H, L, d/H), which belong to its last L tokens: (B, H, L, d/H)."""
    length, keys = q.shape[2], state.k.shape[2]
    if state.mask is None and (not causal or length == keys):
        return scaled_attention(q, state.k, state.v, causal=causal)
    allowed = q.new_ones(1, 1, 1, keys, dtype=torch.bool) if state.mask is None else state.mask[:, None, None]
    if causal:
        allowed = allowed & torch.ones(length, keys, dtype=torch.bool, device=q.device).tril(keys - length)
    sees = allowed.any(-1, keepdim=True)
    return scaled_attention(q, state.k, state.v, mask=allowed | ~sees) * sees


def _attend_shared(q: Tensor, before: AttentionState, own: AttentionState, causal: bool) -> Tensor:
    """Read own keys and those before, which `each` rows share: keys and values before are not repeated for them.

    Symbols: B samples before, `each` rows of q for each, K keys before.
    """
    each, length = len(q) // len(before.k), q.shape[2]

    def fold(rows: Tensor) -> Tensor:  # (B * each, H, L, n) -> (B, H, each * L, n)
        return rows.unflatten(0, (-1, each)).transpose(1, 2).flatten(2, 3)

    def unfold(rows: Tensor) -> Tensor:
        return rows.unflatten(2, (each, length)).transpose(1, 2).flatten(0, 1)

    q = q * q.shape[-1] ** -0.5
    logits = torch.cat([unfold(fold(q) @ before.k.transpose(-1, -2)), q @ own.k.transpose(-1, -2)], -1)
    allowed = _allowed(before, own, each)
    if causal:
        keys = logits.shape[-1]
        late = torch.ones(length, keys, dtype=torch.bool, device=q.device).tril(keys - length)
        allowed = late if allowed is None else allowed & late
    if allowed is not None:
        # A pad may look at nothing but what went before; where that is nothing too, its values are of no account.
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)
    there, here = logits.softmax(-1).to(own.v.dtype).split([before.k.shape[2], length], -1)
    return unfold(fold(there) @ before.v) + here @ own.v


def _allowed(before: AttentionState, own: AttentionState, each: int) -> Tensor | None:
    """Which keys may be looked at, (B * each, 1, 1, K + L) bool; None = all."""
    if before.mask is None and own.mask is None:
        return None
    masks = [
        torch.ones(len(part.k), part.k.shape[2], dtype=torch.bool, device=part.k.device)
        if part.mask is None
        else part.mask
        for part in (before, own)
    ]
    return torch.cat([masks[0].repeat_interleave(each, 0), masks[1]], 1)[:, None, None]


def scaled_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(d/H) + mask) v of (B, H, L, d/H) tensors; mask is bool, True = look, or added to the logits.

    Every query has to have a key that it may look at.
    On the CPU in bfloat16 torch's kernel with its backward takes 1.1 to 2.1 times as long as plain products, and for
    a single query 3 to 4 times (benchmarks/attention.py), so both are written out there.
    """
    if not (q.is_cpu and q.dtype == torch.bfloat16 and (torch.is_grad_enabled() or q.shape[2] == 1)):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    times = torch.matmul if q.shape[2] > 1 else _by_head
    logits = times(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if causal:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return times(logits.softmax(-1).to(v.dtype), v)


def _by_head(a: Tensor, b: Tensor) -> Tensor:
    """A @ b of (B, H, 1, n) and (B, H, n, m), a head at a time: torch is slow on many at once where they have gaps."""
    return torch.stack([x @ y for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)]).unflatten(0, a.shape[:2])


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Linear with Xavier weights and zero bias (MultiMAE)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, L, d) -> (B, H, L, d/H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    """(B, H, L, d/H) -> (B, L, d)."""
    return x.transpose(1, 2).flatten(2)


def _check_heads(d: int, heads: int) -> None:
    if heads < 1 or d % heads:
        raise ValueError(f'heads is {heads} but must divide the width d = {d}: choose a divisor of {d}')
