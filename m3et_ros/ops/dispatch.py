"""Which kernel serves an operator on a device, and why.

Each operator has a sequential reference, a tensor form that runs wherever torch does, and perhaps a faster kernel,
looked for at run time and never needed: of mamba-ssm on CUDA, in C++ on a CPU where it was built. None is trusted
unseen: before its first use on a device a form is compared with the reference on a small fixed input, outputs and
gradients; one that disagrees is not used.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from m3et_ros.ops import native
from m3et_ros.ops.precision import no_autocast

Form = Callable[..., tuple[Tensor, Tensor]]
KERNELS = ('auto', 'fused', 'native', 'tensor', 'reference')
FUSED, NATIVE = 'mamba-ssm', 'native'
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operator:
    """An operator and the forms it comes in; all take the same arguments and return (y, state)."""

    # Name under which `choose` knows it.
    name: str
    # Sequential form, the yardstick.
    reference: Form
    # Fast form in plain torch.
    tensor: Form
    # What the tensor form is called in reports.
    tensor_name: str
    # Imports the fused form; raises whatever a missing or broken installation raises.
    load_fused: Callable[[], Form]
    # Form in C++, which serves only once ops.native has its library.
    native: Form
    # A small fixed input, keyword arguments of every form (on the CPU).
    probe: Callable[[], dict[str, Tensor]]
    # Largest accepted difference from the reference, as a share of the largest reference value.
    tolerance: float


@dataclass(frozen=True)
class KernelChoice:
    """What serves an operator on a device."""

    # Operator.
    op: str
    # 'mamba-ssm', 'native', the name of the tensor form, or 'reference'.
    name: str
    # Largest difference from the reference on the fixed input, as a share of the largest reference value.
    max_error: float
    # Why this one, in words.
    reason: str


_operators: dict[str, Operator] = {}
_served: dict[tuple[str, torch.device], tuple[KernelChoice, Form]] = {}


def register(operator: Operator) -> None:
    """Make an operator known to `choose`."""
    _operators[operator.name] = operator


def choose(op: str, device: torch.device | str) -> KernelChoice:
    """The kernel that serves `op` ('selective_scan' or 'ssd') on `device`; decided once per device."""
    return _serve(op, torch.device(device))[0]


def describe(device: torch.device | str) -> list[KernelChoice]:
    """Every operator's choice on a device, for reports."""
    return [choose(op, device) for op in _operators]


def forget() -> None:
    """Decide anew: a library has come or gone."""
    _served.clear()


def form(op: str, kernel: str, device: torch.device) -> Form:
    """The function to call for `kernel`, one of KERNELS.

    Raises:
        ValueError: unknown kernel.
        RuntimeError: 'fused' or 'native' was asked for and cannot be had.
    """
    operator = _operators[op]
    if kernel not in KERNELS:
        raise ValueError(f'kernel is {kernel!r} but must be one of {", ".join(KERNELS)}')
    if kernel == 'reference':
        return operator.reference
    # A compiler must not trace the comparison, and there is nothing to compare without values.
    if kernel == 'tensor' or torch.compiler.is_compiling() or device.type == 'meta':
        return operator.tensor
    choice, function = _serve(op, device)
    if kernel != 'auto' and choice.name != {'fused': FUSED, 'native': NATIVE}[kernel]:
        raise RuntimeError(f"no {kernel} kernel for {op} on {device}: {choice.reason}; use kernel='auto'")
    return function


def _serve(op: str, device: torch.device) -> tuple[KernelChoice, Form]:
    if (op, device) not in _served:
        _served[op, device] = decide(_operators[op], device)
    return _served[op, device]


def decide(operator: Operator, device: torch.device) -> tuple[KernelChoice, Form]:
    """Take the first of fast, tensor and reference form that runs and agrees; a failed check is logged."""
    name, tolerance = operator.name, operator.tolerance
    fast, kind, why = _fast(operator, device)
    if fast is not None:
        error = _disagreement(operator, fast, device)
        if error <= tolerance:
            said = f'agrees with the reference to {error:.0e}'
            return KernelChoice(name, kind, error, f'{why}, {said}' if why else said), fast
        why = f'{kind} is off by {error:.0e}, more than {tolerance:.0e}'
        log.warning('%s on %s: %s; using %s', name, device, why, operator.tensor_name)
    error = _disagreement(operator, operator.tensor, device)
    if error <= tolerance:
        return KernelChoice(name, operator.tensor_name, error, why), operator.tensor
    why = f'{why}; {operator.tensor_name} is off by {error:.0e}, more than {tolerance:.0e}'
    log.warning('%s on %s: %s; using the slow reference', name, device, why)
    return KernelChoice(name, 'reference', 0.0, why), operator.reference


def _fast(operator: Operator, device: torch.device) -> tuple[Form | None, str, str]:
    """A form beyond plain torch, what it is called, and what is to be said of it or of its absence."""
    if device.type == 'cpu' and native.loaded():
        return operator.native, NATIVE, native.instruction_set()
    if device.type != 'cuda':
        return None, '', 'no CUDA device' if not torch.cuda.is_available() else f'{device} is not a CUDA device'
    try:
        return operator.load_fused(), FUSED, ''
    except Exception as error:  # a broken binary raises nearly anything, and none of it may stop the model
        why = f'{FUSED} cannot be imported ({type(error).__name__}: {error})'.splitlines()[0]
        log.info('%s on %s: %s; using %s', operator.name, device, why, operator.tensor_name)
        return None, '', why


def _disagreement(operator: Operator, candidate: Form, device: torch.device) -> float:
    """Largest difference from the reference in outputs and gradients, relative; inf where the candidate fails."""
    try:
        found = _outputs_and_gradients(candidate, operator, device)
    except Exception:
        log.exception('%s: a kernel failed on the fixed input', operator.name)
        return float('inf')
    wanted = _outputs_and_gradients(operator.reference, operator, device)
    errors = [float((f - w).abs().max() / w.abs().max()) for f, w in zip(found, wanted, strict=True)]
    return max(error if error == error else float('inf') for error in errors)  # NaN is as wrong as can be


@torch.inference_mode(False)
@torch.enable_grad()
def _outputs_and_gradients(function: Form, operator: Operator, device: torch.device) -> list[Tensor]:
    with torch.device('cpu'):  # whatever default device the caller has set
        probe = operator.probe()
    inputs = {name: value.to(device).requires_grad_() for name, value in probe.items()}
    # The caller may stand in an autocast region, where the backward of the probe would lose digits and trust be lost.
    with no_autocast(device):
        y, state = function(**inputs)
        # The state is left out: mamba-ssm's selective scan gives it no gradient.
        gradients = torch.autograd.grad(y.square().sum(), list(inputs.values()))
    return [t.detach().float() for t in (y, state, *gradients)]
