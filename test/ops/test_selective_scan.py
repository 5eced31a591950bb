"""Selective scan: all forms agree with a float64 reference, values and gradients, under ordinary and extreme input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from m3et_ros.ops.selective_scan import (
    BUDGET,
    selective_scan,
    selective_scan_blocked,
    selective_scan_reference,
    selective_step,
)

FORMS = [selective_scan_reference, selective_scan_blocked]


def make(L: int, *, batch: int = 2, D: int = 6, N: int = 4, speed: float = 1.0, dtype=torch.float32) -> dict:
    """Input whose channels forget at every pace up to A = -16."""
    rng = torch.Generator().manual_seed(L)
    x, z, B, C = (torch.randn(batch, L, width, generator=rng) for width in (D, D, N, N))
    inputs = {
        'x': x,
        'dt': 0.1 * speed * torch.rand(batch, L, D, generator=rng),
        'A': -torch.linspace(1, 16, N).repeat(D, 1),
        'B': B,
        'C': C,
        'D': torch.randn(D, generator=rng),
        'z': z,
        'state': torch.randn(batch, D, N, generator=rng),
    }
    return {name: value.to(dtype) for name, value in inputs.items()}


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference as a share of the largest wanted value."""
    return float((found.double() - wanted.double()).abs().max() / wanted.abs().max().clamp(min=1e-12))


def doubled(inputs: dict) -> dict:
    return {name: value.double() for name, value in inputs.items()}


def stepwise(**inputs):
    state = inputs.pop('state')
    A, D = inputs.pop('A'), inputs.pop('D')
    outputs = []
    for t in range(inputs['x'].shape[1]):
        x, dt, B, C, z = (inputs[name][:, t] for name in ('x', 'dt', 'B', 'C', 'z'))
        y, state = selective_step(state, x, dt, A, B, C, D=D, z_t=z)
        outputs.append(y)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize('flush', [False, True])
@pytest.mark.parametrize('speed', [1.0, 30.0])
@pytest.mark.parametrize('L', [1, 2, 63, 64, 65, 147, 588])
def test_sequential_blocked_and_stepwise_forms_agree_with_float64(L, speed, flush):
    inputs = make(L, speed=speed)
    wanted = selective_scan_reference(**doubled(inputs))
    torch.set_flush_denormal(flush)
    try:
        for form in (*FORMS, stepwise):
            for found, expected in zip(form(**inputs), wanted, strict=True):
                assert error(found, expected) < 1e-5
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize('speed', [1.0, 30.0])
def test_gradients_of_both_forms_agree_with_float64(speed):
    inputs = make(65, speed=speed)

    def gradients(form, values):
        values = {name: value.clone().requires_grad_() for name, value in values.items()}
        y, state = form(**values)
        return torch.autograd.grad(y.sin().sum() + state.cos().sum(), list(values.values()))

    wanted = gradients(selective_scan_reference, doubled(inputs))
    for form in FORMS:
        for name, found, expected in zip(inputs, gradients(form, inputs), wanted, strict=True):
            assert error(found, expected) < 1e-4, name


def test_analytic_backward_of_the_blocks_passes_gradcheck():
    inputs = make(5, batch=1, D=2, N=2, dtype=torch.float64)
    values = [value.requires_grad_() for value in inputs.values()]
    assert torch.autograd.gradcheck(lambda *v: selective_scan_blocked(**dict(zip(inputs, v, strict=True))), values)


def test_backward_crosses_block_boundaries(monkeypatch):
    inputs = make(11, dtype=torch.float64)
    whole = make(11, dtype=torch.float64)
    y, _ = selective_scan_blocked(**{name: value.requires_grad_() for name, value in whole.items()})
    y.square().sum().backward()
    monkeypatch.setattr(
        'm3et_ros.ops.selective_scan.BUDGET', 4 * inputs['state'].numel()
    )  # blocks of 4, 4 and 3 tokens
    y, _ = selective_scan_blocked(**{name: value.requires_grad_() for name, value in inputs.items()})
    y.square().sum().backward()
    assert 11 * inputs['state'].numel() < BUDGET  # so the first pass was one block
    for name in inputs:
        assert error(inputs[name].grad, whole[name].grad) < 1e-12, name


class OutputCount(TorchDispatchMode):
    """Counts the numbers in the outputs of all operations inside."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.total += out.numel()
        return out


@pytest.mark.parametrize('form', FORMS)
def test_backward_work_is_linear_in_length(form):
    """Indexing a sequence step by step makes the backward quadratic: it writes a zero sequence for each step."""

    def work(L: int) -> int:
        y, _ = form(**{name: value.requires_grad_() for name, value in make(L).items()})
        with OutputCount() as outputs:
            y.sum().backward()
        return outputs.total

    assert work(128) < 2.2 * work(64)


@pytest.mark.parametrize('form', FORMS)
def test_a_later_token_does_not_change_an_earlier_output(form):
    inputs = make(20)
    before, _ = form(**inputs)
    inputs['x'][:, 12] += 1
    after, _ = form(**inputs)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@settings(max_examples=25, deadline=None)
@given(L=st.integers(2, 40), data=st.data())
def test_two_halves_with_the_state_between_are_the_whole(L, data):
    cut = data.draw(st.integers(1, L - 1))
    inputs = make(L)
    wanted = selective_scan(**inputs)
    state, parts = inputs['state'], []
    for piece in (slice(None, cut), slice(cut, None)):
        part = {name: v[:, piece] if name in ('x', 'dt', 'B', 'C', 'z') else v for name, v in inputs.items()}
        y, state = selective_scan(**{**part, 'state': state})
        parts.append(y)
    assert error(torch.cat(parts, 1), wanted[0]) < 1e-5
    assert error(state, wanted[1]) < 1e-5


@pytest.mark.parametrize('form', FORMS)
def test_zero_step_neither_writes_nor_decays(form):
    inputs = make(9)
    inputs['dt'][:, 4:] = 0
    _, state = form(**inputs)
    short = {name: v[:, :4] if v.dim() == 3 and v.shape[1] == 9 else v for name, v in inputs.items()}
    assert torch.equal(state, form(**short)[1])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_input_is_scanned_in_float32(dtype):
    inputs = {name: value.to(dtype) for name, value in make(147).items()}
    y, state = selective_scan(**inputs)
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    _, wanted = selective_scan_reference(**doubled(inputs))
    assert error(state, wanted) < 1e-5


def test_autocast_does_not_lower_the_scan():
    inputs = make(64)
    with torch.autocast('cpu', torch.bfloat16):
        y, _ = selective_scan(**inputs)
    assert error(y, selective_scan_reference(**doubled(inputs))[0]) < 1e-5


def test_empty_sequence_and_unknown_kernel_are_refused():
    with pytest.raises(ValueError, match='no tokens'):
        selective_scan(**{name: v[:, :0] if v.dim() == 3 and v.shape[1] == 4 else v for name, v in make(4).items()})
    with pytest.raises(ValueError, match='kernel'):
        selective_scan(**make(4), kernel='quick')


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', ['x', 'dt', 'B', 'C'])
def test_a_value_that_is_not_finite_reaches_no_earlier_token(form, name):
    inputs = make(70)
    clean, _ = form(**inputs)
    inputs[name][0, 40] = torch.nan
    y, _ = form(**inputs)
    assert torch.equal(y[:, :40], clean[:, :40]) and torch.equal(y[1], clean[1]) and y[0, 40].isnan().all()


@pytest.mark.parametrize('form', FORMS)
def test_an_empty_batch_gives_empty_outputs_and_no_gradient(form):
    inputs = {n: v[:0] if n in ('x', 'dt', 'B', 'C', 'z', 'state') else v for n, v in make(70).items()}
    inputs['A'].requires_grad_()
    y, state = form(**inputs)
    y.sum().backward()
    assert (y.shape, state.shape) == ((0, 70, 6), (0, 6, 4)) and not inputs['A'].grad.any()
