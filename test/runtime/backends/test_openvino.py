"""OpenVINO on a model of two layers: right, kept, found again, in both precisions."""

import ctypes
from pathlib import Path

import pytest
import torch

from m3et_ros.runtime import backends
from m3et_ros.runtime.backends import Setting
from m3et_ros.runtime.backends.openvino import OpenVino
from m3et_ros.runtime.backends.prepared import prepare
from m3et_ros.runtime.machine import cache

MODALITY_SETS = (('rgb', 'depth'),)

pytestmark = [
    pytest.mark.skipif(bool(backends.missing('openvino')), reason=backends.missing('openvino')),
    pytest.mark.timeout(900),
]  # exporting takes seconds, on a machine at work minutes


def test_it_serves_and_its_blobs_are_stored(small, monkeypatch):
    _, serving = prepare(small, 'openvino', modality_sets=MODALITY_SETS)
    assert serving.name == 'openvino', serving.reason
    blobs = {path: path.stat().st_mtime_ns for path in cache().rglob('small-openvino-*/*.blob')}
    assert len(blobs) == 4
    monkeypatch.setattr(torch.export, 'export', None)  # nothing is exported a second time
    again, serving = prepare(small, 'openvino', modality_sets=MODALITY_SETS)
    assert serving.name == 'openvino', serving.reason
    assert {path: path.stat().st_mtime_ns for path in blobs} == blobs
    # The outputs of a call are its own: the next call does not overwrite them.
    S = small.config.image_size
    rng = torch.Generator().manual_seed(0)
    frames = [{'rgb': torch.randn(1, 3, S, S, generator=rng), 'depth': torch.zeros(1, 1, S, S)} for _ in range(2)]
    with torch.inference_mode():
        first = again.encode_images(frames[0])
        before = first.stages[-1].clone()
        other = again.encode_images(frames[1])
    assert torch.equal(first.stages[-1], before) and not torch.equal(other.stages[-1], before)


def test_a_damaged_blob_is_made_anew(small, caplog):
    prepare(small, 'openvino', modality_sets=MODALITY_SETS)
    blob = next(cache().rglob('small-openvino-*/depth-rgb-depth.blob'))
    blob.write_bytes(b'no blob')
    assert prepare(small, 'openvino', modality_sets=MODALITY_SETS)[1].name == 'openvino'
    assert 'depth-rgb-depth.blob cannot be read' in caplog.text and blob.stat().st_size > 1000


def test_no_telemetry_is_imported():
    import sys

    assert sys.modules.get('openvino_telemetry') is None


class SignalStack(ctypes.Structure):
    """The stack_t of sigaltstack(2)."""

    _fields_ = [('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


def test_signal_handlers_have_a_stack_when_backends_are_dropped():
    made = [OpenVino(Setting('float32', 1, None)) for _ in range(2)]
    for backend in made:
        backend._core.get_property('CPU', 'FULL_DEVICE_NAME')  # loads the plugin, which changes the stack
    del backend
    while made:
        made.pop(0)
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    ranges = [line.split()[0].split('-') for line in Path('/proc/self/maps').read_text().splitlines()]
    SS_DISABLE = 2
    assert stack.flags == SS_DISABLE or any(int(a, 16) <= stack.address < int(b, 16) for a, b in ranges)
