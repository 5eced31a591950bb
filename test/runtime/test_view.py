"""A stored view is small: no encodings, nothing on the device, the frame itself unchanged."""

from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained


def test_a_stored_view_drops_its_encodings_alone():
    view = Engine(untrained('tiny', 0)).encode(probe_frame())
    stored = view.without_encodings()
    assert stored.image_encoding is None and stored.encoded is None
    assert view.image_encoding is not None and view.encoded is not None
    assert stored.frame is view.frame and stored.scale is view.scale
    assert (stored.share, stored.latency_s) == (view.share, view.latency_s)
    assert list(stored.inputs) == ['rgb', 'depth']
    assert all(tensor.device.type == 'cpu' for tensor in stored.inputs.values())


def test_an_output_is_decoded_once_and_a_stored_view_holds_none():
    view, calls = Engine(untrained('tiny', 0)).encode(probe_frame()), []
    assert [view.once('depth', lambda: calls.append(1) or 7) for _ in range(3)] == [7, 7, 7]
    assert calls == [1]
    assert view.without_encodings().decoded == {} and view.decoded == {'depth': 7}
