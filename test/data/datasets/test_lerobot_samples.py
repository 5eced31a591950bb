"""A LeRobot data set as samples, decoded once."""

import logging

import lerobot_sets
import numpy as np
import pytest

from m3et_ros.data.datasets.base import LIGHT
from m3et_ros.data.datasets.lerobot_samples import LeRobotSamples
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.lerobot.schema import CAMERA, EpisodeFrame
from m3et_ros.data.lerobot.writer import LeRobotWriter


def write(path, counts=(5, 3), *, depth=True, metres=lambda i: i + 1.0):
    """Frames numbered in their colours; depth gives metres, None for none."""
    number = 0
    with LeRobotWriter(path, 10, images='png', depth=depth) as data:
        for count in counts:
            for _ in range(count):
                far = metres(number) if depth else None
                far = None if far is None else np.full((16, 24), far, np.float32)
                frame = Frame(np.full((16, 24, 3), number, np.uint8), far, lerobot_sets.START_NS + number)
                data.write(EpisodeFrame(frame))
                number += 1
            data.end_episode()
    return path


def test_frames_come_in_order_with_their_depth(tmp_path):
    root = write(tmp_path / 'set')
    data = LeRobotSamples(root, tmp_path / 'cache', size=8)
    assert (len(data), data.camera, data.depth) == (8, CAMERA, 'observation.depth.camera')
    for i in range(8):
        sample = data[i]
        assert sample.rgb.shape == (8, 8, 3) and (sample.rgb == i).all() and (sample.depth == i + 1).all()
        assert sample.semseg is None and not sample.question
        assert sample.key == f'{root} at {lerobot_sets.START_NS + i} ns'


def test_every_nth_frame_of_an_episode(tmp_path):
    data = LeRobotSamples(write(tmp_path / 'set'), tmp_path / 'cache', size=8, every=2)
    assert [int(data[i].rgb[0, 0, 0]) for i in range(len(data))] == [0, 2, 4, 5, 7]
    with pytest.raises(ValueError, match='every is 0'):
        LeRobotSamples(tmp_path / 'set', tmp_path / 'cache', size=8, every=0)


def test_frames_without_their_depth_are_left_out(tmp_path, caplog):
    root = write(tmp_path / 'set', metres=lambda i: (None, np.nan, 2.0)[i % 3])
    for _ in range(2):
        caplog.clear()
        data = LeRobotSamples(root, tmp_path / 'cache', size=8)
        assert [int(data[i].rgb[0, 0, 0]) for i in range(len(data))] == [2, 5]
        assert f'6 frames of {root} are left out: they have no depth' in caplog.text
    with pytest.raises(InputError, match='no frame to learn from'):
        LeRobotSamples(write(tmp_path / 'blind', metres=lambda i: None), tmp_path / 'cache', size=8)


def test_colours_alone_have_no_depth(tmp_path):
    data = LeRobotSamples(write(tmp_path / 'set', depth=False), tmp_path / 'cache', size=8)
    assert data.depth is None and data[3].depth is None and (data[3].rgb == 3).all()


def test_the_cache_is_found_again_and_follows_the_data_set(tmp_path, caplog):
    root, cache = write(tmp_path / 'set'), tmp_path / 'cache'
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            LeRobotSamples(root, cache, size=8)
        assert caplog.text.count('are decoded') == 1
        LeRobotSamples(root, cache, size=12)
        (root / 'meta/m3et.json').touch()
        LeRobotSamples(root, cache, size=8)
    assert caplog.text.count('are decoded') == 3 and len(list(cache.iterdir())) == 3
    for contents in cache.glob('*/lerobot.json'):
        contents.write_text('{"shards": [')
    with pytest.raises(InputError, match=r'damaged .*delete'):
        LeRobotSamples(root, cache, size=8)


def test_camera_noise_and_seed_arrive(tmp_path):
    root = write(tmp_path / 'set')
    data = LeRobotSamples(root, tmp_path / 'cache', size=8, camera=CAMERA, noise=LIGHT, seed=7)
    assert (data.noise, data.seed) == (LIGHT, 7)
    with pytest.raises(InputError, match='no camera other'):
        LeRobotSamples(root, tmp_path / 'cache', size=8, camera='other')
