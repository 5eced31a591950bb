"""Devices by name."""

import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.runtime.devices import device_of


def test_a_device_is_found_by_name_and_others_are_refused():
    assert device_of('cpu') == torch.device('cpu')
    assert device_of('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')
    with pytest.raises(InputError, match="device 'abacus' cannot be used .*; give auto, cpu, cuda") as refused:
        device_of('abacus')
    assert refused.value.reason == 'device'
