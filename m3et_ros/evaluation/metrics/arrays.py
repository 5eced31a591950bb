"""Read the inputs of the metrics: NumPy arrays, or tensors, without importing torch."""

import numpy as np
from numpy.typing import ArrayLike


def to_numpy(values: ArrayLike) -> np.ndarray:
    """Return values as an array; a tensor is detached and moved to the CPU, and half precision becomes float32."""
    if hasattr(values, 'detach'):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() and values.element_size() < 4 else values).numpy()
    return np.asarray(values)


def same_length(**columns) -> int:
    """Return the common length of columns.

    Args:
        **columns: name to sequence, used in the error message.

    Raises:
        ValueError: two lengths differ, or all columns are empty.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f'columns of different lengths: {lengths}; give one entry for each sample')
    length = next(iter(lengths.values()))
    if not length:
        raise ValueError(f'no samples in {", ".join(lengths)}; give at least one')
    return length


def finite(name: str, values: ArrayLike) -> np.ndarray:
    """Return values as float64.

    Args:
        name: used in the error message.
        values: any shape.

    Raises:
        ValueError: an entry is NaN or infinite.
    """
    array = to_numpy(values).astype(np.float64)
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise ValueError(f'{name} has {bad} of {array.size} values that are not finite; leave those samples out')
    return array
