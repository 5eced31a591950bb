"""Selective scan, the operator of Mamba-1 (S6; Gu and Dao 2023; docs/papers.md 0).

    h_t = exp(dt_t A) * h_{t-1} + (dt_t x_t) B_t,    y_t = h_t C_t + D x_t,    out_t = y_t * SiLU(z_t)

Symbols: Bt batch, L tokens (at least 1), D channels, N states of a channel, K tokens of a block in the blocked form.
    x, dt, z (Bt, L, D); dt after softplus, not negative (0 neither writes to nor decays the state)
    A (D, N) negative; B, C (Bt, L, N); D (D,); h or state (Bt, D, N), None = empty
Arithmetic is float32, float64 for float64 input. y is returned in the dtype of x, the state in that of the arithmetic.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from m3et_ros.ops import dispatch, native
from m3et_ros.ops.fused import load_selective_scan
from m3et_ros.ops.precision import no_autocast, work_dtype

BUDGET = 2**18
"""Numbers in one buffer of a block: 1 MiB in float32, so that two of them fit in a usual L2 cache."""


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    state: Tensor | None = None,
    kernel: str = 'auto',
) -> tuple[Tensor, Tensor]:
    """Scan a sequence with the fastest form that agrees with the reference.

    Args:
        x: (Bt, L, D) input.
        dt: (Bt, L, D) step sizes.
        A: (D, N) negative decay rates.
        B: (Bt, L, N) input weights.
        C: (Bt, L, N) output weights.
        D: (D,) weights of the skip connection; None = no skip.
        z: (Bt, L, D) gate; None = no gate.
        state: (Bt, D, N) state to start from; None = empty.
        kernel: 'auto', 'fused' (mamba-ssm on CUDA), 'native' (C++ on the CPU, once built), 'tensor' (blocks in plain
            torch) or 'reference'. The fused kernel cannot start from a state, so 'auto' then takes the tensor form.
            Its final state carries no gradient.

    Returns:
        y (Bt, L, D) and the state after the last token (Bt, D, N).

    Raises:
        ValueError: the sequence is empty or the kernel unknown.
        RuntimeError: kernel='fused' or 'native' is not available.
    """
    if not x.shape[1]:
        raise ValueError('the sequence has no tokens: a scan needs at least one')
    if kernel == 'auto' and state is not None and x.is_cuda:
        kernel = 'tensor'
    return dispatch.form('selective_scan', kernel, x.device)(x, dt, A, B, C, D=D, z=z, state=state)


def selective_step(
    state: Tensor,
    x_t: Tensor,
    dt_t: Tensor,
    A: Tensor,
    B_t: Tensor,
    C_t: Tensor,
    *,
    D: Tensor | None = None,
    z_t: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Advance by one token: state (Bt, D, N), x_t, dt_t, z_t (Bt, D), B_t, C_t (Bt, N) -> y_t (Bt, D), new state."""
    with no_autocast(x_t.device):
        x, dt, A, B, C = (t.to(state.dtype) for t in (x_t, dt_t, A, B_t, C_t))
        decay = torch.exp(dt[..., None] * A)
        state = torch.addcmul((dt * x)[..., None] * B[:, None], decay, state)
        y = torch.matmul(state, C[..., None])[..., 0]
    return finished(y, x_t, D, z_t), state


def selective_scan_reference(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan token by token, as the equations read; every other form is compared with this one."""
    state = initial_state(state, x, A)
    outputs = []
    # unbind, not t[:, i]: the backward of indexing writes a whole sequence of zeros for every token.
    for x_t, dt_t, B_t, C_t in zip(*(t.to(state.dtype).unbind(1) for t in (x, dt, B, C)), strict=True):
        y_t, state = selective_step(state, x_t, dt_t, A, B_t, C_t)
        outputs.append(y_t)
    return finished(torch.stack(outputs, 1), x, D, z), state


def selective_scan_blocked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan block by block in plain torch: two to four times as fast as the reference at small batch."""
    state = initial_state(state, x, A)
    x_, dt, A, B, C = (t.to(state.dtype) for t in (x, dt, A, B, C))
    y, last = _BlockedScan.apply(x_, dt, A.T.contiguous(), B, C, state.transpose(1, 2).contiguous())
    return finished(y, x, D, z), last.transpose(1, 2)


def selective_scan_native(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan in C++ (native/), token by token in registers; float64 input goes to the blocked form."""
    if work_dtype(x) != torch.float32:
        return selective_scan_blocked(x, dt, A, B, C, D=D, z=z, state=state)
    inputs = (*(t.float() for t in (x, dt, A, B, C)), initial_state(state, x, A))
    for_backward = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    y, last, _ = native.selective_scan(*inputs, for_backward)
    return finished(y, x, D, z), last


def initial_state(state: Tensor | None, x: Tensor, A: Tensor) -> Tensor:
    """Return the state to start from, in the dtype of the arithmetic."""
    if state is None:
        return x.new_zeros(x.shape[0], *A.shape, dtype=work_dtype(x))
    return state.to(work_dtype(x))


def finished(y: Tensor, x: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """Apply skip connection and gate, and return to the dtype of x."""
    if D is not None:
        y = torch.addcmul(y, x.to(y.dtype), D.to(y.dtype))
    if z is not None:
        y = y * F.silu(z.to(y.dtype))
    return y.to(x.dtype)


class _BlockedScan(torch.autograd.Function):
    """The scan without skip and gate: h_t = a_t h_{t-1} + w_t, a = exp(dt A), w = dt x B; y = sum over states of C h.

    Decays and writes of a block are computed at once, in a buffer that stays in the cache. What remains of the
    recurrence is one fused multiply-add a token. The backward keeps only the state before each block and computes the
    rest again, so memory and time are linear in L; autograd through indexed steps would take quadratic time.

    Channels come last here: A (N, D), states (Bt, N, D).
    """

    @staticmethod
    def forward(ctx, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor):
        y, starts = torch.empty_like(x), []
        buffers = _buffers(2, x, A)
        with no_autocast(x.device):
            for x_k, dt_k, B_k, C_k, y_k in _blocks(x, A, dt, B, C, y):
                starts.append(state)
                _, states = _states(x_k, dt_k, A, B_k, state, buffers)
                state = states[:, -1].clone()  # the buffer is overwritten by the next block
                y_k.copy_(torch.matmul(C_k[:, :, None], states)[:, :, 0])
        ctx.save_for_backward(x, dt, A, B, C, torch.stack(starts))
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y: Tensor, grad_state: Tensor):
        x, dt, A, B, C, starts = ctx.saved_tensors
        grads = [torch.empty_like(t) for t in (x, dt, B, C)]
        grad_A, carried = torch.zeros_like(A), grad_state
        buffers = _buffers(3, x, A)
        spare = buffers[2]
        blocks = zip(_blocks(x, A, dt, B, C, grad_y, *grads), starts, strict=True)
        with no_autocast(x.device):
            for (x_k, dt_k, B_k, C_k, grad_y_k, *grads_k), start in reversed(list(blocks)):
                decay, states = _states(x_k, dt_k, A, B_k, start, buffers[:2])
                grad_h = torch.mul(C_k[..., None], grad_y_k[:, :, None], out=spare[:, : x_k.shape[1]])
                carried = _reverse(grad_h, decay, carried)
                grad_C = torch.matmul(states, grad_y_k[..., None])[..., 0]
                grad_B = torch.matmul(grad_h, (dt_k * x_k)[..., None])[..., 0]
                grad_write = torch.matmul(B_k[:, :, None], grad_h)[:, :, 0]
                # The buffer of decays holds the gradient of dt A from here on.
                grad_log = decay.mul_(grad_h)
                grad_log[:, 0] *= start
                grad_log[:, 1:] *= states[:, :-1]
                grad_dt = torch.mul(grad_log, A, out=grad_h).sum(2) + grad_write * x_k
                grad_A += torch.mul(grad_log, dt_k[:, :, None], out=grad_h).sum((0, 1))
                for out, value in zip(grads_k, (grad_write * dt_k, grad_dt, grad_B, grad_C), strict=True):
                    out.copy_(value)
        grad_x, grad_dt, grad_B, grad_C = grads
        return grad_x, grad_dt, grad_A, grad_B, grad_C, carried


def _length(x: Tensor, A: Tensor) -> int:
    """Return the number of tokens K of a block."""
    return max(1, min(x.shape[1], BUDGET // max(1, x.shape[0] * A.numel())))


def _buffers(count: int, x: Tensor, A: Tensor) -> Tensor:
    """Allocate `count` blocks of states (count, Bt, K, N, D); fresh memory for every block costs more than the sums."""
    return x.new_empty(count, x.shape[0], _length(x, A), *A.shape)


def _blocks(x: Tensor, A: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut (Bt, L, ...) tensors into blocks of K tokens."""
    return zip(*(t.split(_length(x, A), 1) for t in (x, *others)), strict=True)


def _states(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor, buffers: Tensor) -> tuple[Tensor, Tensor]:
    """Compute decays and states of a block in the two buffers, both (Bt, K, N, D)."""
    decay, states = (buffer[:, : x.shape[1]] for buffer in buffers)
    torch.mul(dt[:, :, None], A, out=decay).exp_()
    torch.mul((dt * x)[:, :, None], B[..., None], out=states)
    for decay_t, h_t in zip(decay.unbind(1), states.unbind(1), strict=True):
        state = torch.addcmul(h_t, decay_t, state, out=h_t)
    return decay, states


def _reverse(grad_h: Tensor, decay: Tensor, carried: Tensor) -> Tensor:
    """Add the gradients from later tokens to every state's gradient in place; return the one for the block before."""
    for decay_t, grad_t in zip(reversed(decay.unbind(1)), reversed(grad_h.unbind(1)), strict=True):
        grad_t += carried
        carried = decay_t * grad_t
    return carried


def _probe() -> dict[str, Tensor]:
    """Return a small fixed input with ordinary and extreme step sizes."""
    rng = torch.Generator().manual_seed(0)
    x, z, B, C = (torch.randn(2, 70, width, generator=rng) for width in (32, 32, 16, 16))
    dt = torch.rand(2, 70, 32, generator=rng) * torch.tensor([0.1, 3.0])[:, None, None]
    A = -torch.arange(1, 17, dtype=torch.float32).repeat(32, 1)
    state = torch.randn(2, 32, 16, generator=rng)
    return {'x': x, 'dt': dt, 'A': A, 'B': B, 'C': C, 'D': torch.linspace(-1, 1, 32), 'z': z, 'state': state}


dispatch.register(
    dispatch.Operator(
        name='selective_scan',
        reference=selective_scan_reference,
        tensor=selective_scan_blocked,
        tensor_name='blocked',
        load_fused=load_selective_scan,
        native=selective_scan_native,
        probe=_probe,
        fused_streams=False,
        tolerance=1e-4,
    )
)
