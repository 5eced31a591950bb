"""The scans in C++ (scans.cpp) as operators of torch, once somebody has built them and `load` was told where.

    m3et::ssd, m3et::selective_scan and their backwards: float32 on the CPU, first derivatives, fake forms for tracing.

Never needed: without the library the tensor forms serve. Shapes as in ssd.py and selective_scan.py.
"""

import ctypes

import torch
from torch import Tensor

SETS = ('plain', 'AVX2', 'AVX-512')
"""Instruction sets by m3et_level."""
BLOCK = 16
"""Steps between the states that Mamba-1 keeps for its backward, as in scans.cpp."""

_library: ctypes.CDLL | None = None


def load(path: str) -> str:
    """Use the library at `path` from now on; returns the instruction set that it chose.

    Raises:
        OSError: the file is no library, or not this one.
    """
    global _library
    found = ctypes.CDLL(path)
    if not hasattr(found, 'm3et_level'):
        raise OSError(f'{path} is not a library of these kernels; run m3et build kernels again')
    _library = found
    return instruction_set()


def unload() -> None:
    """Do as if the library had not been built."""
    global _library
    _library = None


def loaded() -> bool:
    """Whether the library serves."""
    return _library is not None


def instruction_set() -> str:
    """What the library uses on this CPU."""
    return SETS[_library.m3et_level()]


def force(level: int) -> None:
    """Use no more than SETS[level], for comparisons; -1 is the best there is."""
    _library.m3et_force(level)


def _call(name: str, sizes: tuple[int, ...], *tensors: Tensor | None) -> None:
    """Call a function of the library: two int64 sizes, the others int, and the tensors' addresses."""
    kinds = (ctypes.c_int64, ctypes.c_int64) + (ctypes.c_int,) * (len(sizes) - 2)
    getattr(_library, f'm3et_{name}')(
        *(kind(size) for kind, size in zip(kinds, sizes, strict=True)),
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors),
    )


def _whole(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Contiguous float32 on the CPU, which is what the library reads without looking."""
    for t in tensors:
        if t.dtype != torch.float32 or not t.is_cpu:
            raise ValueError(f'the native scans take float32 on the CPU, not {t.dtype} on {t.device}')
    return tuple(t.contiguous() for t in tensors)


def _sizes(x: Tensor, B: Tensor) -> tuple[int, ...]:
    return (*x.shape, *B.shape[2:])


@torch.library.custom_op('m3et::ssd', mutates_args=(), device_types='cpu')
def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """State-space dual without the skip: y (Bt, L, H, P) and the last state (Bt, H, P, N)."""
    inputs = _whole(x, dt, A, B, C)
    y, last = torch.empty_like(inputs[0]), _whole(state)[0].clone()
    _call('ssd_forward', _sizes(x, B), *inputs, y, last)
    return y, last


@torch.library.custom_op('m3et::ssd_backward', mutates_args=(), device_types='cpu')
def ssd_backward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
    y: Tensor,
    last: Tensor,
    grad_y: Tensor,
    grad_last: Tensor,
) -> list[Tensor]:
    """Gradients of x, dt, A, B, C and the first state."""
    inputs = _whole(x, dt, A, B, C)
    carried = _whole(grad_last)[0].clone()
    grads = [torch.empty_like(t) for t in inputs]
    _call('ssd_backward', _sizes(x, B), *inputs, *_whole(y, state, last, grad_y), carried, *grads)
    return [*grads, carried]


@torch.library.custom_op('m3et::selective_scan', mutates_args=(), device_types='cpu')
def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Selective scan without skip and gate: y (Bt, L, D), the last state and, to `keep`, what the backward needs."""
    inputs = _whole(x, dt, A, B, C)
    y, last = torch.empty_like(inputs[0]), _whole(state)[0].clone()
    starts = x.new_empty(_kept(x, A) if keep else 0)
    _call('scan_forward', (*x.shape, A.shape[1]), *inputs, y, last, starts if keep else None)
    return y, last, starts


@torch.library.custom_op('m3et::selective_scan_backward', mutates_args=(), device_types='cpu')
def selective_scan_backward(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor, grad_y: Tensor, grad_last: Tensor
) -> list[Tensor]:
    """Gradients of x, dt, A, B, C and the first state."""
    inputs = _whole(x, dt, A, B, C)
    carried = _whole(grad_last)[0].clone()
    grads = [torch.empty_like(t) for t in inputs]
    _call('scan_backward', (*x.shape, A.shape[1]), *inputs, starts, *_whole(grad_y), carried, *grads)
    return [*grads, carried]


def _kept(x: Tensor, A: Tensor) -> int:
    """Numbers that the states before every BLOCK steps take, channels filled up to whole vectors."""
    lanes = _library.m3et_lanes() if loaded() else max(4 * 2**level for level in range(len(SETS)))
    return x.shape[0] * -(-x.shape[1] // BLOCK) * -(-x.shape[2] // lanes) * lanes * A.shape[1]


@ssd.register_fake
def _(x, dt, A, B, C, state):
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(
        state, memory_format=torch.contiguous_format
    )


@ssd_backward.register_fake
def _(x, dt, A, B, C, state, y, last, grad_y, grad_last):
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, dt, A, B, C, state)]


@selective_scan.register_fake
def _(x, dt, A, B, C, state, keep):
    y, last = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, state))
    return y, last, x.new_empty(_kept(x, A) if keep else 0)


@selective_scan_backward.register_fake
def _(x, dt, A, B, C, starts, grad_y, grad_last):
    grads = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, dt, A, B, C)]
    return [*grads, x.new_empty(x.shape[0], *A.shape)]


def _ssd_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs, *output)


def _ssd_grad(ctx, grad_y, grad_last):
    return tuple(ssd_backward(*ctx.saved_tensors, grad_y, grad_last))


def _scan_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:5], output[2])


def _scan_grad(ctx, grad_y, grad_last, _):
    return (*selective_scan_backward(*ctx.saved_tensors, grad_y, grad_last), None)


ssd.register_autograd(_ssd_grad, setup_context=_ssd_context)
selective_scan.register_autograd(_scan_grad, setup_context=_scan_context)
