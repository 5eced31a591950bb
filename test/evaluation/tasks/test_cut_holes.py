"""Holes cut into measured depth and filled in every way."""

import cv2
import numpy as np
import pytest

from m3et_ros.data.frame import Frame
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.metrics.hole_filling import FILLERS
from m3et_ros.evaluation.tasks import cut_holes as module
from m3et_ros.evaluation.tasks.cut_holes import (
    SHARE,
    SIZES,
    WAYS,
    cut,
    cut_hole_scores,
    cut_holes,
    holed,
    measure_cut_holes,
    noisy_frame,
)
from m3et_ros.runtime.results import Reconstruction


def plane(width=96, height=72):
    """A slanting wall with a band of holes of the sensor's own."""
    depth = np.repeat(np.linspace(1, 3, width, dtype=np.float32)[None], height, 0)
    depth[:6] = np.nan
    return depth


def frame(width=96, height=72):
    return Frame(np.zeros((height, width, 3), np.uint8), plane(width, height), 5, 'look')


@pytest.mark.parametrize('share', [0.05, 0.3, 0.7])
def test_exactly_the_share_of_known_pixels_is_hidden_and_mostly_in_blobs(share):
    depth = plane(320, 240)
    hidden = cut(depth, np.random.default_rng(1), 0.08, share)
    known = np.isfinite(depth)
    assert hidden.sum() == round(share * known.sum()) and not hidden[~known].any()
    inside = cv2.erode(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)).sum()
    assert inside > 0.5 * hidden.sum()  # specks would leave nothing
    assert np.array_equal(hidden, cut(depth, np.random.default_rng(1), 0.08, share))
    assert not np.array_equal(hidden, cut(depth, np.random.default_rng(2), 0.08, share))


def test_larger_sizes_hide_deeper_places_and_nothing_known_hides_nothing():
    depth = plane(320, 240)
    reach = [
        cv2.distanceTransform(cut(depth, np.random.default_rng(0), size).astype(np.uint8), cv2.DIST_L2, 3).max()
        for size in SIZES
    ]
    assert reach == sorted(reach) and reach[-1] > 4 * reach[0]
    assert not cut(np.full((8, 8), np.nan, np.float32), np.random.default_rng(0), 0.1).any()


def test_a_holed_frame_keeps_everything_but_the_hidden_depth():
    hidden = np.zeros((72, 96), bool)
    hidden[20:30, 20:30] = True
    given = holed(frame(), hidden)
    assert np.isnan(given.depth).sum() == 100 + 6 * 96 and given.rgb is not None
    assert (given.stamp_ns, given.instruction) == (5, 'look')


class Oracle:
    """An engine that is off by a tenth of a metre in its holes; `smooth` leaves them open."""

    def __init__(self):
        self.seen, self.resets = [], 0

    def reset_stream(self):
        self.resets += 1

    def encode(self, frame):
        self.seen.append(frame)
        return frame

    def reconstruct(self, frame, *, mask, fill):
        assert mask is False
        error = {'auto': 0.05, 'always': 0.1, 'smooth': np.nan}[fill]
        filled = np.where(np.isfinite(frame.depth), frame.depth, plane() + np.float32(error))
        return Reconstruction(filled, None)


def test_hidden_pixels_alone_are_scored_and_no_way_sees_them():
    engine = Oracle()
    rows = measure_cut_holes(engine, [frame(), frame()], 0.08)
    known = np.isfinite(plane()).sum()
    assert rows.keys() == {*WAYS, *FILLERS} and engine.resets == 1
    assert [np.isfinite(seen.depth).sum() for seen in engine.seen] == [known - round(SHARE * known)] * 2
    scores = cut_hole_scores({0.08: rows}, ['0', '1'])
    found = scores['rmse_m']['0.08']
    assert scores['frames'] == 2 and scores['share'] == SHARE and found['pixels'] == 2 * round(SHARE * known)
    assert found['auto']['value'] == pytest.approx(0.05, abs=1e-4)
    assert found['model']['value'] == pytest.approx(0.1, abs=1e-4)
    assert 1 < found['smooth']['value'] < 3, 'open holes count as 0 m'
    below = 1 - 0.05 / found['navier_stokes']['value']
    assert found['auto_below_navier_stokes']['value'] == pytest.approx(below, abs=1e-2)


def test_a_new_cluster_begins_anew():
    engine = Oracle()
    measure_cut_holes(engine, [frame()] * 4, 0.04, clusters=['a', 'a', 'b', 'a'])
    assert engine.resets == 3


def test_the_seed_decides_what_is_hidden():
    one, same, other = (measure_cut_holes(Oracle(), [frame()], 0.04, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one['nearest'], same['nearest']) and not np.array_equal(one['nearest'], other['nearest'])


def test_all_sizes_of_a_real_model_and_frames_without_depth_are_left_out(tiny, monkeypatch):
    monkeypatch.setattr(module, 'SIZES', (0.04, 0.16))
    frames = [frame(), Frame(np.zeros((72, 96, 3), np.uint8)), frame()]
    found = cut_holes(tiny, frames, ['a', 'b', 'c'])['cut_holes']
    assert found['frames'] == 2 and list(found['rmse_m']) == ['0.04', '0.16']
    # Untrained weights fill nothing by themselves.
    assert found['rmse_m']['0.04']['auto'] == found['rmse_m']['0.04']['smooth']
    assert cut_holes(tiny, frames[1:2], ['b']) == {}


def test_a_frame_of_a_noisy_camera_is_that_of_the_exam():
    sample = Sample(np.full((72, 96, 3), 90, np.uint8), plane(), seed=1)
    noisy = disturb(sample, Noise(mirror=0), np.random.default_rng((3, 7)))
    found = noisy_frame(sample, Noise(mirror=0), 3, 7)
    assert np.array_equal(found.rgb, noisy.rgb) and np.array_equal(found.depth, noisy.depth, equal_nan=True)
