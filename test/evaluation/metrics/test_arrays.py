"""Checks of the arrays that metrics read."""

import numpy as np
import pytest
import torch

from m3et_ros.evaluation.metrics.arrays import finite, same_length, to_numpy


@pytest.mark.parametrize(
    'dtype, expected',
    [
        (torch.bfloat16, np.float32),
        (torch.float16, np.float32),
        (torch.float64, np.float64),
        (torch.int64, np.int64),
        (torch.bool, np.bool_),
    ],
)
def test_tensors_become_arrays(dtype, expected):
    array = to_numpy(torch.tensor([0, 1], dtype=dtype))
    assert array.dtype == expected and array.tolist() == [0, 1]


def test_gradients_are_left_behind():
    assert to_numpy(torch.ones(2, requires_grad=True) * 2).tolist() == [2, 2]


def test_columns_must_agree():
    assert same_length(a=[1, 2], b='xy') == 2
    with pytest.raises(ValueError, match="'a': 1"):
        same_length(a=[1], b=[1, 2])
    with pytest.raises(ValueError, match='at least one'):
        same_length(a=[])


def test_what_is_not_finite_is_counted():
    with pytest.raises(ValueError, match='scores has 2 of 3 values'):
        finite('scores', [1, np.nan, np.inf])
