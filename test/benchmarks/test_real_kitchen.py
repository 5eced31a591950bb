"""Hole filling on a small recording, and on the real kitchen if it is available."""

import json
import sys

import cv2
import numpy as np
import pytest
from shared_data import SHARED

from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.results import Reconstruction

REAL = SHARED / 'real_kitchen/bag'
WAYS = {'model', 'nearest', 'telea', 'navier_stokes'}


def plane(width=96, height=72):
    """A slanting wall with a band of holes of the sensor's own."""
    depth = np.repeat(np.linspace(1, 3, width, dtype=np.float32)[None], height, 0)
    depth[:6] = np.nan
    return depth


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    def measured(bag, *options):
        words = [bag, '--out', tmp_path, '--results', tmp_path / 'found.json', '--model', 'tiny', *options]
        monkeypatch.setattr(sys, 'argv', ['real_kitchen.py', *map(str, words)])
        script('real_kitchen').main()
        return json.loads((tmp_path / 'found.json').read_text())

    return measured


def write(path, count=4, depth=plane):
    with BagWriter(path) as bag:
        for i in range(count):
            bag.write_frame(Frame(np.full((72, 96, 3), 40 * i, np.uint8), depth and depth(), i * 100_000_000))
    return path


@pytest.mark.parametrize('share', [0.05, 0.3, 0.7])
def test_exactly_the_share_of_known_pixels_is_hidden_and_mostly_in_blobs(script, share):
    real_kitchen, depth = script('real_kitchen'), plane(320, 240)
    hidden = real_kitchen.hide(depth, np.random.default_rng(1), share)
    known = np.isfinite(depth)
    assert hidden.sum() == round(share * known.sum()) and not hidden[~known].any()
    inside = cv2.erode(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)).sum()
    assert inside > 0.5 * hidden.sum()  # specks would leave nothing
    assert np.array_equal(hidden, real_kitchen.hide(depth, np.random.default_rng(1), share))
    assert not np.array_equal(hidden, real_kitchen.hide(depth, np.random.default_rng(2), share))


def test_nothing_known_hides_nothing(script):
    assert not script('real_kitchen').hide(np.full((8, 8), np.nan, np.float32), np.random.default_rng(0)).any()


class Oracle:
    """An engine that is off by a tenth of a metre in its holes, or leaves them open."""

    def __init__(self, open_holes=False):
        self.open_holes = open_holes
        self.seen = []

    def encode(self, frame):
        self.seen.append(frame)
        return frame

    def reconstruct(self, frame):
        guess = np.full(frame.depth.shape, np.nan, np.float32) if self.open_holes else plane() + np.float32(0.1)
        return Reconstruction(np.where(np.isfinite(frame.depth), frame.depth, guess), np.zeros((72, 96), np.uint8))


def test_hidden_pixels_alone_are_scored_and_the_model_never_sees_them(script):
    real_kitchen, engine = script('real_kitchen'), Oracle()
    frame = Frame(np.zeros((72, 96, 3), np.uint8), plane())
    found = real_kitchen.measure(engine, iter([frame, frame]), 0, drawn=[1])
    scores = real_kitchen.scores(found)
    known = np.isfinite(frame.depth).sum()
    assert [np.isfinite(seen.depth).sum() for seen in engine.seen] == [known - round(0.3 * known)] * 2
    assert scores['frames'] == 2 and scores['hidden_pixels'] == 2 * round(0.3 * known)
    assert scores['filled_by'].keys() == WAYS and scores['left_open_by_model'] == 0
    model, nearest = scores['filled_by']['model'], scores['filled_by']['nearest']
    assert model['rmse_m']['value'] == pytest.approx(0.1, abs=1e-5) and model['delta1']['value'] == 1
    assert nearest['model_below']['value'] == pytest.approx(1 - 0.1 / nearest['rmse_m']['value'], abs=1e-4)
    assert [np.nanmax(picture['error']) for picture in found.pictures] == pytest.approx([0.1], abs=1e-5)


def test_open_holes_count_as_zero_metres(script):
    real_kitchen = script('real_kitchen')
    frame = Frame(np.zeros((72, 96, 3), np.uint8), plane())
    scores = real_kitchen.scores(real_kitchen.measure(Oracle(open_holes=True), iter([frame]), 0))
    assert scores['left_open_by_model'] == 1 and 1 < scores['filled_by']['model']['rmse_m']['value'] < 3


def test_a_recording_is_measured_and_drawn(run, tmp_path):
    found = run(write(tmp_path / 'bag'), '--every', 2)
    assert found['frames'] == 2 and found['recording']['name'] == 'bag' and found['model']['id'] == 'tiny-random-0'
    for way in found['filled_by'].values():
        assert 0 < way['rmse_m']['low'] <= way['rmse_m']['value'] <= way['rmse_m']['high']
    assert cv2.imread(str(tmp_path / 'real_kitchen.png')).std() > 10
    assert str(tmp_path) not in json.dumps(found)
    assert run(tmp_path / 'bag', '--every', 2) == found


def test_a_recording_without_depth_is_refused(run, tmp_path):
    with pytest.raises(InputError, match='depth'):
        run(write(tmp_path / 'bag', depth=None))


@pytest.mark.skipif(not REAL.exists(), reason='the real kitchen is not at hand')
def test_the_real_kitchen(run, tmp_path):
    found = run(REAL, '--every', 75)
    assert found['frames'] == 2 and found['filled_by']['telea']['delta1']['value'] > 0.8
    assert not list(tmp_path.glob('**/*.mcap'))
