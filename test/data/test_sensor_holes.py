"""Holes where a depth camera fails for a reason."""

import numpy as np
import pytest

from m3et_ros.data import sensor_holes

SHAPE = (60, 80)


def seeds(count=40):
    return [np.random.default_rng(seed) for seed in range(count)]


def test_blobs_cover_up_to_their_share():
    shares = [sensor_holes.large_blobs(SHAPE, 0.4, (0.01, 0.2), rng).mean() for rng in seeds(200)]
    assert 0.1 < np.mean(shares) < 0.2 and max(shares) < 0.45 and min(shares) < 0.02


@pytest.mark.parametrize('size', [0.05, 0.2])
def test_a_blob_has_its_size_and_there_is_at_least_one(size):
    areas = [sensor_holes.large_blobs((400, 400), 1e-9, (size, size), rng).mean() for rng in seeds()]
    largest = np.pi * size**2
    assert 0 < min(areas) < 0.5 * largest and 0.7 * largest < max(areas) < 1.1 * largest


def test_patches_lose_about_their_share():
    shares = [sensor_holes.patches(SHAPE, 0.3, rng).mean() for rng in seeds()]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.08)


def test_highlights_and_their_rims_are_lost_and_a_dull_picture_loses_nothing():
    rgb = np.full((*SHAPE, 3), 100, np.uint8)
    rgb[10:12, 20:22] = 255
    for rng in seeds(5):
        lost = sensor_holes.glare(rgb, rng)
        assert lost[9:13, 19:23].all() and lost.sum() == 16
    assert not sensor_holes.glare(np.full((*SHAPE, 3), 170, np.uint8), seeds(1)[0]).any()


def test_only_dark_things_are_lost_in_patches():
    rgb = np.full((*SHAPE, 3), 120, np.uint8)
    rgb[:30] = 10
    lost = np.array([sensor_holes.dark(rgb, rng) for rng in seeds()])
    assert not lost[:, 30:].any() and 0.3 < lost[:, :30].mean() < 0.95


def test_thin_things_before_something_farther_are_lost_and_broad_ones_are_not():
    depth = np.full((60, 200), 3, np.float32)
    depth[:, 50:52] = 1  # thin
    depth[:, 100:140] = 1  # broad
    depth[:5] = np.nan
    for rng in seeds(5):
        lost = sensor_holes.thin(depth, rng)
        assert lost[5:, 50:52].all() and lost[5:].sum() == 2 * 55


def test_only_glossy_classes_lose_patches():
    labels = np.zeros((15, 20), np.uint8)
    labels[:5], labels[5:10] = 3, 7
    lost = np.array([sensor_holes.glossy(labels, (3, 9), SHAPE, rng) for rng in seeds()])
    assert not lost[:, 20:].any() and 0.15 < lost[:, :20].mean() < 0.5
    assert 5 < lost.any((1, 2)).sum() < 35  # some of the pictures


def test_depth_shifts_and_what_enters_is_unknown():
    depth = np.arange(60 * 80, dtype=np.float32).reshape(SHAPE)
    found = {}
    for rng in seeds():
        moved = sensor_holes.shifted(depth, 2, rng)
        rows, columns = np.nonzero(np.isfinite(moved))
        assert set(np.diff(moved[30, 10:70])) == {1}
        offset = depth[30, 40] - moved[30, 40]
        down, right = round(offset / 80), round(offset) - 80 * round(offset / 80)
        assert abs(down) <= 2 and abs(right) <= 2
        assert np.isnan(moved).sum() == 60 * 80 - (60 - abs(down)) * (80 - abs(right)) and len(rows) == len(columns)
        found[down, right] = True
    assert len(found) > 10
    np.testing.assert_array_equal(sensor_holes.shifted(depth, 0.4, seeds(1)[0]), depth)
