"""Sine-cosine positions."""

import math

import pytest
import torch

from m3et_ros.models.m3et.adapters import sincos_2d


def test_values_at_hand():
    table = sincos_2d(2, 3, 8)
    slow = 10000**-0.5
    column, row = 2, 1
    expected = [
        math.sin(column),
        math.sin(column * slow),
        math.cos(column),
        math.cos(column * slow),
        math.sin(row),
        math.sin(row * slow),
        math.cos(row),
        math.cos(row * slow),
    ]
    torch.testing.assert_close(table[row * 3 + column], torch.tensor(expected))


def test_every_place_differs():
    table = sincos_2d(14, 14, 64)
    distances = torch.cdist(table, table) + 10 * torch.eye(196)
    assert distances.min() > 0.1


def test_width_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match='d is 6'):
        sincos_2d(2, 2, 6)
