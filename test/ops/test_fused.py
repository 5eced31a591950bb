"""Adapters of mamba-ssm: argument order and layouts, against stand-ins with its published signatures.

The kernels themselves need CUDA; there test_dispatch.py compares what serves with the reference.
"""

import importlib.util
import sys
import types

import pytest
import torch

from m3et_ros.ops import dispatch
from m3et_ros.ops.fused import load_selective_scan, load_ssd
from m3et_ros.ops.selective_scan import selective_scan_reference
from m3et_ros.ops.ssd import ssd_reference


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    """Channels first: u, delta, z (B, D, L), B, C (B, N, L); all of one dtype, A and D float32, all contiguous."""
    assert delta_bias is None and not delta_softplus and return_last_state
    assert all(t.is_contiguous() and t.dtype == u.dtype for t in (u, delta, B, C, z))
    assert A.dtype == D.dtype == torch.float32
    u, delta, B, C, z = (t.transpose(1, 2) for t in (u, delta, B, C, z))
    y, state = selective_scan_reference(u, delta, A, B, C, D=D, z=z)
    return y.transpose(1, 2), state


def mamba_chunk_scan_combined(
    x,
    dt,
    A,
    B,
    C,
    chunk_size,
    D=None,
    z=None,
    dt_bias=None,
    initial_states=None,
    seq_idx=None,
    cu_seqlens=None,
    dt_softplus=False,
    dt_limit=(0.0, float('inf')),
    return_final_states=False,
    return_varlen_states=False,
):
    """Channels last; the chunk is a power of two, 16 or more."""
    assert chunk_size >= 16 and chunk_size & (chunk_size - 1) == 0 and not dt_softplus and return_final_states
    assert x.dtype == B.dtype == C.dtype and dt.dtype == A.dtype == D.dtype == torch.float32
    return ssd_reference(x, dt, A, B, C, D=D, state=initial_states)


@pytest.fixture
def mamba_ssm(monkeypatch):
    for name, function in (
        ('ops.selective_scan_interface', selective_scan_fn),
        ('ops.triton.ssd_combined', mamba_chunk_scan_combined),
    ):
        module = types.ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, f'mamba_ssm.{name}', module)
    for name in ('mamba_ssm', 'mamba_ssm.ops', 'mamba_ssm.ops.triton'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


@pytest.mark.parametrize(('op', 'load'), [('selective_scan', load_selective_scan), ('ssd', load_ssd)])
def test_adapters_call_the_published_signatures(mamba_ssm, op, load):
    operator = dispatch.OPERATORS[op]
    probe = operator.probe()
    if not operator.fused_streams:
        del probe['state']
    for found, wanted in zip(load()(**probe), operator.reference(**probe), strict=True):
        assert torch.equal(found, wanted)
    low = probe | {'x': probe['x'].bfloat16()}
    assert load()(**low)[0].dtype == torch.bfloat16


def test_fused_selective_scan_refuses_to_start_from_a_state(mamba_ssm):
    probe = dispatch.OPERATORS['selective_scan'].probe()
    with pytest.raises(ValueError, match='cannot start from a state'):
        load_selective_scan()(**probe)


@pytest.mark.parametrize('chunk', [1, 8, 16, 17, 98])
def test_fused_ssd_starts_from_a_state_at_any_chunk(mamba_ssm, chunk):
    probe = dispatch.OPERATORS['ssd'].probe()
    for found, wanted in zip(load_ssd()(**probe, chunk=chunk), ssd_reference(**probe), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(('chunk', 'size'), [(1, 16), (16, 16), (17, 32), (64, 64), (98, 128)])
def test_the_chunk_is_rounded_up_to_a_power_of_two(mamba_ssm, monkeypatch, chunk, size):
    sizes = []

    def recording(x, dt, A, B, C, chunk_size, **options):
        sizes.append(chunk_size)
        return mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, **options)

    monkeypatch.setattr(sys.modules['mamba_ssm.ops.triton.ssd_combined'], 'mamba_chunk_scan_combined', recording)
    load_ssd()(**dispatch.OPERATORS['ssd'].probe(), chunk=chunk)
    assert sizes == [size]


@pytest.mark.skipif(importlib.util.find_spec('mamba_ssm') is not None, reason='speaks of machines without mamba-ssm')
@pytest.mark.parametrize('load', [load_selective_scan, load_ssd])
def test_absence_is_an_import_error(load):
    with pytest.raises(ImportError, match='mamba_ssm'):
        load()
