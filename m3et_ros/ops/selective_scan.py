"""Selective scan, the operator of Mamba-1 (S6; papers.md section 0).

    h_t = exp(dt_t A) * h_{t-1} + (dt_t x_t) B_t,    y_t = h_t C_t + D x_t,    out_t = y_t * SiLU(z_t)

Symbols: Bt batch, L tokens, D channels, N states of a channel.
    x, dt, z (Bt, L, D); dt is positive, after softplus (0 = neither write nor decay)
    A (D, N) negative; B, C (Bt, L, N); D (D,); h or state (Bt, D, N)
Arithmetic is float32 (float64 for float64 input); y comes back in the dtype of x, the state as it was computed.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def selective_step(state: Tensor, x_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, *,
                   D: Tensor | None = None, z_t: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Advance one token: state (Bt, D, N), x_t, dt_t, z_t (Bt, D), B_t, C_t (Bt, N) -> y_t (Bt, D), new state."""
    x, dt = x_t.to(state.dtype), dt_t.to(state.dtype)
    decay = torch.exp(dt[..., None] * A)
    state = torch.addcmul(decay * state, (dt * x)[..., None], B_t.to(state.dtype)[:, None])
    y = torch.matmul(state, C_t.to(state.dtype)[..., None])[..., 0]
    return _finish(y, x, D, z_t).to(x_t.dtype), state


def selective_scan_reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                             z: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scan token by token, as the equations read: the form every other one is compared with.

    Returns:
        y (Bt, L, D) and the state after the last token (Bt, D, N).
    """
    work = torch.promote_types(x.dtype, torch.float32)
    A = A.to(work)
    state = A.new_zeros(x.shape[0], *A.shape) if state is None else state.to(work)
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(*(t.to(work).unbind(1) for t in (x, dt, B, C)), strict=True):
        y_t, state = selective_step(state, x_t, dt_t, A, B_t, C_t)
        outputs.append(y_t)
    return _finish(torch.stack(outputs, 1), x.to(work), D, z).to(x.dtype), state


def _finish(y: Tensor, x: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """Skip connection and gate."""
    if D is not None:
        y = torch.addcmul(y, x, D.to(y.dtype))
    return y if z is None else y * F.silu(z.to(y.dtype))


def selective_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                   z: Tensor | None = None, state: Tensor | None = None, kernel: str = 'auto') -> tuple[Tensor, Tensor]:
    """Scan a sequence."""
    return selective_scan_reference(x, dt, A, B, C, D=D, z=z, state=state)
