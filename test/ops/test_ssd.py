"""State-space dual: all forms agree with a float64 reference in values and gradients, extreme input included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.ops.ssd import ssd, ssd_chunked, ssd_reference, ssd_shared, ssd_step

SEQUENCES = ('x', 'dt', 'B', 'C')


def make(
    L: int, *, batch: int = 2, H: int = 4, P: int = 3, N: int = 5, G: int = 1, speed: float = 1.0, dtype=torch.float32
) -> dict:
    """Input whose heads forget at every pace up to A = -16."""
    rng = torch.Generator().manual_seed(L)
    x, B, C = (torch.randn(batch, L, *size, generator=rng) for size in ((H, P), (G, N), (G, N)))
    inputs = {
        'x': x,
        'dt': 0.1 * speed * torch.rand(batch, L, H, generator=rng),
        'A': -torch.linspace(1, 16, H),
        'B': B,
        'C': C,
        'D': torch.randn(H, generator=rng),
        'state': torch.randn(batch, H, P, N, generator=rng),
    }
    return {name: value.to(dtype) for name, value in inputs.items()}


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference as a share of the largest wanted value."""
    return float((found.double() - wanted.double()).abs().max() / wanted.abs().max().clamp(min=1e-12))


def doubled(inputs: dict) -> dict:
    return {name: value.double() for name, value in inputs.items()}


def stepwise(*, x, dt, A, B, C, D, state):
    outputs = []
    for t in range(x.shape[1]):
        y, state = ssd_step(state, x[:, t], dt[:, t], A, B[:, t], C[:, t], D=D)
        outputs.append(y)
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize('flush', [False, True])
@pytest.mark.parametrize('speed', [1.0, 30.0])
@pytest.mark.parametrize('L', [1, 2, 63, 64, 65, 147, 588])
def test_sequential_chunked_and_stepwise_forms_agree_with_float64(L, speed, flush):
    inputs = make(L, speed=speed, G=2)
    wanted = ssd_reference(**doubled(inputs))
    torch.set_flush_denormal(flush)
    try:
        for form in (ssd_reference, ssd_chunked, stepwise, lambda **i: ssd_chunked(**i, chunk=98)):
            for found, expected in zip(form(**inputs), wanted, strict=True):
                assert error(found, expected) < 1e-4
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize('G', [1, 2, 4])
def test_the_heads_of_a_group_share_b_and_c(G):
    inputs = make(70, G=G, dtype=torch.float64)
    repeated = {**inputs, **{name: inputs[name].repeat_interleave(4 // G, 2) for name in 'BC'}}
    for form in (ssd_reference, ssd_chunked):
        for found, expected in zip(form(**inputs), ssd_reference(**repeated), strict=True):
            assert error(found, expected) < 1e-12


@pytest.mark.parametrize('speed', [1.0, 30.0])
@pytest.mark.parametrize('form', [ssd_reference, ssd_chunked])
def test_gradients_agree_with_float64(form, speed):
    inputs = make(147, G=2, speed=speed)

    def gradients(function, values):
        values = {name: value.clone().requires_grad_() for name, value in values.items()}
        y, state = function(**values)
        return torch.autograd.grad(y.sin().sum() + state.cos().sum(), list(values.values()))

    wanted = gradients(ssd_reference, doubled(inputs))
    for name, found, expected in zip(inputs, gradients(form, inputs), wanted, strict=True):
        assert error(found, expected) < 1e-4, name


def test_chunked_form_passes_gradcheck_with_an_incomplete_last_chunk():
    inputs = make(5, batch=1, H=2, P=1, N=2, dtype=torch.float64)
    values = [value.requires_grad_() for value in inputs.values()]
    assert torch.autograd.gradcheck(lambda *v: ssd_chunked(**dict(zip(inputs, v, strict=True)), chunk=2), values)


def test_a_later_token_does_not_change_an_earlier_output():
    inputs = make(150)
    before, _ = ssd(**inputs)
    inputs['x'][:, 77] += 1
    after, _ = ssd(**inputs)
    assert torch.equal(before[:, :77], after[:, :77])
    assert not torch.allclose(before[:, 77:], after[:, 77:])


@settings(max_examples=25, deadline=None)
@given(L=st.integers(2, 40), chunk=st.integers(1, 50), data=st.data())
def test_two_halves_with_the_state_between_are_the_whole_at_any_chunk(L, chunk, data):
    cut = data.draw(st.integers(1, L - 1))
    inputs = make(L)
    wanted = ssd_reference(**inputs)
    state, parts = inputs['state'], []
    for piece in (slice(None, cut), slice(cut, None)):
        part = {name: v[:, piece] if name in SEQUENCES else v for name, v in inputs.items()}
        y, state = ssd(**{**part, 'state': state}, chunk=chunk)
        parts.append(y)
    assert error(torch.cat(parts, 1), wanted[0]) < 1e-5
    assert error(state, wanted[1]) < 1e-5


@pytest.mark.parametrize('form', [ssd_reference, ssd_chunked])
def test_zero_step_neither_writes_nor_decays(form):
    inputs = make(70)
    inputs['dt'][:, 60:] = 0
    _, state = form(**inputs)
    short = {name: v[:, :60] if name in SEQUENCES else v for name, v in inputs.items()}
    assert error(state, form(**short)[1]) < 1e-6


@pytest.mark.parametrize('speed', [1e3, 1e6])
def test_extreme_decay_gives_finite_values_and_gradients(speed):
    inputs = {name: value.requires_grad_() for name, value in make(130, speed=speed).items()}
    y, state = ssd_chunked(**inputs)
    (y.sum() + state.sum()).backward()
    assert all(value.isfinite().all() for value in (y, state))
    assert all(value.grad.isfinite().all() for value in inputs.values())


def test_low_precision_input_is_scanned_in_float32():
    inputs = {name: value.bfloat16() for name, value in make(147).items()}
    with torch.autocast('cpu', torch.bfloat16):
        y, state = ssd(**inputs)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert error(state, ssd_reference(**doubled(inputs))[1]) < 1e-5


def test_bad_input_is_refused():
    empty = {name: v[:, :0] if name in SEQUENCES else v for name, v in make(4).items()}
    with pytest.raises(ValueError, match='0 tokens'):
        ssd(**empty)
    with pytest.raises(ValueError, match='chunks of 0'):
        ssd(**make(4), chunk=0)
    with pytest.raises(ValueError, match='3 groups must divide the 4 heads'):
        ssd(**make(4, G=3))


@pytest.mark.parametrize('each', [1, 3])
@pytest.mark.parametrize('L', [1, 7, 70])
def test_sequences_that_share_states_equal_those_with_a_state_each(L, each):
    inputs = make(L, batch=6, G=2)
    shared = inputs['state'][: 6 // each].clone()
    found, wanted = ({name: t.clone().requires_grad_() for name, t in inputs.items()} for _ in range(2))
    found['state'], wanted['state'] = (shared.clone().requires_grad_() for _ in range(2))
    y = ssd_shared(**found)
    reference, _ = ssd_reference(**{**wanted, 'state': wanted['state'].repeat_interleave(each, 0)})
    assert error(y.detach(), reference.detach()) < 1e-5
    y.square().sum().backward()
    reference.square().sum().backward()
    for name in found:
        assert error(found[name].grad, wanted[name].grad) < 1e-4, name


def test_shared_states_serve_consecutive_sequences_in_bfloat16_too():
    inputs = make(5, batch=4)
    x = inputs['x'].bfloat16()
    y = ssd_shared(**{**inputs, 'x': x, 'state': inputs['state'][:2]})
    wanted, _ = ssd_reference(**{**inputs, 'x': x.float(), 'state': inputs['state'][[0, 0, 1, 1]]})
    assert y.dtype == torch.bfloat16 and error(y, wanted) < 0.01


@pytest.mark.parametrize('form', [ssd_reference, ssd_chunked])
@pytest.mark.parametrize('name', SEQUENCES)
@pytest.mark.parametrize('wrong', [float('nan'), float('inf')])
def test_a_value_that_is_not_finite_reaches_no_earlier_token(form, name, wrong):
    inputs = make(70, G=2)
    clean, _ = ssd_reference(**inputs)
    inputs[name][0, 40] = wrong
    y, state = form(**inputs)
    assert error(y[:, :40], clean[:, :40]) < 1e-6 and error(y[1], clean[1]) < 1e-6
    assert not y[0, 40].isfinite().any()
    assert name == 'C' or not state[0].isfinite().all()


def test_a_value_that_is_not_finite_reaches_no_earlier_token_behind_a_shared_state():
    inputs = make(9, batch=4)
    clean = ssd_shared(**{**inputs, 'state': inputs['state'][:2]})
    inputs['x'][3, 5] = torch.nan
    y = ssd_shared(**{**inputs, 'state': inputs['state'][:2]})
    assert error(y[:3], clean[:3]) < 1e-5 and error(y[3, :5], clean[3, :5]) < 1e-5 and y[3, 5].isnan().all()


@pytest.mark.parametrize('form', [ssd_reference, ssd_chunked])
def test_an_empty_batch_gives_empty_outputs(form):
    inputs = {name: v[:0] if name in (*SEQUENCES, 'state') else v for name, v in make(70, G=2).items()}
    y, state = form(**inputs)
    assert (y.shape, state.shape) == ((0, 70, 4, 3), (0, 4, 3, 5))
    assert ssd_shared(**inputs).shape == y.shape
