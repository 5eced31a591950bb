"""The native scans: built once, they agree with float64 in values and gradients, on every instruction set."""

import pytest
import torch

from m3et_ros.ops import dispatch, native
from m3et_ros.ops.selective_scan import selective_scan, selective_scan_native, selective_scan_reference
from m3et_ros.ops.ssd import ssd, ssd_chunked, ssd_native, ssd_reference
from m3et_ros.runtime import kernels


@pytest.fixture(scope='module', autouse=True)
def library(tmp_path_factory):
    """The library: from the cache where this user has built it, else built for the test."""
    if not kernels.library().exists() and kernels.compiler() is None:
        pytest.skip('there is no C++ compiler')
    with pytest.MonkeyPatch.context() as patch:
        if not kernels.library().exists():
            patch.setenv('M3ET_CACHE', str(tmp_path_factory.mktemp('cache')))
        native.load(str(kernels.build()))
        dispatch.forget()
        yield
    native.unload()
    dispatch.forget()


@pytest.fixture(params=range(len(native.SETS)), ids=native.SETS)
def level(request):
    native.force(request.param)
    yield
    native.force(-1)


def ssd_inputs(L, H, P, N, G, speed):
    rng = torch.Generator().manual_seed(L)
    x, B, C = (torch.randn(2, L, *size, generator=rng) for size in ((H, P), (G, N), (G, N)))
    return {
        'x': x,
        'dt': 0.1 * speed * torch.rand(2, L, H, generator=rng),
        'A': -torch.linspace(1, 16, H),
        'B': B,
        'C': C,
        'D': torch.randn(H, generator=rng),
        'state': torch.randn(2, H, P, N, generator=rng),
    }


def scan_inputs(L, D, N, speed):
    rng = torch.Generator().manual_seed(L)
    x, z, B, C = (torch.randn(2, L, width, generator=rng) for width in (D, D, N, N))
    return {
        'x': x,
        'dt': 0.1 * speed * torch.rand(2, L, D, generator=rng),
        'A': -torch.linspace(1, 16, D * N).reshape(D, N),
        'B': B,
        'C': C,
        'D': torch.randn(D, generator=rng),
        'z': z,
        'state': torch.randn(2, D, N, generator=rng),
    }


def values(form, inputs):
    """Outputs and the gradients of all inputs under fixed weights."""
    inputs = {name: value.clone().requires_grad_() for name, value in inputs.items()}
    outputs = form(**inputs)
    loss = sum((t * torch.linspace(-1, 1, t.numel()).view_as(t).to(t.dtype)).sum() for t in outputs)
    return [*(t.detach() for t in outputs), *torch.autograd.grad(loss, list(inputs.values()))]


def agree(form, reference, inputs):
    wanted = values(reference, {name: value.double() for name, value in inputs.items()})
    for found, expected in zip(values(form, inputs), wanted, strict=True):
        assert float((found.double() - expected).abs().max() / expected.abs().max()) < 2e-4


@pytest.mark.parametrize('flush', [False, True])
@pytest.mark.parametrize('sizes', [(1, 4, 3, 5, 2, 1), (65, 4, 64, 128, 1, 1), (147, 4, 20, 40, 2, 30)], ids=str)
def test_ssd_agrees_with_float64(level, sizes, flush):
    torch.set_flush_denormal(flush)
    try:
        agree(ssd_native, ssd_reference, ssd_inputs(*sizes))
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize('sizes', [(1, 3, 5, 1), (33, 40, 16, 1), (147, 17, 21, 30)], ids=str)
def test_selective_scan_agrees_with_float64(level, sizes):
    agree(selective_scan_native, selective_scan_reference, scan_inputs(*sizes))


def test_dispatch_takes_it_and_says_so():
    for op in ('ssd', 'selective_scan'):
        choice = dispatch.choose(op, 'cpu')
        assert choice.name == 'native' and native.instruction_set() in choice.reason and choice.max_error < 1e-4
    assert ssd(**ssd_inputs(9, 4, 16, 8, 1, 1), kernel='native')[0].isfinite().all()
    assert dispatch.form('ssd', 'native', torch.device('cpu')) is ssd_native


def test_a_scan_on_memory_of_the_caller_is_that_of_the_operator(level):
    given = scan_inputs(9, 20, 4, 1)
    x, dt, A, B, C, state = (given[name] for name in ('x', 'dt', 'A', 'B', 'C', 'state'))
    wanted, last, _ = native.selective_scan(x, dt, A, B, C, state, False)
    for b in range(len(x)):
        y, carried = torch.empty_like(x[b]), state[b].clone()
        native.scan_into(x[b], dt[b], A, B[b], C[b], y, carried)
        assert torch.equal(y, wanted[b]) and torch.equal(carried, last[b])
    with pytest.raises(ValueError, match='take float32 on the CPU'):
        native.scan_into(x[0].double(), dt[0], A, B[0], C[0], y, carried)


def test_without_the_library_the_tensor_forms_serve():
    loaded = native._library
    native.unload()
    dispatch.forget()
    try:
        assert dispatch.choose('ssd', 'cpu').name == 'chunked'
        with pytest.raises(RuntimeError, match='no native kernel for ssd'):
            ssd(**ssd_inputs(3, 4, 16, 8, 1, 1), kernel='native')
    finally:
        native._library = loaded
        dispatch.forget()


def test_without_the_library_its_own_functions_say_what_to_run():
    loaded = native._library
    native.unload()
    try:
        assert not native.loaded()
        with pytest.raises(RuntimeError, match='run m3et build kernels'):
            native.instruction_set()
    finally:
        native._library = loaded


def test_a_library_of_something_else_is_refused():
    with pytest.raises(OSError, match='is not a library of these kernels'):
        native.load('libm.so.6')
    assert native.loaded()  # the one before still serves


@pytest.mark.parametrize('other', [torch.float64, torch.bfloat16])
def test_operators_refuse_all_but_float32(other):
    inputs = [value for name, value in scan_inputs(3, 4, 8, 1).items() if name not in ('D', 'z')]
    for place in range(len(inputs)):
        with pytest.raises(ValueError, match='take float32 on the CPU'):
            native.selective_scan(*(t.to(other) if i == place else t for i, t in enumerate(inputs)), False)


def test_forcing_a_level_bounds_the_instruction_set(level, request):
    assert native.SETS.index(native.instruction_set()) <= request.node.callspec.params['level']


def test_other_types_come_back_as_they_went_in():
    inputs = {name: value.bfloat16() for name, value in ssd_inputs(9, 4, 16, 8, 1, 1).items() if name != 'state'}
    y, state = ssd_native(**inputs)
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    inputs = {name: value.double() for name, value in scan_inputs(9, 4, 8, 1).items()}
    y, state = selective_scan(**inputs)
    assert y.dtype == state.dtype == torch.float64


def test_strided_input_and_operator_contract():
    inputs = ssd_inputs(20, 4, 16, 8, 1, 1)
    turned = inputs | {'x': inputs['x'].permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3)}
    torch.testing.assert_close(ssd_native(**turned)[0], ssd_native(**inputs)[0], rtol=0, atol=0)
    names = ('x', 'dt', 'A', 'B', 'C', 'state')
    torch.library.opcheck(
        native.ssd,
        tuple(inputs[n].requires_grad_() for n in names),
        test_utils=('test_schema', 'test_faketensor', 'test_autograd_registration'),
    )
    inputs = scan_inputs(20, 6, 8, 1)
    torch.library.opcheck(
        native.selective_scan,
        (*(inputs[n].requires_grad_() for n in names), True),
        test_utils=('test_schema', 'test_faketensor', 'test_autograd_registration'),
    )


@pytest.mark.parametrize('top', [0.1, 1.0, 30.0])
@pytest.mark.parametrize('length', [63, 64, 65, 147, 588])
def test_the_gradient_of_the_decays_is_no_difference_of_large_sums(level, length, top):
    inputs = ssd_inputs(length, 4, 8, 8, 2, 10 * top)
    wanted = values(ssd_chunked, {name: value.double() for name, value in inputs.items()})
    for place in (3, 4):  # of dt and A
        found, expected = values(ssd_native, inputs)[place].double(), wanted[place]
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4


@pytest.mark.parametrize('name', ['x', 'dt', 'B', 'C'])
def test_a_value_that_is_not_finite_reaches_no_earlier_token(level, name):
    for form, inputs in (
        (ssd_native, ssd_inputs(70, 4, 16, 8, 2, 1)),
        (selective_scan_native, scan_inputs(70, 6, 8, 1)),
    ):
        clean, _ = form(**inputs)
        inputs[name][0, 40] = torch.nan
        y, _ = form(**inputs)
        assert torch.equal(y[:, :40], clean[:, :40]) and torch.equal(y[1], clean[1]) and y[0, 40].isnan().all()


def test_an_empty_batch_gives_empty_outputs():
    for form, inputs in ((ssd_native, ssd_inputs(9, 4, 16, 8, 1, 1)), (selective_scan_native, scan_inputs(9, 6, 8, 1))):
        empty = {name: v if name in ('A', 'D') else v[:0] for name, v in inputs.items()}
        assert [t.shape[0] for t in form(**empty)] == [0, 0]
