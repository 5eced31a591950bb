"""Scan orders: permutations that invert, on grids that need not be square."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3et_ros.layers.scan_order import blocks, column, inverse, raster, replaced_tokens, reverse


@given(rows=st.integers(1, 9), cols=st.integers(1, 9), order=st.sampled_from([raster, reverse, column]))
def test_permutations_invert(rows, cols, order):
    permutation = order(rows, cols)
    tokens = torch.arange(rows * cols)
    assert torch.equal(tokens[permutation].sort().values, tokens)
    assert torch.equal(tokens[permutation][inverse(permutation)], tokens)


@given(rows=st.integers(1, 4), cols=st.integers(1, 4), size=st.integers(1, 3))
def test_blocks_invert(rows, cols, size):
    permutation = blocks(rows * size, cols * size, size)
    assert torch.equal(permutation[inverse(permutation)], torch.arange(rows * cols * size * size))


def test_orders_of_a_small_grid():
    assert raster(2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert reverse(2, 3).tolist() == [5, 4, 3, 2, 1, 0]
    assert column(2, 3).tolist() == [0, 3, 1, 4, 2, 5]
    assert blocks(2, 4, 2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='4 x 6 tokens does not divide into blocks of 3 x 3'):
        blocks(4, 6)


def test_tokens_are_replaced_at_their_indices():
    cached, new = torch.arange(8.0).view(1, 2, 4), torch.tensor([[[10.0, 11.0], [12.0, 13.0]]])
    found = replaced_tokens(cached, 2, torch.tensor([3, 0]), new)
    assert found.tolist() == [[[11, 1, 2, 10], [13, 5, 6, 12]]]
    assert cached.tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    assert replaced_tokens(None, 2, None, new) is new
