"""The selective scan in blocks of tokens: the fast form of S6 in plain torch, forward and backward.

Decays and writes of a block are computed at once, in a buffer that stays in the cache; what remains of the recurrence
is one fused multiply-add a token. The backward keeps only the state before each block and computes the rest again, so
memory and time are linear in L (autograd through indexed steps would be quadratic in time).

Symbols as in selective_scan.py, except that channels come last: A (N, D), states (Bt, N, D). K tokens of a block.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from m3et_ros.ops.precision import no_autocast

BUDGET = 2 ** 18  # numbers in one buffer of a block, 1 MiB in float32: fits beside a second one in a usual L2 cache


def blocked_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Scan without skip and gate: A (D, N), state (Bt, D, N), all of one dtype -> y (Bt, L, D), last state."""
    y, last = _BlockedScan.apply(x, dt, A.T.contiguous(), B, C, state.transpose(1, 2).contiguous())
    return y, last.transpose(1, 2)


class _BlockedScan(torch.autograd.Function):
    """Forward recurrence h_t = a_t h_{t-1} + w_t, a = exp(dt A), w = dt x B; y = sum over states of C h."""

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
        *buffers, spare = _buffers(3, x, A)
        blocks = zip(_blocks(x, A, dt, B, C, grad_y, *grads), starts, strict=True)
        with no_autocast(x.device):
            for (x_k, dt_k, B_k, C_k, grad_y_k, *grads_k), start in reversed(list(blocks)):
                decay, states = _states(x_k, dt_k, A, B_k, start, buffers)
                grad_h = torch.mul(C_k[..., None], grad_y_k[:, :, None], out=spare[:, :x_k.shape[1]])
                carried = _reverse(grad_h, decay, carried)
                grad_C = torch.matmul(states, grad_y_k[..., None])[..., 0]
                grad_B = torch.matmul(grad_h, (dt_k * x_k)[..., None])[..., 0]
                grad_write = torch.matmul(B_k[:, :, None], grad_h)[:, :, 0]
                # From here on the buffer of decays holds the gradient of dt A.
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
    """Tokens K of a block."""
    return max(1, min(x.shape[1], BUDGET // (x.shape[0] * A.numel())))


def _buffers(count: int, x: Tensor, A: Tensor) -> Tensor:
    """Room for `count` blocks of states (count, Bt, K, N, D): fresh memory for each block costs more than the sums."""
    return x.new_empty(count, x.shape[0], _length(x, A), *A.shape)


def _blocks(x: Tensor, A: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut (Bt, L, ...) tensors into blocks of K tokens."""
    return zip(*(t.split(_length(x, A), 1) for t in (x, *others)), strict=True)


def _states(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, state: Tensor, buffers: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and states of a block, both (Bt, K, N, D), in the buffers."""
    decay, states = (buffer[:, :x.shape[1]] for buffer in buffers)
    torch.mul(dt[:, :, None], A, out=decay).exp_()
    torch.mul((dt * x)[:, :, None], B[..., None], out=states)
    for decay_t, h_t in zip(decay.unbind(1), states.unbind(1), strict=True):
        state = torch.addcmul(h_t, decay_t, state, out=h_t)
    return decay, states


def _reverse(grad_h: Tensor, decay: Tensor, carried: Tensor) -> Tensor:
    """Add to each state's gradient what later tokens send back, in place; returns what goes to the block before."""
    for decay_t, grad_t in zip(reversed(decay.unbind(1)), reversed(grad_h.unbind(1)), strict=True):
        grad_t += carried
        carried = decay_t * grad_t
    return carried
