"""Filling holes without a model."""

import numpy as np
import pytest

from m3et_ros.evaluation.metrics.hole_filling import FILLERS, fill_nearest, known_mask


def wall(seed=0):
    """A wall from 1 m to 3 m with a third of its pixels and one block unknown."""
    true = np.tile(np.linspace(1, 3, 24, dtype=np.float32), (16, 1))
    depth = true.copy()
    depth[np.random.default_rng(seed).random(depth.shape) < 0.3] = np.nan
    depth[4:9, 8:14] = 0
    return true, depth


@pytest.mark.parametrize('fill', FILLERS.values(), ids=FILLERS)
def test_known_pixels_stay_and_holes_come_close(fill):
    true, depth = wall()
    filled = fill(depth)
    known = known_mask(depth)
    assert filled.dtype == np.float32 and (filled[known] == depth[known]).all()
    assert np.isfinite(filled).all() and np.abs(filled - true).max() < 0.2


@pytest.mark.parametrize('fill', FILLERS.values(), ids=FILLERS)
def test_a_flat_wall_is_filled_flat(fill):
    depth = np.full((12, 12), 2.0, np.float32)
    depth[3:8, 4:9] = np.nan
    assert fill(depth) == pytest.approx(np.full((12, 12), 2.0), abs=2e-3)


def test_nearest_takes_the_nearest():
    assert fill_nearest([[1, np.nan, np.nan, np.nan, 5]])[0, [0, 1, 3, 4]].tolist() == [1, 1, 5, 5]


@pytest.mark.parametrize('fill', FILLERS.values(), ids=FILLERS)
def test_nothing_known_is_refused(fill):
    with pytest.raises(ValueError, match='at least one'):
        fill(np.zeros((4, 4)))
