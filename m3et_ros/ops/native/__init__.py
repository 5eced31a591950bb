"""The scans in C++ (scans.cpp) as operators of torch: m3et::ssd, m3et::selective_scan and their backwards.

They take float32 on the CPU and have first derivatives, and fake forms for tracing. They serve after `load` has opened
the built library; without it the tensor forms serve. Shapes are those of ssd.py and selective_scan.py.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SETS = ('plain', 'AVX2', 'AVX-512')
"""Instruction sets, in the order of m3et_level."""
BLOCK = 16
"""Steps between the states that the selective scan stores for its backward, as in scans.cpp."""

_library: ctypes.CDLL | None = None


def load(path: str) -> str:
    """Use the library at `path` from now on, and return the instruction set that it chose.

    Raises:
        OSError: the file is not a library, or not one of these kernels.
    """
    global _library
    found = ctypes.CDLL(path)
    if not hasattr(found, 'm3et_level'):
        raise OSError(f'{path} is not a library of these kernels; run m3et build kernels again')
    _library = found
    return instruction_set()


def unload() -> None:
    """Stop using the library."""
    global _library
    _library = None


def loaded() -> bool:
    """Return True while the library serves."""
    return _library is not None


def instruction_set() -> str:
    """Return the instruction set that the library uses on this CPU."""
    return SETS[_loaded_library().m3et_level()]


def force(level: int) -> None:
    """Use at most SETS[level], for comparisons; -1 returns to the best that the CPU has."""
    _loaded_library().m3et_force(level)


def _loaded_library() -> ctypes.CDLL:
    if _library is None:
        raise RuntimeError('the native scans are not loaded; run m3et build kernels')
    return _library


def _call(name: str, sizes: tuple[int, ...], *tensors: Tensor | None) -> None:
    """Call a function of the library with two int64 sizes, further int sizes and the addresses of tensors."""
    kinds = (ctypes.c_int64, ctypes.c_int64) + (ctypes.c_int,) * (len(sizes) - 2)
    getattr(_loaded_library(), f'm3et_{name}')(
        *(kind(size) for kind, size in zip(kinds, sizes, strict=True)),
        *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors),
    )


def _whole(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return contiguous tensors; refuse all but float32 on the CPU, because the library reads memory unchecked."""
    for t in tensors:
        if t.dtype != torch.float32 or not t.is_cpu:
            raise ValueError(f'the native scans take float32 on the CPU, not {t.dtype} on {t.device}')
    return tuple(t.contiguous() for t in tensors)


def _sizes(x: Tensor, B: Tensor) -> tuple[int, ...]:
    return (*x.shape, *B.shape[2:])


def _operator(function: Callable[..., Any]) -> torch._ops.OpOverload:
    """Register a function of the CPU as the operator m3et::<its name>.

    torch.library.custom_op would do the same, but its operators import torch's compiler at their first call, which
    costs every node a second of its start.
    """
    name = f'm3et::{function.__name__}'
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(name, 'CPU', function)
    return getattr(torch.ops.m3et, function.__name__).default


@_operator
def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return y (Bt, L, H, P) and the last state (Bt, H, P, N) of the state-space dual without skip."""
    inputs = _whole(x, dt, A, B, C)
    y, last = torch.empty_like(inputs[0]), _whole(state)[0].clone()
    _call('ssd_forward', _sizes(x, B), *inputs, y, last)
    return y, last


@_operator
def ssd_backward(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, grad_y: Tensor, grad_last: Tensor
) -> list[Tensor]:
    """Return the gradients of x, dt, A, B, C and the first state."""
    inputs = _whole(x, dt, A, B, C)
    carried = _whole(grad_last)[0].clone()
    grads = [torch.empty_like(t) for t in inputs]
    _call('ssd_backward', _sizes(x, B), *inputs, *_whole(state, grad_y), carried, *grads)
    return [*grads, carried]


@_operator
def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, for_backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (Bt, L, D), the last state and the states that the backward needs, of a scan without skip and gate."""
    inputs = _whole(x, dt, A, B, C)
    y, last = torch.empty_like(inputs[0]), _whole(state)[0].clone()
    starts = x.new_empty(_stored(x, A) if for_backward else 0)
    _call('scan_forward', (*x.shape, A.shape[1]), *inputs, y, last, starts if for_backward else None)
    return y, last, starts


def scan_into(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, y: Tensor, state: Tensor) -> None:
    """Scan one sequence on memory of the caller, without skip and gate.

    Args:
        x: (L, D).
        dt: (L, D).
        A: (D, N).
        B: (L, N).
        C: (L, N).
        y: (L, D), contiguous, receives the outputs.
        state: (D, N), contiguous, the state to start from; receives the last state.

    Raises:
        ValueError: a tensor is not float32 on the CPU.
        RuntimeError: the library is not loaded.
    """
    _call('scan_forward', (1, *x.shape, A.shape[1]), *_whole(x, dt, A, B, C, y, state), None)


@_operator
def selective_scan_backward(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, starts: Tensor, grad_y: Tensor, grad_last: Tensor
) -> list[Tensor]:
    """Return the gradients of x, dt, A, B, C and the first state."""
    inputs = _whole(x, dt, A, B, C)
    carried = _whole(grad_last)[0].clone()
    grads = [torch.empty_like(t) for t in inputs]
    _call('scan_backward', (*x.shape, A.shape[1]), *inputs, starts, *_whole(grad_y), carried, *grads)
    return [*grads, carried]


def _stored(x: Tensor, A: Tensor) -> int:
    """Return the size in numbers of the states before every BLOCK steps, with channels padded to whole vectors."""
    lanes = max(4 * 2**level for level in range(len(SETS))) if _library is None else _library.m3et_lanes()
    return x.shape[0] * -(-x.shape[1] // BLOCK) * -(-x.shape[2] // lanes) * lanes * A.shape[1]


@torch.library.register_fake('m3et::ssd')
def _(x, dt, A, B, C, state):
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(
        state, memory_format=torch.contiguous_format
    )


@torch.library.register_fake('m3et::ssd_backward')
def _(x, dt, A, B, C, state, grad_y, grad_last):
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, dt, A, B, C, state)]


@torch.library.register_fake('m3et::selective_scan')
def _(x, dt, A, B, C, state, for_backward):
    y, last = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, state))
    return y, last, x.new_empty(_stored(x, A) if for_backward else 0)


@torch.library.register_fake('m3et::selective_scan_backward')
def _(x, dt, A, B, C, starts, grad_y, grad_last):
    grads = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, dt, A, B, C)]
    return [*grads, x.new_empty(x.shape[0], *A.shape)]


def _ssd_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _ssd_grad(ctx, grad_y, grad_last):
    return tuple(ssd_backward(*ctx.saved_tensors, grad_y, grad_last))


def _scan_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:5], output[2])


def _scan_grad(ctx, grad_y, grad_last, _):
    return (*selective_scan_backward(*ctx.saved_tensors, grad_y, grad_last), None)


torch.library.register_autograd('m3et::ssd', _ssd_grad, setup_context=_ssd_context)
torch.library.register_autograd('m3et::selective_scan', _scan_grad, setup_context=_scan_context)
