"""Precision of the scans: never below float32, and out of reach of autocast."""

import pytest
import torch

from m3et_ros.ops.precision import no_autocast, work_dtype


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_arithmetic_is_float32_or_better(given, expected):
    assert work_dtype(torch.zeros(1, dtype=given)) == expected


def test_products_inside_keep_float32_in_an_autocast_region():
    a = torch.randn(4, 4)
    with torch.autocast('cpu', torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with no_autocast(a.device):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16  # and the region goes on as before


def test_the_meta_device_needs_no_autocast_region():
    a = torch.empty(2, 2, device='meta')
    with no_autocast(a.device):
        assert (a @ a).shape == (2, 2)
