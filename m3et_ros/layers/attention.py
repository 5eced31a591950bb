"""Attention: the Transformer block and the gated cross-attention of the M3ET decoders.

Symbols: B batch, L tokens, n queries, d width, H heads.
A mask is (B, L) bool over keys, True = may be attended to. A query without any such key gets zeros, never NaN.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3et_ros.layers.kv_cache import AttentionState
from m3et_ros.layers.scan_order import replaced_tokens
from m3et_ros.ops.shared_attention import shared_attention

EPS = 1e-6  # of every LayerNorm in the Transformer parts (MultiMAE, ViT)


class HeadAttention(NamedTuple):
    """The queries of one head, and the earlier keys that they may attend to.

    q: (B * each, L, d / H), the `each` rows that follow one sample next to each other.
    k: (B, K, d / H).
    mask: (B, K) bool, True = may be attended to; None = all.
    """

    q: Tensor
    k: Tensor
    mask: Tensor | None

    def scores(self, indices: Tensor | None = None) -> Tensor:
        """Return the logarithms of the attention, up to a number per query, of some of the L queries.

        Args:
            indices: (B * each, P) int64; None = all L queries, in order.

        Returns:
            (B, each * P, K) float32; the lowest number of its type where a key may not be attended to.
        """
        q = self.q if indices is None else self.q.gather(1, indices[..., None].expand(-1, -1, self.q.shape[-1]))
        q = q.unflatten(0, (len(self.k), len(q) // max(1, len(self.k)))).flatten(1, 2) * self.q.shape[-1] ** -0.5
        logits = q @ self.k.transpose(-1, -2)
        if self.mask is not None:
            logits = logits.masked_fill(~self.mask[:, None], torch.finfo(logits.dtype).min)
        return logits.float()

    def weights(self, indices: Tensor | None = None) -> Tensor:
        """Return the attention of some of the L queries, as `scores` counts them.

        Returns:
            (B, each * P, K), which sum to 1 over the K keys.
        """
        return self.scores(indices).softmax(-1)


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
        """Attend within x and to earlier tokens.

        Args:
            x: (B, L, d).
            mask: (B, L) bool, hides invalid keys of x.
            causal: hides later tokens of x.
            state: keys and values of earlier tokens, of B samples, or of fewer that each serve as many consecutive
                rows of x; None = there are no earlier tokens.

        Returns:
            (B, L, d) and the state that includes x. Where rows share a state, it holds x alone.
        """
        q, k, v = (_split(t, self.heads) for t in self.qkv(x).chunk(3, -1))
        if torch.is_grad_enabled():
            k, v = k.contiguous(), v.contiguous()  # each of several products, forward and backward, would copy them
        if state is not None and len(state.k) < len(k):
            own = AttentionState(k, v, mask)
            return self.proj(_merge(_attend_shared(q, state, own, causal))), own
        state = AttentionState(k, v, mask) if state is None else state.extended(k, v, mask)
        return self.proj(_merge(attend(q, state, causal))), state

    def renew(self, x: Tensor, indices: Tensor | None, cache: AttentionState | None) -> tuple[Tensor, AttentionState]:
        """Attend from some tokens to all tokens, these included.

        Args:
            x: the new tokens (B, K, d).
            indices: (K,) int64, where they stand in the cache; None = x holds all tokens.
            cache: cache of the pass before; None with indices.

        Returns:
            (B, K, d) and the cache with the new tokens in it.
        """
        q, k, v = (_split(t, self.heads) for t in self.qkv(x).chunk(3, -1))
        if cache is not None:
            k, v = (replaced_tokens(old, 2, indices, new) for old, new in ((cache.k, k), (cache.v, v)))
        cache = AttentionState(k, v, None)
        return self.proj(_merge(attend(q, cache, False))), cache

    def head_attention(self, x: Tensor, state: AttentionState) -> HeadAttention:
        """Return the first head's attention from tokens x (B * each, L, d) to the earlier tokens of a state."""
        wide = state.k.shape[-1]
        return HeadAttention(F.linear(x, self.qkv.weight[:wide], self.qkv.bias[:wide]), state.k[:, 0], state.mask)


class TransformerBlock(nn.Module):
    """x += Attention(LN x); x += MLP(LN x), pre-norm, GELU (docs/papers.md 0)."""

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
        """Return (B, L, d), with return_state also the state; arguments as in SelfAttention."""
        attended, state = self.attention(self.norm1(x), mask=mask, causal=causal, state=state)
        x = x + attended
        x = x + self.mlp(self.norm2(x))
        return (x, state) if return_state else x

    def renew(
        self, x: Tensor, indices: Tensor | None, cache: AttentionState | None
    ) -> tuple[Tensor, AttentionState, AttentionState]:
        """Compute some tokens anew among those of an earlier pass.

        Args:
            x: the new tokens (B, K, d).
            indices: (K,) int64, distinct, where they stand; None = x holds all tokens, in order.
            cache: cache of the pass before; None with indices.

        Returns:
            Outputs (B, K, d), the cache for the next call, and the state after all tokens.
        """
        attended, cache = self.attention.renew(self.norm1(x), indices, cache)
        x = x + attended
        return x + self.mlp(self.norm2(x)), cache, cache

    def head_attention(self, x: Tensor, state: AttentionState) -> HeadAttention:
        """Return SelfAttention.head_attention of this block's input."""
        return self.attention.head_attention(self.norm1(x), state)


class SemanticGate(nn.Module):
    """Gate of the cross-attention at every query, given the text: sigmoid(W2 GELU(W1 [x ; summary])).

    All decoders share one gate, so the model owns it and hands it to `GatedCrossAttention.forward`.
    """

    def __init__(self, *, d_context: int, hidden: int, d: int):
        super().__init__()
        self.d_context = d_context
        self.w1 = _linear(2 * d_context, hidden)
        self.w2 = _linear(hidden, d)
        nn.init.constant_(self.w2.bias, 2.0)  # mostly open at the start

    def forward(self, x: Tensor, summary: Tensor) -> Tensor:
        """Return the gate (B, n, d) in (0, 1) of queries x (B, n, d_context), given a summary (B, d_context)."""
        # The summary's half of W1 is applied once, not once per query.
        on_x, on_summary = self.w1.weight.split(self.d_context, 1)
        hidden = F.linear(x, on_x, self.w1.bias) + F.linear(summary, on_summary)[:, None]
        return torch.sigmoid(self.w2(F.gelu(hidden)))


class GatedCrossAttention(nn.Module):
    """Text-weighted, gated attention from decoder queries to the encoder's output (docs/papers.md 2.3 step 6).

    q = W_q LN(x), k = W_k LN(c), v = W_v LN(c); s_j = cos(W_k LN(c_j), W_q LN(summary)) in [-1, 1];
    logits_h(i, j) = q_i k_j / sqrt(d / H) + beta_h s_j;  y = gate * W_o(attended) + (1 - gate) * q.

    Args:
        d_context: width of queries, context and summary.
        d: width of the output.
        heads: heads H; divides d.
        semantic_bias: add beta_h s_j (beta starts at 0, so training starts as plain cross-attention).
        gate: mix attended values and queries; without it y = W_o(attended).
        cross_attention: False ignores the context, y = q (the published ~16 dB ablation).
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
        """Attend to the context.

        Args:
            x: queries (B, n, d_context), or (1, n, d_context) where all samples have the same.
            context: encoder outputs (B, L, d_context).
            summary: text summary or global token (B, d_context).
            gate: the shared gate, which a module built with gate=True needs.
            mask: (B, L) bool, True = valid context token.

        Returns:
            (B, n, d).

        Raises:
            ValueError: the module was built with gate=True and called without a gate.
        """
        q = self.w_q(self.norm_query(x))
        if not self.cross_attention:
            return q
        if not self.gated:
            return self._attend(q, context, summary, mask)
        if gate is None:
            raise ValueError('this decoder was built with gate=True but got no gate: pass gate=SemanticGate(...)')
        attended = self._attend(q, context, summary, mask)
        return torch.lerp(q, attended, gate(x, summary).to(q.dtype))

    def _attend(self, q: Tensor, context: Tensor, summary: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.norm_context(context)
        k = self.w_k(normed)
        bias = self._bias(k, summary, mask)
        q = q.expand(len(context), -1, -1)
        q, k, v = (_split(t, self.heads) for t in (q, k, self.w_v(normed)))
        if bias is not None:
            # In the dtype of the logits, because in bfloat16 float32 would double the time of the softmax.
            bias = bias.to(q.dtype).expand(*q.shape[:3], -1)
        attended = scaled_attention(q, k, v, mask=bias)
        if mask is not None:
            attended = attended * mask.any(1)[:, None, None, None]
        return self.w_o(_merge(attended))

    def _bias(self, k: Tensor, summary: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the bias of the logits (B, H or 1, 1, L), or None."""
        bias = None
        if self.beta is not None:
            meaning = F.cosine_similarity(k, self.w_q(self.norm_query(summary))[:, None], dim=-1)
            bias = self.beta[:, None, None] * meaning[:, None, None]
        if mask is None:
            return bias
        hidden = ~(mask | ~mask.any(1, keepdim=True))[:, None, None]
        masked = torch.zeros_like(hidden, dtype=k.dtype).masked_fill(hidden, -torch.inf)
        return masked if bias is None else masked + bias


def attend(q: Tensor, state: AttentionState, causal: bool) -> Tensor:
    """Attend to a state with queries (B, H, L, d/H), which belong to its last L tokens; return (B, H, L, d/H)."""
    length, keys = q.shape[2], state.k.shape[2]
    if state.mask is None and (not causal or length == keys):
        return scaled_attention(q, state.k, state.v, causal=causal)
    allowed = q.new_ones(1, 1, 1, keys, dtype=torch.bool) if state.mask is None else state.mask[:, None, None]
    if causal:
        allowed = allowed & torch.ones(length, keys, dtype=torch.bool, device=q.device).tril(keys - length)
    has_keys = allowed.any(-1, keepdim=True)
    return scaled_attention(q, state.k, state.v, mask=allowed | ~has_keys) * has_keys


def _attend_shared(q: Tensor, shared: AttentionState, own: AttentionState, causal: bool) -> Tensor:
    """Attend to own keys and to earlier ones that `each` rows share, without repeating the shared keys and values.

    Symbols: B samples of the shared state, `each` rows of q for each, K shared keys.
    """
    each, length = len(q) // max(1, len(shared.k)), q.shape[2]

    def fold(rows: Tensor) -> Tensor:  # (B * each, H, L, n) -> (B, H, each * L, n)
        return rows.unflatten(0, (len(shared.k), each)).transpose(1, 2).flatten(2, 3)

    def unfold(rows: Tensor) -> Tensor:
        return rows.unflatten(2, (each, length)).transpose(1, 2).flatten(0, 1)

    q = q * q.shape[-1] ** -0.5
    if torch.is_grad_enabled() and shared.mask is None and not causal:
        own_logits = q @ own.k.transpose(-1, -2)
        if own.mask is not None:
            own_logits = own_logits.masked_fill(~own.mask[:, None, None], -torch.inf)
        y, to_own = shared_attention(fold(q), shared.k, shared.v, fold(own_logits))
        return unfold(y) + unfold(to_own) @ own.v
    logits = torch.cat([unfold(fold(q) @ shared.k.transpose(-1, -2)), q @ own.k.transpose(-1, -2)], -1)
    allowed = _allowed(shared, own, each)
    if causal:
        keys = logits.shape[-1]
        not_later = torch.ones(length, keys, dtype=torch.bool, device=q.device).tril(keys - length)
        allowed = not_later if allowed is None else allowed & not_later
    if allowed is not None:
        # A pad attends to shared keys only. Where there are none, its output does not matter.
        logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)
    to_shared, to_own = logits.softmax(-1).to(own.v.dtype).split([shared.k.shape[2], length], -1)
    return unfold(fold(to_shared) @ shared.v) + to_own @ own.v


def _allowed(shared: AttentionState, own: AttentionState, each: int) -> Tensor | None:
    """Return which keys may be attended to, (B * each, 1, 1, K + L) bool; None = all."""
    if shared.mask is None and own.mask is None:
        return None
    masks = [
        torch.ones(len(part.k), part.k.shape[2], dtype=torch.bool, device=part.k.device)
        if part.mask is None
        else part.mask
        for part in (shared, own)
    ]
    return torch.cat([masks[0].repeat_interleave(each, 0), masks[1]], 1)[:, None, None]


def scaled_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Return softmax(q k^T / sqrt(d/H) + mask) v of (B, H, L, d/H) tensors.

    A mask is bool, True = attend, or is added to the logits. Every query needs a key that it may attend to.
    On the CPU in bfloat16 torch's kernel with its backward takes 1.1 to 2.1 times as long as plain products, and 3 to
    4 times as long for a single query (benchmarks/attention.py), so both are written out there.
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
    """Multiply (B, H, 1, n) by (B, H, n, m) head by head: torch is slow on a batch of them whose memory has gaps."""
    return torch.stack([x @ y for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)]).unflatten(0, a.shape[:2])


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Build a linear layer with Xavier weights and zero bias (MultiMAE)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _split(x: Tensor, heads: int) -> Tensor:
    """Split (B, L, d) into heads (B, H, L, d/H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    """Merge heads (B, H, L, d/H) into (B, L, d)."""
    return x.transpose(1, 2).flatten(2)


def _check_heads(d: int, heads: int) -> None:
    if heads < 1 or d % heads:
        raise ValueError(f'heads is {heads}; give a divisor of the width d = {d}')
