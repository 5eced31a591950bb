"""Choice of the kernel that serves an operator on a device.

Every operator has a sequential reference and a tensor form that runs wherever torch does. A faster kernel is optional:
mamba-ssm on CUDA, C++ on the CPU. Every form is tested. Before its first use on a device it runs on a small
fixed input that starts from a state, and its outputs, final state and gradients are compared with those of the
reference. A form that disagrees is not used.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from m3et_ros.ops import fused, native
from m3et_ros.ops.precision import no_autocast

Form = Callable[..., tuple[Tensor, Tensor]]
KERNELS = ('auto', 'fused', 'native', 'tensor', 'reference')
FUSED, NATIVE = 'mamba-ssm', 'native'
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operator:
    """An operator and its forms, which take the same arguments and return (y, state)."""

    # Name by which `choose` knows it.
    name: str
    # Sequential form, which every other form is compared with.
    reference: Form
    # Fast form in plain torch.
    tensor: Form
    # Name of the tensor form in reports.
    tensor_name: str
    # Imports the fused form; raises whatever a missing or broken installation raises.
    load_fused: Callable[[], Form]
    # Form in C++; serves only after ops.native has loaded its library.
    native: Form
    # Makes the small fixed input: keyword arguments of every form, `state` among them, on the CPU.
    probe: Callable[[], dict[str, Tensor]]
    # True where the fused form can start from a state and passes gradients through the final state.
    fused_streams: bool
    # Largest accepted difference from the reference, as a share of the largest reference value.
    tolerance: float


@dataclass(frozen=True)
class KernelChoice:
    """The kernel that serves an operator on a device."""

    # Operator.
    op: str
    # 'mamba-ssm', 'native', the name of the tensor form, or 'reference'.
    name: str
    # Largest difference from the reference on the fixed input, as a share of the largest reference value.
    max_error: float
    # Reason for the choice, in words.
    reason: str


OPERATORS: dict[str, Operator] = {}
"""Registered operators by name."""
_TRACED: ContextVar[Mapping[str, Form]] = ContextVar('traced', default=MappingProxyType({}))
_served: dict[tuple[str, torch.device], tuple[KernelChoice, Form]] = {}


def register(operator: Operator) -> None:
    """Make an operator known to `choose`."""
    OPERATORS[operator.name] = operator


def choose(op: str, device: torch.device | str) -> KernelChoice:
    """Return the kernel that serves `op` ('selective_scan' or 'ssd') on `device`, decided once per device."""
    return _serve(op, torch.device(device))[0]


def describe(device: torch.device | str) -> list[KernelChoice]:
    """Return the choice for every operator on a device, for reports."""
    return [choose(op, device) for op in OPERATORS]


def forget() -> None:
    """Forget every choice, because a library was loaded or unloaded."""
    _served.clear()


@contextmanager
def traced(op: str, function: Form) -> Iterator[None]:
    """Have compilers within the block trace `function` for an operator, in the place of its tensor form."""
    before = _TRACED.set({**_TRACED.get(), op: function})
    try:
        yield
    finally:
        _TRACED.reset(before)


def form(op: str, kernel: str, device: torch.device) -> Form:
    """Return the function to call for `kernel`, one of KERNELS.

    Raises:
        ValueError: the kernel is unknown.
        RuntimeError: 'fused' or 'native' was asked for and is not available.
    """
    operator = OPERATORS[op]
    if kernel not in KERNELS:
        raise ValueError(f'kernel is {kernel!r}; give one of {", ".join(KERNELS)}')
    if kernel == 'reference':
        return operator.reference
    # A compiler must not trace the comparison, and without values there is nothing to compare.
    if kernel == 'tensor' or device.type == 'meta':
        return operator.tensor
    if torch.compiler.is_compiling():
        return _TRACED.get().get(op, operator.tensor)
    choice, function = _serve(op, device)
    if kernel != 'auto' and choice.name != {'fused': FUSED, 'native': NATIVE}[kernel]:
        raise RuntimeError(f"no {kernel} kernel for {op} on {device}: {choice.reason}; use kernel='auto'")
    return function


def _serve(op: str, device: torch.device) -> tuple[KernelChoice, Form]:
    if (op, device) not in _served:
        _served[op, device] = decide(OPERATORS[op], device)
    return _served[op, device]


def decide(operator: Operator, device: torch.device) -> tuple[KernelChoice, Form]:
    """Take the first of fast, tensor and reference form that runs and agrees; log a form that does not."""
    name, tolerance = operator.name, operator.tolerance
    fast, kind, why = _fast_form(operator, device)
    if fast is not None:
        error = _disagreement(operator, fast, device, streams=kind != FUSED or operator.fused_streams)
        if error <= tolerance:
            agreement = f'agrees with the reference to {error:.0e}'
            return KernelChoice(name, kind, error, f'{why}, {agreement}' if why else agreement), fast
        why = f'{kind} is off by {error:.0e}, more than {tolerance:.0e}'
        log.warning('%s on %s: %s; using %s', name, device, why, operator.tensor_name)
    error = _disagreement(operator, operator.tensor, device)
    if error <= tolerance:
        return KernelChoice(name, operator.tensor_name, error, why), operator.tensor
    why = f'{why}; {operator.tensor_name} is off by {error:.0e}, more than {tolerance:.0e}'
    log.warning('%s on %s: %s; using the slow reference', name, device, why)
    return KernelChoice(name, 'reference', 0.0, why), operator.reference


def _fast_form(operator: Operator, device: torch.device) -> tuple[Form | None, str, str]:
    """Return the native or fused form or None, its name, and a remark on it or on its absence."""
    if device.type == 'cpu' and native.loaded():
        return operator.native, NATIVE, native.instruction_set()
    if device.type == 'cpu':
        return None, '', 'the native scans are not loaded: m3et build kernels'
    if device.type != 'cuda':
        return None, '', f'{device} is not a CUDA device'
    try:
        return operator.load_fused(), FUSED, fused.origin()
    except Exception as error:  # a broken binary raises nearly anything, and none of it may stop the model
        source = f'{FUSED} of {fused.origin()}' if fused.origin() else FUSED
        why = f'{source} cannot be imported ({type(error).__name__}: {error})'.splitlines()[0]
        log.info('%s on %s: %s; using %s', operator.name, device, why, operator.tensor_name)
        return None, '', why


def _disagreement(operator: Operator, candidate: Form, device: torch.device, *, streams: bool = True) -> float:
    """Return the largest relative difference from the reference; inf where the candidate fails or returns NaN.

    Outputs, final state and the gradient of every input are compared, and their shapes and dtypes must be equal.
    Without `streams` the scan starts empty, and no gradient is asked of the final state.
    """
    try:
        found = _outputs_and_gradients(candidate, operator, device, streams)
    except Exception:
        log.exception('%s: a kernel failed on the fixed input', operator.name)
        return float('inf')
    wanted = _outputs_and_gradients(operator.reference, operator, device, streams)
    if [(t.shape, t.dtype) for t in found] != [(t.shape, t.dtype) for t in wanted]:
        return float('inf')
    errors = [float((f - w).abs().max() / w.abs().max()) for f, w in zip(found, wanted, strict=True)]
    return max(error if error == error else float('inf') for error in errors)  # NaN counts as the largest error


@torch.inference_mode(False)
@torch.enable_grad()
def _outputs_and_gradients(function: Form, operator: Operator, device: torch.device, streams: bool) -> list[Tensor]:
    """Return y, the final state and the gradient of every input, on the fixed input."""
    with torch.device('cpu'):  # not on the default device of the caller
        probe = operator.probe()
    if not streams:
        del probe['state']
    inputs = {name: value.to(device).requires_grad_() for name, value in probe.items()}
    # An autocast region of the caller would cost the backward pass digits, and the form its trust.
    with no_autocast(device):
        y, state = function(**inputs)
        loss = y.square().sum()
        if streams:
            loss = loss + state.square().sum()
        gradients = torch.autograd.grad(loss, list(inputs.values()))
    return [t.detach() for t in (y, state, *gradients)]
