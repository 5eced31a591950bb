"""Selective scan, the operator of Mamba-1 (S6; Gu and Dao 2023; papers.md section 0).

    h_t = exp(dt_t A) * h_{t-1} + (dt_t x_t) B_t,    y_t = h_t C_t + D x_t,    out_t = y_t * SiLU(z_t)

Symbols: Bt batch, L tokens (at least 1), D channels, N states of a channel.
    x, dt, z (Bt, L, D); dt after softplus, not negative (0 = neither write nor decay)
    A (D, N) negative; B, C (Bt, L, N); D (D,); h or state (Bt, D, N), None = empty
Arithmetic is float32 (float64 for float64 input); y comes back in the dtype of x, the state as it was computed.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.ops import dispatch, native
from m3et_ros.ops.blocked_scan import blocked_scan
from m3et_ros.ops.fused import load_selective_scan
from m3et_ros.ops.precision import no_autocast, work_dtype


def selective_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                   z: Tensor | None = None, state: Tensor | None = None, kernel: str = 'auto') -> tuple[Tensor, Tensor]:
    """Scan a sequence with the fastest form that agrees with the reference.

    Args:
        x, dt, A, B, C, D, z, state: as at the head of this file.
        kernel: 'auto', 'fused' (mamba-ssm on CUDA), 'native' (C++ on the CPU, where it was built), 'tensor' (blocks,
            plain torch) or 'reference'. The fused kernel cannot start from a state: 'auto' then takes the tensor form.
            Nor does its last state carry a gradient.

    Returns:
        y (Bt, L, D) and the state after the last token (Bt, D, N).

    Raises:
        ValueError: an empty sequence or an unknown kernel.
        RuntimeError: kernel='fused' or 'native' where there is none.
    """
    if not x.shape[1]:
        raise ValueError('the sequence has no tokens: a scan needs at least one')
    if kernel == 'auto' and state is not None and x.is_cuda:
        kernel = 'tensor'
    return dispatch.form('selective_scan', kernel, x.device)(x, dt, A, B, C, D=D, z=z, state=state)


def selective_step(state: Tensor, x_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, *,
                   D: Tensor | None = None, z_t: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Advance one token: state (Bt, D, N), x_t, dt_t, z_t (Bt, D), B_t, C_t (Bt, N) -> y_t (Bt, D), new state."""
    with no_autocast(x_t.device):
        x, dt, A, B, C = (t.to(state.dtype) for t in (x_t, dt_t, A, B_t, C_t))
        decay = torch.exp(dt[..., None] * A)
        state = torch.addcmul((dt * x)[..., None] * B[:, None], decay, state)
        y = torch.matmul(state, C[..., None])[..., 0]
    return _finish(y, x_t, D, z_t), state


def selective_scan_reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                             z: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scan token by token, as the equations read: the form that every other one is compared with."""
    state = _initial(state, x, A)
    outputs = []
    # unbind, never t[:, i]: the backward of indexing writes a whole sequence of zeros for each token.
    for x_t, dt_t, B_t, C_t in zip(*(t.to(state.dtype).unbind(1) for t in (x, dt, B, C)), strict=True):
        y_t, state = selective_step(state, x_t, dt_t, A, B_t, C_t)
        outputs.append(y_t)
    return _finish(torch.stack(outputs, 1), x, D, z), state


def selective_scan_blocked(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                           z: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scan block by block (blocked_scan.py): two to four times as fast as the reference at small batch."""
    state = _initial(state, x, A)
    y, state = blocked_scan(*(t.to(state.dtype) for t in (x, dt, A, B, C)), state)
    return _finish(y, x, D, z), state


def selective_scan_native(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                          z: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scan in C++ (native/), token by token in registers; float64 goes to the blocked form."""
    if work_dtype(x) != torch.float32:
        return selective_scan_blocked(x, dt, A, B, C, D=D, z=z, state=state)
    inputs = (*(t.float() for t in (x, dt, A, B, C)), _initial(state, x, A))
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    y, last, _ = native.selective_scan(*inputs, keep)
    return _finish(y, x, D, z), last


def _initial(state: Tensor | None, x: Tensor, A: Tensor) -> Tensor:
    if state is None:
        return x.new_zeros(x.shape[0], *A.shape, dtype=work_dtype(x))
    return state.to(work_dtype(x))


def _finish(y: Tensor, x: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """Skip connection and gate; back to the dtype of x."""
    if D is not None:
        y = torch.addcmul(y, x.to(y.dtype), D.to(y.dtype))
    if z is not None:
        y = y * F.silu(z.to(y.dtype))
    return y.to(x.dtype)


def _probe() -> dict[str, Tensor]:
    """Small fixed input with ordinary and extreme step sizes."""
    rng = torch.Generator().manual_seed(0)
    x, z, B, C = (torch.randn(2, 70, width, generator=rng) for width in (32, 32, 16, 16))
    dt = torch.rand(2, 70, 32, generator=rng) * torch.tensor([0.1, 3.0])[:, None, None]
    A = -torch.arange(1, 17, dtype=torch.float32).repeat(32, 1)
    return {'x': x, 'dt': dt, 'A': A, 'B': B, 'C': C, 'D': torch.linspace(-1, 1, 32), 'z': z}


dispatch.register(dispatch.Operator(
    name='selective_scan', reference=selective_scan_reference, tensor=selective_scan_blocked, tensor_name='blocked',
    load_fused=load_selective_scan, native=selective_scan_native, probe=_probe, tolerance=1e-4))
