"""Dispatch: a kernel serves only after it agreed with the reference, and the choice is explained."""

import dataclasses
import logging

import pytest
import torch

from m3et_ros.ops import dispatch, native
from m3et_ros.ops.selective_scan import selective_scan, selective_scan_blocked, selective_scan_reference
from m3et_ros.ops.ssd import ssd, ssd_reference

CPU = torch.device('cpu')


def operator(**changes) -> dispatch.Operator:
    return dataclasses.replace(dispatch.OPERATORS['selective_scan'], **changes)


def wrong_output(*args, **kwargs):
    y, state = selective_scan_reference(*args, **kwargs)
    return y * 1.01, state


def wrong_state(*args, **kwargs):
    y, state = selective_scan_reference(*args, **kwargs)
    return y, state * 1.01


def ignores_the_first_state(*args, state, **kwargs):
    return selective_scan_reference(*args, state=0 * state, **kwargs)


def wrong_gradient(*args, **kwargs):
    y, state = selective_scan_reference(*args, **kwargs)
    return y.detach() + 0 * y, state


def wrong_gradient_through_the_state(*args, **kwargs):
    y, state = selective_scan_reference(*args, **kwargs)
    return y, state.detach() + 0 * state


def other_dtype(*args, **kwargs):
    y, state = selective_scan_reference(*args, **kwargs)
    return y.double(), state


def other_shape(*args, **kwargs):
    y, state = selective_scan_reference(*args, **kwargs)
    return y, state[None]


class Halved(torch.autograd.Function):
    """The identity with half its gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient / 2


def not_a_number(*args, **kwargs):
    y, state = selective_scan_reference(*args, **kwargs)
    return y * torch.nan, state


def crashes(*args, **kwargs):
    raise RuntimeError('no kernel image is available')


def test_cpu_is_served_by_the_tensor_forms_and_says_why():
    choices = dispatch.describe('cpu')
    assert [(c.op, c.name, c.reason) for c in choices] == [
        ('selective_scan', 'blocked', 'the native scans are not loaded: m3et build kernels'),
        ('ssd', 'chunked', 'the native scans are not loaded: m3et build kernels'),
    ]
    assert all(0 <= choice.max_error < 1e-4 for choice in choices)


def test_choice_is_made_once_per_device():
    assert dispatch.choose('ssd', 'cpu') is dispatch.choose('ssd', CPU)


@pytest.mark.parametrize(
    'broken',
    [
        wrong_output,
        wrong_state,
        ignores_the_first_state,
        wrong_gradient,
        wrong_gradient_through_the_state,
        other_dtype,
        other_shape,
        not_a_number,
        crashes,
    ],
)
def test_a_form_that_disagrees_gives_way_to_the_reference_and_is_logged(broken, caplog):
    with caplog.at_level(logging.WARNING):
        choice, function = dispatch.decide(operator(tensor=broken), CPU)
    assert (choice.name, function) == ('reference', selective_scan_reference)
    assert 'blocked is off by' in choice.reason and 'using the slow reference' in caplog.text


@pytest.mark.parametrize('argument', ['x', 'dt', 'A', 'B', 'C', 'D', 'z', 'state'])
def test_the_gradient_of_every_argument_is_compared(argument):
    def broken(**inputs):
        return selective_scan_reference(**inputs | {argument: Halved.apply(inputs[argument])})

    choice, _ = dispatch.decide(operator(tensor=broken), CPU)
    assert choice.name == 'reference' and 'blocked is off by' in choice.reason


def test_the_tolerance_itself_is_accepted():
    error = dispatch.decide(operator(tensor=wrong_output, tolerance=1.0), CPU)[0].max_error
    assert dispatch.decide(operator(tensor=wrong_output, tolerance=error), CPU)[0].name == 'blocked'
    assert dispatch.decide(operator(tensor=wrong_output, tolerance=0.999 * error), CPU)[0].name == 'reference'


def test_the_tolerance_itself_is_accepted_of_a_native_form(monkeypatch):
    monkeypatch.setattr(native, 'loaded', lambda: True)
    monkeypatch.setattr(native, 'instruction_set', lambda: 'plain')
    error = dispatch.decide(operator(native=wrong_output, tolerance=1.0), CPU)[0].max_error
    assert dispatch.decide(operator(native=wrong_output, tolerance=error), CPU)[0].name == 'native'
    assert dispatch.decide(operator(native=wrong_output, tolerance=0.999 * error), CPU)[0].name == 'blocked'


@pytest.mark.parametrize('broken', [wrong_state, ignores_the_first_state])
def test_a_native_form_that_disagrees_gives_way_to_the_tensor_form(broken, monkeypatch):
    monkeypatch.setattr(native, 'loaded', lambda: True)
    monkeypatch.setattr(native, 'instruction_set', lambda: 'plain')
    choice, function = dispatch.decide(operator(native=broken), CPU)
    assert (choice.name, function) == ('blocked', selective_scan_blocked)
    assert 'native is off by' in choice.reason


def cannot_start_from_a_state(*args, state=None, **kwargs):
    """Behave like mamba-ssm's selective scan: an empty start, and a final state without gradient."""
    if state is not None:
        raise ValueError('cannot start from a state')
    y, last = selective_scan_reference(*args, **kwargs)
    return y, last.detach()


@pytest.mark.parametrize('streams', [False, True])
def test_a_fused_form_is_asked_for_states_only_where_it_can_stream(streams, monkeypatch):
    choices = {False: ('mamba-ssm', cannot_start_from_a_state), True: ('blocked', selective_scan_blocked)}
    monkeypatch.setattr(
        dispatch, '_fast_form', lambda operator, device: (cannot_start_from_a_state, dispatch.FUSED, '')
    )
    choice, function = dispatch.decide(operator(fused_streams=streams), CPU)
    assert (choice.name, function) == choices[streams]


def test_a_fused_form_that_cannot_stream_still_answers_for_its_final_state(monkeypatch):
    def wrong(*args, state=None, **kwargs):
        y, last = cannot_start_from_a_state(*args, state=state, **kwargs)
        return y, last * 1.01

    monkeypatch.setattr(dispatch, '_fast_form', lambda operator, device: (wrong, dispatch.FUSED, ''))
    choice, _ = dispatch.decide(operator(fused_streams=False), CPU)
    assert choice.name == 'blocked' and 'mamba-ssm is off by' in choice.reason


@pytest.mark.parametrize('op', ['selective_scan', 'ssd'])
def test_an_autocast_region_costs_no_trust(op):
    with torch.autocast('cpu', dtype=torch.bfloat16):
        choice, _ = dispatch.decide(dispatch.OPERATORS[op], CPU)
    assert choice.name != 'reference' and choice.max_error < 1e-4


def test_check_works_inside_inference_mode():
    with torch.inference_mode():
        choice, function = dispatch.decide(operator(), CPU)
    assert (choice.name, function) == ('blocked', selective_scan_blocked)


def test_asking_for_a_missing_fused_kernel_is_refused_with_the_reason():
    reason = dispatch.choose('ssd', 'cpu').reason
    with pytest.raises(RuntimeError, match=reason):
        dispatch.form('ssd', 'fused', CPU)


def test_meta_device_needs_no_comparison():
    x, B = torch.empty(2, 5, 3, 4, device='meta'), torch.empty(2, 5, 1, 6, device='meta')
    y, state = ssd(x, x[..., 0], x[0, 0, :, 0], B, B)
    assert (y.shape, state.shape) == ((2, 5, 3, 4), (2, 3, 4, 6))


@pytest.mark.parametrize(
    ('function', 'reference', 'op'),
    [(selective_scan, selective_scan_reference, 'selective_scan'), (ssd, ssd_reference, 'ssd')],
)
def test_reference_can_be_asked_for(function, reference, op):
    probe = dispatch.OPERATORS[op].probe()
    for found, wanted in zip(function(**probe, kernel='reference'), reference(**probe), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_whatever_serves_cuda_agrees_with_the_reference():
    for choice in dispatch.describe('cuda'):
        assert choice.max_error <= dispatch.OPERATORS[choice.op].tolerance


def test_compilers_trace_the_form_that_a_block_names(monkeypatch):
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    with dispatch.traced('selective_scan', wrong_output):
        assert dispatch.form('selective_scan', 'auto', CPU) is wrong_output
        assert dispatch.form('selective_scan', 'tensor', CPU) is selective_scan_blocked
        assert dispatch.form('ssd', 'auto', CPU) is dispatch.OPERATORS['ssd'].tensor
    assert dispatch.form('selective_scan', 'auto', CPU) is selective_scan_blocked
