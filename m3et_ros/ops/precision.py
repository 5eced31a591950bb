"""Arithmetic of the scans: float32 or better, for any dtype of the input and in any autocast region."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def work_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 for float64 input, else float32."""
    return torch.promote_types(x.dtype, torch.float32)


def no_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context in which autocast does not lower the precision of matrix products."""
    if device.type == 'meta':  # carries shapes only, and autocast does not know it
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
