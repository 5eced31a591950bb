"""Statistics for normalisation: exact for vectors, by histograms for pictures."""

import numpy as np
import pytest

from m3et_ros.data.lerobot.stats import PictureStats, vector_stats


def test_statistics_of_vectors():
    values = np.array([[1, -2], [3, 0], [5, 5]], np.float32)
    stats = vector_stats(values)
    assert (stats['min'], stats['max'], stats['mean'], stats['count']) == ([1, -2], [5, 5], [3, 1], [3])
    assert stats['std'] == pytest.approx(values.std(0).tolist(), rel=1e-6) and stats['q50'] == [3, 0]
    assert stats['q90'] == pytest.approx(np.quantile(values, 0.9, axis=0).tolist())
    assert set(stats) == {'min', 'max', 'mean', 'std', 'count', 'q01', 'q10', 'q50', 'q90', 'q99'}


def test_statistics_of_colours_are_shares_of_one_and_those_of_depth_millimetres():
    rng = np.random.default_rng(0)
    pictures = rng.integers(3, 250, (4, 20, 30, 3), np.uint8)
    first, other = (PictureStats(3, 256, 255.0) for _ in range(2))
    for part, half in ((first, pictures[:2]), (other, pictures[2:])):
        for picture in half:
            part.add(picture)
    first.merge(other)
    stats, pixels = first.document(), pictures.reshape(-1, 3) / 255
    assert stats['count'] == [4] and np.shape(stats['mean']) == (3, 1, 1)
    for name in ('min', 'max', 'mean', 'std'):
        assert np.ravel(stats[name]) == pytest.approx(getattr(pixels, name)(0))
    assert np.ravel(stats['q10']) == pytest.approx(np.quantile(pixels, 0.1, axis=0), abs=0.01)
    depth = PictureStats(1, 65536, 1.0)
    depth.add(np.array([[[0], [65535]], [[1500], [1500]]], np.uint16))
    found = depth.document()
    assert (found['min'], found['max'], found['q50']) == ([[[0.0]]], [[[65535.0]]], [[[1500.0]]])


def test_large_pictures_are_thinned():
    stats = PictureStats(1, 256, 255.0)
    picture = np.zeros((300, 400, 1), np.uint8)
    picture[1::2] = 255
    stats.add(picture)
    assert stats.document()['max'] == [[[0.0]]]
