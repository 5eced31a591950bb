"""State-space dual, the operator of Mamba-2 (SSD; papers.md section 0).

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t (outer) B_t,    y_t = h_t C_t + D x_t

Symbols: Bt batch, L tokens, H heads, P channels of a head, N states, G groups, R = H / G heads of a group, Q chunk.
    x (Bt, L, H, P); dt (Bt, L, H) positive, after softplus (0 = neither write nor decay); A, D (H,), A negative
    B, C (Bt, L, G, N), one for the R heads of a group (head h is in group h // R); h or state (Bt, H, P, N)
Arithmetic is float32 (float64 for float64 input); y comes back in the dtype of x, the state as it was computed.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def ssd_step(state: Tensor, x_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, *,
             D: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Advance one token: state (Bt, H, P, N), x_t (Bt, H, P), dt_t (Bt, H), B_t, C_t (Bt, G, N) -> y_t, new state."""
    work, groups = state.dtype, B_t.shape[1]
    x, dt, B, C = (t.to(work) for t in (x_t, dt_t, B_t, C_t))
    decay = torch.exp(dt * A.to(work))[..., None, None]
    write = (dt[..., None] * x).unflatten(1, (groups, -1))[..., None] * B[:, :, None, None]
    state = torch.addcmul(write.flatten(1, 2), decay, state)
    y = torch.matmul(state.unflatten(1, (groups, -1)).flatten(2, 3), C[..., None]).view_as(x)
    return _skip(y, x, D).to(x_t.dtype), state


def ssd_reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                  state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scan token by token, as the equations read: the form every other one is compared with.

    Returns:
        y (Bt, L, H, P) and the state after the last token (Bt, H, P, N).
    """
    work = torch.promote_types(x.dtype, torch.float32)
    state = _initial(state, x, B)
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(*(t.to(work).unbind(1) for t in (x, dt, B, C)), strict=True):
        y_t, state = ssd_step(state, x_t, dt_t, A, B_t, C_t)
        outputs.append(y_t)
    return _skip(torch.stack(outputs, 1), x.to(work), D).to(x.dtype), state


def ssd_chunked(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
                state: Tensor | None = None, chunk: int = 64) -> tuple[Tensor, Tensor]:
    """Quadratic form inside chunks, one state from chunk to chunk: matrix products only.

    The sequence is cut into equal chunks of at most `chunk` tokens. What is missing in the last one is filled with
    dt = 0, which neither writes to nor decays the state.

    Returns:
        y (Bt, L, H, P) and the state after the last token (Bt, H, P, N).
    """
    work, (length, heads), groups = torch.promote_types(x.dtype, torch.float32), x.shape[1:3], B.shape[2]
    first = _initial(state, x, B).unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3)
    chunks = -(-length // chunk)
    span = -(-length // chunks)
    xs, dts, Bs, Cs = (_cut(t.to(work), chunks, span) for t in (x, dt, B, C))
    log_decay = torch.cumsum(dts * A.to(work), 2).movedim(2, -1).unflatten(2, (groups, -1))  # (Bt, c, G, R, Q)
    written = (xs * dts[..., None]).unflatten(3, (groups, -1)).movedim(2, 3)  # (Bt, c, G, Q, R, P)
    Bs, Cs = Bs.transpose(2, 3), Cs.transpose(2, 3)  # (Bt, c, G, Q, N)

    inside = _inside(written, log_decay, Bs, Cs)
    before, last = _carry(written, log_decay, Bs, first)
    seen = torch.matmul(Cs, before.flatten(4)).view_as(written)
    y = torch.addcmul(inside, seen, torch.exp(log_decay).transpose(-1, -2)[..., None])
    y = y.movedim(3, 2).reshape(x.shape[0], chunks * span, heads, -1)[:, :length]
    return _skip(y, x.to(work), D).to(x.dtype), last.permute(0, 1, 3, 4, 2).flatten(1, 2)


def _inside(written: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """What each token reads of its own chunk -> (Bt, c, G, Q, R, P)."""
    span = log_decay.shape[-1]
    later = torch.ones(span, span, dtype=torch.bool, device=B.device).triu(1)
    # Masked before exp: above the diagonal the differences are positive and would overflow to inf.
    gap = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(later, -torch.inf)
    weights = torch.matmul(C, B.transpose(-1, -2))[:, :, :, None] * torch.exp(gap)
    return torch.matmul(weights, written.transpose(3, 4)).transpose(3, 4)


def _carry(written: Tensor, log_decay: Tensor, B: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """State before every chunk (Bt, c, G, N, R, P) and after the last (Bt, G, N, R, P)."""
    to_end = torch.exp(log_decay[..., -1:] - log_decay).transpose(-1, -2)[..., None]
    # One product for all heads of a group: B is never repeated.
    new = torch.matmul(B.transpose(-1, -2), (written * to_end).flatten(4)).unflatten(4, written.shape[4:])
    decay = torch.exp(log_decay[..., -1])[:, :, :, None, :, None]
    before = []
    for new_c, decay_c in zip(new.unbind(1), decay.unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(new_c, decay_c, state)
    return torch.stack(before, 1), state


def _cut(t: Tensor, chunks: int, span: int) -> Tensor:
    """(Bt, L, ...) -> (Bt, chunks, span, ...), zeros at the end."""
    missing = chunks * span - t.shape[1]
    if missing:
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, missing))
    return t.unflatten(1, (chunks, span))


def _initial(state: Tensor | None, x: Tensor, B: Tensor) -> Tensor:
    work = torch.promote_types(x.dtype, torch.float32)
    if state is None:
        return x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1], dtype=work)
    return state.to(work)


def _skip(y: Tensor, x: Tensor, D: Tensor | None) -> Tensor:
    return y if D is None else torch.addcmul(y, x, D.to(y.dtype)[:, None])


def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None,
        state: Tensor | None = None, chunk: int = 64, kernel: str = 'auto') -> tuple[Tensor, Tensor]:
    """Scan a sequence."""
    return ssd_chunked(x, dt, A, B, C, D=D, state=state, chunk=chunk)
