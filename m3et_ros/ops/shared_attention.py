"""Attention of training to keys that several rows share and to keys of their own, with a backward of its own.

    w = softmax([q k^T ; own]),    y = w_shared v

Symbols: Bt batch, H heads, M queries of all rows that share keys, K shared keys, L own keys, n channels of a head.
    q (Bt, H, M, n), scaled; k, v (Bt, H, K, n); own (Bt, H, M, L), the logits of the own keys.
The two parts of the softmax are never joined, and their gradients are computed in place. Joined and recorded step by
step, copies of the logits would take a quarter of the time (benchmarks/throughput.py).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from m3et_ros.ops.precision import work_dtype


def shared_attention(q: Tensor, k: Tensor, v: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return y (Bt, H, M, n) and the weights of the own keys (Bt, H, M, L); a logit of -inf hides an own key."""
    return _SharedAttention.apply(q, k, v, own)


class _SharedAttention(torch.autograd.Function):
    """The attention and its backward."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        shared = q @ k.transpose(-1, -2)
        top = torch.maximum(shared.amax(-1, keepdim=True), own.amax(-1, keepdim=True))
        shared, own = shared.sub_(top).exp_(), (own - top).exp_()
        totals = [part.sum(-1, keepdim=True, dtype=work_dtype(part)) for part in (shared, own)]
        scale = (1 / (totals[0] + totals[1])).to(q.dtype)
        shared, own = shared.mul_(scale), own.mul_(scale)
        y = shared @ v
        ctx.save_for_backward(q, k, v, shared, own, y)
        return y, own

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_own: Tensor) -> tuple[Tensor, ...]:
        q, k, v, shared, own, y = ctx.saved_tensors
        mean = (grad_y * y).sum(-1, keepdim=True) + (grad_own * own).sum(-1, keepdim=True)
        grad_shared = (grad_y @ v.transpose(-1, -2)).sub_(mean).mul_(shared)
        grad_q, grad_k = grad_shared @ k, grad_shared.transpose(-1, -2) @ q
        return grad_q, grad_k, shared.transpose(-1, -2) @ grad_y, (grad_own - mean) * own
