import numpy as np
import pytest

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import IMAGE, BagReader
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC, INFO_TOPIC, LABELS_TOPIC, BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame

MS = 1_000_000
START = 1_700_000_000_000_000_000


def write(path, colors, depths, size=(4, 6)):
    """Colour images numbered in their pixels and depth images of 1, 2, 3 ... m, at these milliseconds."""
    looks = [(at, 'color', i) for i, at in enumerate(colors)] + [(at, 'depth', i + 1) for i, at in enumerate(depths)]
    with BagWriter(path) as bag:
        for at, kind, value in sorted(looks):
            if kind == 'color':
                bag.write_frame(Frame(np.full((4, 6, 3), value, np.uint8), stamp_ns=START + at * MS, K=np.eye(3) * 7))
            else:
                bag.write_depth(np.full(size, value, np.float32), START + at * MS)
        bag.write_labels(START, {})
    return BagReader(path)


def pairs(bag, **options):
    return [
        (frame.rgb[0, 0, 0], None if frame.depth is None else frame.depth[0, 0]) for frame in frames(bag, **options)
    ]


def test_colour_takes_the_nearest_depth_within_the_slop(tmp_path):
    with write(tmp_path / 'bag', colors=[0, 100, 200, 300], depths=[8, 95, 104, 250]) as bag:
        assert pairs(bag, slop_s=0.02) == [(0, 1), (1, 3), (2, None), (3, None)]
        assert pairs(bag, slop_s=0.06) == [(0, 1), (1, 3), (2, 4), (3, 4)]
        assert pairs(bag, depth_topic=None) == [(0, None), (1, None), (2, None), (3, None)]


def test_the_offset_of_the_nearest_depth_is_reported_for_colours_without(tmp_path):
    with write(tmp_path / 'bag', colors=[0, 100, 200, 300], depths=[8, 140, 250]) as bag:
        for every in (1, 2):
            offsets = []
            list(frames(bag, every=every, on_unpaired=offsets.append))
            assert offsets == [40 * MS, 50 * MS, -50 * MS]


def test_the_offset_is_that_of_the_clocks_where_the_recording_shows_it(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for at in range(0, 1000, 100):
            bag.write_frame(Frame(np.zeros((4, 6, 3), np.uint8), stamp_ns=START + at * MS))
            depth = bag._image(np.full((4, 6), 900, np.uint16), '16UC1', bag._header(START + (at + 60) * MS, ''))
            bag.write_message(DEPTH_TOPIC, IMAGE, depth, START + at * MS)
    offsets = []
    with BagReader(tmp_path / 'bag') as bag:
        assert all(frame.depth is None for frame in frames(bag, on_unpaired=offsets.append))
    assert offsets == [60 * MS] * 10  # the nearest stamps are 40 ms away


def test_depth_that_stops_does_not_hold_colour_back(tmp_path):
    colors = list(range(0, 5000, 100))
    with write(tmp_path / 'bag', colors=colors, depths=[0]) as bag:
        assert pairs(bag) == [(0, 1), *((i, None) for i in range(1, 50))]


def test_frames_carry_stamp_frame_and_intrinsics(tmp_path):
    with write(tmp_path / 'bag', colors=[0, 100], depths=[0, 100]) as bag:
        first, second = frames(bag)
    assert (first.stamp_ns, second.stamp_ns) == (START, START + 100 * MS)
    assert second.frame_id == 'camera_color_optical_frame'
    assert second.K.tolist() == (np.eye(3) * 7).tolist()


def test_wrong_topics_and_sizes_are_refused(tmp_path):
    with write(tmp_path / 'bag', colors=[0], depths=[0], size=(2, 3)) as bag:
        for options, reason in (
            ({'rgb_topic': '/rgb'}, 'bag_topic'),
            ({'depth_topic': LABELS_TOPIC}, 'bag_type'),
            ({'info_topic': COLOR_TOPIC}, 'bag_type'),
            ({}, 'depth_size'),
        ):
            with pytest.raises(InputError) as refused:
                list(frames(bag, **options))
            assert refused.value.reason == reason


def test_compressed_topics_stand_in_for_raw_ones(tmp_path):
    rgb, depth = np.full((4, 6, 3), 90, np.uint8), np.full((4, 6), 1.5, np.float32)
    with BagWriter(tmp_path / 'bag', images='compressed') as bag:
        bag.write_frame(Frame(rgb, depth, START))
    with BagReader(tmp_path / 'bag') as bag:
        (frame,) = frames(bag, rgb_topic=COLOR_TOPIC, depth_topic=DEPTH_TOPIC)
    assert np.abs(frame.rgb.astype(int) - rgb).max() <= 2
    assert np.array_equal(frame.depth, depth)


def test_damage_is_raised_after_the_last_readable_frame(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(10):
            bag.write_frame(Frame(np.full((480, 640, 3), i, np.uint8), stamp_ns=START + i * MS))
    file = tmp_path / 'bag/bag.mcap'
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    numbers = []
    with BagReader(file) as bag, pytest.raises(InputError) as damage:
        for frame in frames(bag, depth_topic=None):
            numbers.append(frame.rgb[0, 0, 0])
    assert damage.value.reason == 'bag_truncated'
    assert numbers == list(range(bag.count)) and numbers


def test_every_nth_colour_image(tmp_path):
    with write(tmp_path / 'bag', colors=range(0, 700, 100), depths=range(0, 700, 100)) as bag:
        assert pairs(bag, every=3) == [(0, 1), (3, 4), (6, 7)]
        with pytest.raises(ValueError, match='every is 0'):
            frames(bag, every=0)


def test_damaged_frames_can_be_left_out(tmp_path):
    errors = []
    with write(tmp_path / 'bag', colors=[0, 100], depths=[0], size=(2, 3)) as bag:
        assert pairs(bag, on_damaged=errors.append) == [(1, None)]
    assert [error.reason for error in errors] == ['depth_size']


def test_stamps_pair_up_to_the_slop_and_not_a_nanosecond_further(tmp_path):
    with write(tmp_path / 'bag', colors=[0, 100, 200], depths=[0, 120, 179]) as bag:
        assert pairs(bag, slop_s=0.02) == [(0, 1), (1, 2), (2, None)]
        assert pairs(bag, slop_s=0.021) == [(0, 1), (1, 2), (2, 3)]
        assert pairs(bag, slop_s=0.019_999_999) == [(0, 1), (1, None), (2, None)]


def test_without_slop_equal_stamps_pair(tmp_path):
    with write(tmp_path / 'bag', colors=[0, 100], depths=[0, 101]) as bag:
        assert pairs(bag, slop_s=0) == [(0, 1), (1, None)]
        with pytest.raises(ValueError, match='slop_s is -0.1'):
            frames(bag, slop_s=-0.1)


def test_a_depth_serves_every_colour_within_the_slop(tmp_path):
    with write(tmp_path / 'bag', colors=[0, 10, 20, 60], depths=[15]) as bag:
        assert pairs(bag, slop_s=0.02) == [(0, 1), (1, 1), (2, 1), (3, None)]


def test_the_header_and_not_the_recording_gives_stamp_and_frame(tmp_path):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.write_frame(Frame(np.zeros((4, 6, 3), np.uint8), stamp_ns=START, frame_id='left_eye'))
    with BagReader(tmp_path / 'bag') as bag:
        (frame,) = frames(bag, depth_topic=None)
    assert (frame.stamp_ns, frame.frame_id, frame.K) == (START, 'left_eye', None)


def test_the_topic_of_the_intrinsics_is_read_where_it_is_given(tmp_path):
    with write(tmp_path / 'bag', colors=[0, 100], depths=[0, 100]) as bag:
        _, second = frames(bag, info_topic=INFO_TOPIC)
        assert second.K.tolist() == (np.eye(3) * 7).tolist()
