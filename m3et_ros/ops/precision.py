"""Arithmetic of the scans: never below float32, whatever the input or an autocast region around them."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def work_dtype(x: Tensor) -> torch.dtype:
    """float32, or float64 for float64 input."""
    return torch.promote_types(x.dtype, torch.float32)


def no_autocast(device: torch.device) -> AbstractContextManager:
    """Keep autocast from lowering the matrix products inside."""
    if device.type == 'meta':  # carries shapes only, and autocast does not know it
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
