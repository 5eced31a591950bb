"""Causal depthwise convolution with SiLU, as Mamba's mixers use it, with a backward of its own for training.

    y_t = SiLU(bias + sum_s weight_s x_{t - k + 1 + s})

Symbols: Bt batch, L tokens, C channels, k taps.
    padded (Bt, k - 1 + L, C): k - 1 earlier inputs or zeros, then the L inputs; weight (C, 1, k) and bias (C,) as
    Conv1d has them. y (Bt, L, C).
k shifted products save the transposition to channels-first and back.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def causal_conv(padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return y; where gradients are recorded it has the dtype of `padded`, else the promoted one.

    Recorded step by step each tap would store and sum tensors of the whole sequence. One function with a backward of
    its own takes a quarter of the time in bfloat16 (benchmarks/throughput.py).
    """
    if torch.is_grad_enabled() and (padded.requires_grad or weight.requires_grad):
        return _CausalConv.apply(padded, weight, bias)
    taps = weight[:, 0].unbind(-1)
    length = padded.shape[1] - len(taps) + 1
    y = torch.addcmul(bias, padded[:, :length], taps[0])
    for shift, tap in enumerate(taps[1:], start=1):
        y = torch.addcmul(y, padded[:, shift : shift + length], tap)
    return F.silu(y)


class _CausalConv(torch.autograd.Function):
    """The convolution with a backward that reads each tensor once a tap."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        taps = weight[:, 0].t().to(padded.dtype).contiguous()
        length = padded.shape[1] - len(taps) + 1
        linear = torch.addcmul(bias.to(padded.dtype), padded[:, :length], taps[0])
        for shift in range(1, len(taps)):
            linear.addcmul_(padded[:, shift : shift + length], taps[shift])
        ctx.save_for_backward(padded, linear, taps)
        ctx.parameter_dtype = weight.dtype
        return F.silu(linear)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        padded, linear, taps = ctx.saved_tensors
        length = linear.shape[1]
        grad = torch.ops.aten.silu_backward(grad.to(linear.dtype), linear)
        grad_padded, grad_taps = torch.zeros_like(padded), []
        for shift, tap in enumerate(taps):
            grad_padded[:, shift : shift + length].addcmul_(grad, tap)
            grad_taps.append((grad * padded[:, shift : shift + length]).sum((0, 1), dtype=ctx.parameter_dtype))
        grad_bias = grad.sum((0, 1), dtype=ctx.parameter_dtype)
        return grad_padded, torch.stack(grad_taps, 1)[:, None], grad_bias
