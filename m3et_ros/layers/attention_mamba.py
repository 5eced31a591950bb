"""Mamba-2 in the shape of an attention layer, so that attention's matrices can seed it (MaTVLM; papers.md section 6).

Without softmax o_t = sum_s (q_t . k_s) v_s; a scan gives y_t = sum_s (C_t . B_s) exp(sum_r dt_r A) dt_s x_s. Hence
W_Q -> C, W_K -> B, W_V -> x, W_O -> out; gate, step sizes, decays, convolution and norm start fresh.

Symbols: d width, H heads, K key heads (K divides H), P = d / H channels of a head and states of a channel.
"""

import torch
from torch import Tensor, nn

from m3et_ros.layers.mamba import Mamba2


class AttentionMamba2(Mamba2):
    """A mixer with as many heads, groups, channels and states as the attention that it takes the place of.

    Rows of in_proj: [z d | x K P | B K P | C d | dt H]. x and B of a key head serve its H / K heads.

    Args:
        d: width.
        heads: query heads H; divides d.
        kv_heads: key heads K; None = H.
        d_conv: length of the causal convolution.
        chunk: longest chunk of the scan, tokens.

    Raises:
        ValueError: heads that do not divide.
    """

    def __init__(self, *, d: int, heads: int, kv_heads: int | None = None, d_conv: int = 4, chunk: int = 64):
        self.kv_heads = kv_heads or heads
        if d % heads or heads % self.kv_heads:
            raise ValueError(f'heads is {heads} and kv_heads {self.kv_heads}; give heads that divide d = {d} and '
                             'kv_heads that divide heads')
        super().__init__(d=d, expand=1, N=d // heads, P=d // heads, G=heads, d_conv=d_conv, chunk=chunk)
        self.narrow = self.kv_heads * self.P
        if self.kv_heads < heads:
            width = d + 2 * self.narrow
            self.in_proj = nn.Linear(d, d + width + heads, bias=False)
            self.conv1d = nn.Conv1d(width, width, d_conv, groups=width)

    def _parts(self, xBC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Convolved stream -> x, B and C, each (..., H, P)."""
        x, B, C = xBC.split([self.narrow, self.narrow, self.d_in], -1)
        each = self.H // self.kv_heads
        x, B = (t.unflatten(-1, (self.kv_heads, self.P)) for t in (x, B))
        if each > 1:
            x, B = x.repeat_interleave(each, -2), B.repeat_interleave(each, -2)
        return x, B, C.unflatten(-1, (self.H, self.N))

    @torch.no_grad()
    def seed(self, *, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> 'AttentionMamba2':
        """Take over attention's matrices, biases left out; returns self.

        Args:
            q: W_Q (d, d).
            k: W_K (K P, d).
            v: W_V (K P, d).
            out: W_O (d, d).

        Raises:
            ValueError: a matrix of another shape; the message names it.
        """
        _, x, B, C, _ = self.in_proj.weight.split([self.d_in, self.narrow, self.narrow, self.d_in, self.H])
        for name, source, target in (('q', q, C), ('k', k, B), ('v', v, x), ('out', out, self.out_proj.weight)):
            if source.shape != target.shape:
                raise ValueError(f'{name} is {tuple(source.shape)}; give {tuple(target.shape)}, the shape of the mixer')
            target.copy_(source)
        return self
