"""Devices by name."""

import torch

from m3et_ros.data.errors import InputError


def device_of(name: str) -> torch.device:
    """Return a device by name; 'auto' is CUDA when there is one.

    Raises:
        InputError: device, there is no such device.
    """
    try:
        device = torch.device(('cuda' if torch.cuda.is_available() else 'cpu') if name == 'auto' else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            'device',
            f'The device {name!r} cannot be used ({reason}); give auto, cpu, cuda or cuda:N, and see m3et doctor.',
        ) from error
    return device
