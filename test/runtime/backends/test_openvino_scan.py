"""The scan of Mamba-1 within graphs of OpenVINO: right for one sequence and several, stored, and NaN where it fails."""

import pytest
import torch

from m3et_ros.layers.mamba import Mamba1, MambaState
from m3et_ros.ops import dispatch, native
from m3et_ros.runtime import backends, kernels
from m3et_ros.runtime.backends import Setting
from m3et_ros.runtime.backends.openvino import OpenVino
from m3et_ros.runtime.machine import cache

pytestmark = [
    pytest.mark.skipif(bool(backends.missing('openvino')), reason=backends.missing('openvino')),
    pytest.mark.timeout(900),
]  # exporting takes seconds, on a machine at work minutes


@pytest.fixture
def scans():
    """The native scans, from the cache of this user or built for the test."""
    if kernels.compiler() is None:
        pytest.skip('there is no C++ compiler')
    native.load(str(kernels.build()))
    dispatch.forget()
    yield
    native.unload()
    dispatch.forget()


@pytest.mark.parametrize('batch', [1, 2])
def test_the_native_library_scans_within_a_graph(scans, batch, caplog):
    mixer = Mamba1(d=24, N=4).eval()
    u, conv, ssm = torch.randn(batch, 9, 24), torch.zeros(batch, 3, 48), torch.randn(batch, 48, 4)

    class Continued(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer = mixer

        def forward(self, u, conv, ssm):
            y, state = self.mixer(u, state=MambaState(conv, ssm), return_state=True)
            return y, state.ssm

    backend = OpenVino(Setting('float32', 1, cache() / 'scan'))
    with torch.no_grad():
        wanted = Continued()(u, conv, ssm)
    for run in (backend.build(f'scan{batch}', Continued().eval(), (u, conv, ssm)), backend.stored(f'scan{batch}')):
        for found, value in zip(run(u, conv, ssm), wanted, strict=True):
            torch.testing.assert_close(found, value, atol=1e-5, rtol=1e-5)
    native.unload()
    assert run(u, conv, ssm)[1].isnan().all()  # and not what was in that memory before
    assert 'the native scans are not loaded' in caplog.text
