"""State-space dual, the operator of Mamba-2 (SSD; Dao and Gu 2024; docs/papers.md 0).

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t (outer) B_t,    y_t = h_t C_t + D x_t

Symbols: Bt batch, L tokens (at least 1), H heads, P channels of a head, N states, G groups, R = H / G heads of a group.
    x (Bt, L, H, P); dt (Bt, L, H) after softplus, not negative (0 neither writes nor decays); A, D (H,), A negative
    B, C (Bt, L, G, N), shared by the heads of a group, head h in group h // R; h or state (Bt, H, P, N), None = empty
    c chunks of Q tokens each, in the chunked form
Arithmetic is float32, float64 for float64 input. y is returned in the dtype of x, the state in that of the arithmetic.
A value that is not finite reaches its own token and later ones. On other devices than the CPU, and in compiled code,
the chunked form also spoils earlier tokens of its chunk, because 0 times NaN is NaN and a check would cost a wait.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.ops import dispatch, native
from m3et_ros.ops.fused import load_ssd
from m3et_ros.ops.precision import no_autocast, work_dtype


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    state: Tensor | None = None,
    chunk: int = 64,
    kernel: str = 'auto',
) -> tuple[Tensor, Tensor]:
    """Scan a sequence with the fastest form that agrees with the reference.

    Args:
        x: (Bt, L, H, P) input.
        dt: (Bt, L, H) step sizes.
        A: (H,) negative decay rates.
        B: (Bt, L, G, N) input weights.
        C: (Bt, L, G, N) output weights.
        D: (H,) weights of the skip connection; None = no skip.
        state: (Bt, H, P, N) state to start from; None = empty.
        chunk: longest chunk in tokens, 1 or more; 64 or 98 serve best, and error and work grow with it.
        kernel: 'auto', 'fused' (mamba-ssm on CUDA), 'native' (C++ on the CPU, once built), 'tensor' (chunks in plain
            torch) or 'reference'.

    Returns:
        y (Bt, L, H, P) and the state after the last token (Bt, H, P, N).

    Raises:
        ValueError: the sequence is empty, G does not divide H, chunk is below 1, or the kernel is unknown.
        RuntimeError: kernel='fused' or 'native' is not available.
    """
    if not x.shape[1] or chunk < 1:
        raise ValueError(f'{x.shape[1]} tokens in chunks of {chunk}: a scan needs at least one of each')
    if x.shape[2] % B.shape[2]:
        raise ValueError(f'{B.shape[2]} groups must divide the {x.shape[2]} heads')
    function = dispatch.form('ssd', kernel, x.device)
    options = {} if function is ssd_reference else {'chunk': chunk}
    return function(x, dt, A, B, C, D=D, state=state, **options)


def ssd_step(
    state: Tensor, x_t: Tensor, dt_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor, *, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Advance by a token: state (Bt, H, P, N), x_t (Bt, H, P), dt_t (Bt, H), B_t, C_t (Bt, G, N) -> y_t, new state."""
    groups = B_t.shape[1]
    with no_autocast(x_t.device):
        x, dt, A, B, C = (t.to(state.dtype) for t in (x_t, dt_t, A, B_t, C_t))
        grouped = (dt[..., None] * x).unflatten(1, (groups, -1))
        write = (grouped[..., None] * B[:, :, None, None]).flatten(1, 2)
        state = torch.addcmul(write, torch.exp(dt * A)[..., None, None], state)
        y = torch.matmul(state.unflatten(1, (groups, -1)).flatten(2, 3), C[..., None]).view_as(x)
    return _finish(y, x_t, D), state


def ssd_shared(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None, state: Tensor
) -> Tensor:
    """Scan short sequences that go on from states which several of them share; return y alone.

    The states are never repeated, and those after the last token are not computed: for a question of 18 tokens about an
    image these two would take most of the time. A sequence is one chunk, so the work grows with the square of L.

    Args:
        x: (Bt, L, H, P) input; the other inputs are as in `ssd`.
        dt: (Bt, L, H) step sizes.
        A: (H,) negative decay rates.
        B: (Bt, L, G, N) input weights.
        C: (Bt, L, G, N) output weights.
        D: (H,) weights of the skip connection; None = no skip.
        state: (S, H, P, N), each of which serves Bt / S consecutive sequences.

    Returns:
        y (Bt, L, H, P).
    """
    work, groups, each = work_dtype(x), B.shape[2], len(x) // max(1, len(state))
    with no_autocast(x.device):
        xs, dts, Bs, Cs = (t.to(work)[:, None] for t in (x, dt, B, C))
        inputs = (xs * dts[..., None]).unflatten(3, (groups, -1)).movedim(2, 3)  # (Bt, 1, G, L, R, P)
        log_decay = torch.cumsum(dts * A.to(work), 2).movedim(2, -1).unflatten(2, (groups, -1))  # (Bt, 1, G, R, L)
        Bs, Cs = Bs.transpose(2, 3), Cs.transpose(2, 3)  # (Bt, 1, G, L, N)
        before = state.to(work).unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3).flatten(3)  # (S, G, N, R * P)
        folded = Cs[:, 0].unflatten(0, (len(state), each)).transpose(1, 2).flatten(2, 3)  # (S, G, Bt / S * L, N)
        earlier = torch.matmul(folded, before).unflatten(2, (each, x.shape[1])).transpose(1, 2).reshape(inputs.shape)
        y = earlier * _per_token(_exp(log_decay)) + _within(inputs, log_decay, Bs, Cs)
    if _spoiled(y):
        return ssd_reference(x, dt, A, B, C, D=D, state=state.repeat_interleave(each, 0))[0]
    return _finish(y.movedim(3, 2).reshape(x.shape), x, D)


def ssd_reference(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scan token by token, as the equations read; every other form is compared with this one."""
    state = _initial(state, x, B)
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(*(t.to(state.dtype).unbind(1) for t in (x, dt, B, C)), strict=True):
        y_t, state = ssd_step(state, x_t, dt_t, A, B_t, C_t)
        outputs.append(y_t)
    return _finish(torch.stack(outputs, 1), x, D), state


def ssd_chunked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    state: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Scan with the quadratic form inside chunks and one state from chunk to chunk: matrix products only.

    The sequence is cut into the fewest equal chunks of at most `chunk` tokens. The last chunk is filled up with
    dt = 0, which neither writes to nor decays the state.
    """
    work, length, groups = work_dtype(x), x.shape[1], B.shape[2]
    chunks = -(-length // chunk)
    Q = -(-length // chunks)
    with no_autocast(x.device):
        xs, dts, Bs, Cs = (_cut(t.to(work), chunks, Q) for t in (x, dt, B, C))
        inputs = (xs * dts[..., None]).unflatten(3, (groups, -1)).movedim(2, 3)  # (Bt, c, G, Q, R, P)
        # Logarithm of the decay since the start of the chunk, including this token's: (Bt, c, G, R, Q).
        log_decay = torch.cumsum(dts * A.to(work), 2).movedim(2, -1).unflatten(2, (groups, -1))
        Bs, Cs = Bs.transpose(2, 3), Cs.transpose(2, 3)  # (Bt, c, G, Q, N)
        initial = _initial(state, x, B).unflatten(1, (groups, -1)).permute(0, 1, 4, 2, 3)  # (Bt, G, N, R, P)
        before, last = _carry(inputs, log_decay, Bs, initial)
        earlier = torch.matmul(Cs, before.flatten(4)).view_as(inputs)
        y = earlier * _per_token(_exp(log_decay)) + _within(inputs, log_decay, Bs, Cs)
    if _spoiled(y):
        return ssd_reference(x, dt, A, B, C, D=D, state=state)
    y = y.movedim(3, 2).reshape(x.shape[0], chunks * Q, *x.shape[2:])[:, :length]
    return _finish(y, x, D), last.permute(0, 1, 3, 4, 2).flatten(1, 2)


def ssd_native(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    state: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Scan in C++ (native/), token by token in registers; float64 input goes to the chunked form."""
    if work_dtype(x) != torch.float32:
        return ssd_chunked(x, dt, A, B, C, D=D, state=state, chunk=chunk)
    y, last = native.ssd(*(t.float() for t in (x, dt, A, B, C)), _initial(state, x, B))
    return _finish(y, x, D), last


def _within(inputs: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Return the part of y that comes from a token's own chunk: (Bt, c, G, Q, R, P)."""
    Q = log_decay.shape[-1]
    later = torch.ones(Q, Q, dtype=torch.bool, device=B.device).triu(1)
    # The span is masked before exp, because differences above the diagonal are positive and may overflow. The weights
    # are masked in the products of B and C, which all heads share.
    span = (log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(later, 0)
    weights = torch.matmul(C, B.transpose(-1, -2)).masked_fill(later, 0)[:, :, :, None] * _exp(span)
    return torch.matmul(weights, inputs.transpose(3, 4)).transpose(3, 4)


def _carry(inputs: Tensor, log_decay: Tensor, B: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state before every chunk (Bt, c, G, N, R, P) and after the last one (Bt, G, N, R, P)."""
    to_end = _per_token(_exp(log_decay[..., -1:] - log_decay))
    # One wide product per chunk serves all heads of a group: B is shared, never repeated.
    new = torch.matmul(B.transpose(-1, -2), (inputs * to_end).flatten(4)).unflatten(4, inputs.shape[4:])
    decay = _exp(log_decay[..., -1])[:, :, :, None, :, None]
    before = []
    for new_c, decay_c in zip(new.unbind(1), decay.unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(new_c, decay_c, state)
    return torch.stack(before, 1), state


def _spoiled(y: Tensor) -> bool:
    """Return True if a value is not finite and may have reached earlier tokens of its chunk."""
    return y.device.type == 'cpu' and not torch.compiler.is_compiling() and not math.isfinite(float(y.detach().sum()))


def _exp(log_decay: Tensor) -> Tensor:
    """Return exp(log_decay), at least 2e-35: denormals are slow, and vanish on a host that flushes them."""
    return torch.exp(log_decay.clamp(min=-80))


def _cut(t: Tensor, chunks: int, Q: int) -> Tensor:
    """Cut (Bt, L, ...) into (Bt, chunks, Q, ...), with zeros at the end."""
    missing = chunks * Q - t.shape[1]
    if missing:
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, missing))
    return t.unflatten(1, (chunks, Q))


def _per_token(factor: Tensor) -> Tensor:
    """Turn a factor (..., R, Q) into (..., Q, R, 1), to scale the inputs of tokens."""
    return factor.transpose(-1, -2)[..., None]


def _initial(state: Tensor | None, x: Tensor, B: Tensor) -> Tensor:
    """Return the state to start from, in the dtype of the arithmetic."""
    if state is None:
        return x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1], dtype=work_dtype(x))
    return state.to(work_dtype(x))


def _finish(y: Tensor, x: Tensor, D: Tensor | None) -> Tensor:
    """Apply the skip connection and return to the dtype of x."""
    if D is not None:
        y = torch.addcmul(y, x.to(y.dtype), D.to(y.dtype)[:, None])
    return y.to(x.dtype)


def _probe() -> dict[str, Tensor]:
    """Return a small fixed input: two groups, a last chunk that is not full, ordinary and extreme step sizes."""
    rng = torch.Generator().manual_seed(0)
    x, B, C = (torch.randn(2, 70, *size, generator=rng) for size in ((4, 16), (2, 16), (2, 16)))
    dt = torch.rand(2, 70, 4, generator=rng) * torch.tensor([0.1, 3.0])[:, None, None]
    A, D, state = -torch.linspace(1, 16, 4), torch.linspace(-1, 1, 4), torch.randn(2, 4, 16, 16, generator=rng)
    return {'x': x, 'dt': dt, 'A': A, 'B': B, 'C': C, 'D': D, 'state': state}


# The Triton kernels multiply in TF32, which resolves 1e-3 of a number.
dispatch.register(
    dispatch.Operator(
        name='ssd',
        reference=ssd_reference,
        tensor=ssd_chunked,
        tensor_name='chunked',
        load_fused=load_ssd,
        native=ssd_native,
        probe=_probe,
        fused_streams=True,
        tolerance=2e-3,
    )
)
