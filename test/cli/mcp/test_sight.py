"""Pictures for agents and the classes in them."""

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image

from m3et_ros.cli.mcp.sight import LONGEST_SIDE, Seen, depth_picture, encode, look, same_stamp, seen_classes
from m3et_ros.cli.output import Refused


def test_classes_have_shares_of_the_image_and_the_median_of_their_known_depth():
    mask = np.zeros((20, 100), np.uint8)
    mask[:, 90:] = 3
    mask[:5, :10] = 255
    depth = np.full((20, 100), np.nan, np.float32)
    depth[10, 90:] = (1, 1, 1, 1, 2, 4, 4, 4, 4, 4)
    depth[11, 90:] = 3
    assert seen_classes(mask, depth, {0: 'wall', 3: 'cup'}) == [Seen('wall', 0.875, None), Seen('cup', 0.1, 3.0)]


def test_a_class_is_named_from_a_thousandth_of_the_image_on():
    mask, depth = np.zeros((20, 100), np.uint8), np.ones((20, 100), np.float32)
    mask[0, 0] = 1
    assert [one.name for one in seen_classes(mask, depth, {0: 'wall', 1: 'pea'})] == ['wall']
    mask[0, 1] = 1
    assert seen_classes(mask, depth, {0: 'wall'})[1] == Seen('class 1', 0.001, 1.0)


def test_a_distance_needs_a_tenth_of_the_pixels():
    mask, depth = np.zeros((1, 20), np.uint8), np.full((1, 20), np.nan, np.float32)
    depth[0, 0] = 2
    assert seen_classes(mask, depth, {0: 'a'}) == [Seen('a', 1.0, None)]
    depth[0, 1] = 4
    assert seen_classes(mask, depth, {0: 'a'}) == [Seen('a', 1.0, 3.0)]


def test_near_is_red_far_is_blue_and_unknown_is_black():
    picture, ends = depth_picture(np.array([[0.5, 1.0, 2.5, np.nan]], np.float32))
    assert ends == (0.5, 2.5) and picture.shape == (1, 4, 3)
    near, _, far, unknown = picture[0].astype(int)
    assert near[0] > 2 * near[2] and far[2] > far[0] and unknown.tolist() == [0, 0, 0]
    flat, ends = depth_picture(np.full((2, 2), 3, np.float32))
    assert ends == (3, 3) and (flat == flat[0, 0]).all()


def test_depth_that_is_unknown_everywhere_has_no_ends():
    picture, ends = depth_picture(np.full((2, 3), np.nan, np.float32))
    assert ends is None and not picture.any() and picture.shape == (2, 3, 3)


def test_a_picture_is_at_most_as_long_as_the_limit():
    for size, wanted, scale in (
        ((LONGEST_SIDE, 8), (LONGEST_SIDE, 8), 1.0),
        ((2 * LONGEST_SIDE, 8), (LONGEST_SIDE, 4), 0.5),
        ((1, 4 * LONGEST_SIDE), (1, LONGEST_SIDE), 0.25),
    ):
        jpeg, found = encode(np.full((*size, 3), (200, 100, 50), np.uint8))
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert (decoded.shape[:2], found) == (wanted, scale)
        np.testing.assert_allclose(decoded[0, 0], (50, 100, 200), atol=6)


def test_a_topic_on_which_nothing_comes_is_named(robots):
    with pytest.raises(Refused, match='Nothing has come on /nowhere within 0.2 s; /known says: '):
        same_stamp(robots, robots.robot('/known'), {'picture': ('/nowhere', Image)}, 0.2)


def test_a_robot_that_does_not_say_what_it_reads_has_no_colour_picture(robots, monkeypatch):
    monkeypatch.setattr('m3et_ros.cli.mcp.sight.REPORT_S', 0.1)
    with pytest.raises(Refused, match='/nobody does not say which camera it reads'):
        look(robots, robots.robot('/nobody'), 'colour', 0.2)


def test_a_sight_is_of_one_image(robots):
    sight = look(robots, robots.robot('/known'), 'depth', 60)
    assert (sight.width, sight.height, sight.scale, sight.frame_id) == (4, 2, 1.0, 'lens')
    # The camera's clock began in 1970.
    assert sight.age_s is None and sight.stamp_ns % 200_000_000 == 0 and sight.depth_range_m == (0.5, 4.0)
    assert sight.seen == (Seen('table', 0.625, 2.0), Seen('cup', 0.25, 0.5))
