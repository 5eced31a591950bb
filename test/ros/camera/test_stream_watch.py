"""Streams with the right shape that do not fit: every cause at its edge, with the number and the fix."""

import dataclasses
import random
import re

import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from m3et_ros.ros.camera.stream_watch import BACK_S, CAUSES, SLOW_S, Limits, StreamWatch, Topics, expected_size

S, MS = 10**9, 10**6
EPOCH = 1_700_000_000 * S
TOPICS = Topics('/rgb', '/depth', '/info', (True, False), '/opt/fastdds.xml')
LIMITS = Limits(slop_s=0.02, wait_s=0.1, unit_m=0.0, silent_s=5.0, sim_time=False)
GOOD = CameraInfo(height=48, width=64, k=[50.0] * 9)


class Clock:
    seconds = 100.0

    def __call__(self):
        return self.seconds


class Camera:
    """A camera of 20 images a second whose faults a test sets, on a clock that it moves."""

    def __init__(self, info=GOOD):
        self.clock = Clock()
        self.watch = StreamWatch(clock=self.clock)
        if info is not None:
            self.watch.info_arrived(info)

    def run(self, count=60, *, period=50, rgb=0, depth=None, late=0.0, pairs=None, now=0, lost=lambda _: False):
        """Send images: rgb and depth are added to their stamps in ms, `late` s lie between their arrivals."""
        for i in range(count):
            self.clock.seconds += period / 1000
            at = EPOCH + i * period * MS
            if not lost(i):
                self.watch.rgb_arrived(at + rgb * MS if rgb is not None else 0, at + now * MS)
                self.watch.paired(with_depth=depth is not None if pairs is None else pairs(i))
            if depth is not None:
                self.clock.seconds += late
                self.watch.depth_arrived(at + depth * MS, at + now * MS)
                self.clock.seconds -= late
        return self

    def causes(self, rates=(20.0, 20.0), **limits):
        return self.watch.causes(TOPICS, dataclasses.replace(LIMITS, **limits), rates)


def test_a_good_camera_has_no_cause():
    camera = Camera().run(depth=3)
    camera.watch.decoded((48, 64, 3), 1.5)
    assert camera.causes() == {}
    assert Camera().causes() == {}, 'before the first image nothing can be said'


@pytest.mark.parametrize(
    'offset,words',
    [
        (60, ('60 ms after', 'sync_slop_s, which is 0.02, to 0.072', 'enable_sync')),
        (-60, ('60 ms before', 'to 0.072')),
        (21, ('21 ms after', 'to 0.025')),
        (900, ('900 ms after', 'to 1,')),
        (10_800_000, ('3 h after', 'chrony')),
        (-5_500, ('5.5 s before', 'chrony')),
    ],
)
def test_depth_that_never_pairs_is_measured(offset, words):
    found = Camera().run(depth=offset, pairs=lambda _: False).causes()
    assert list(found) == ['depth_unpaired'] and found['depth_unpaired'].startswith('60 of the last 60 colour images')
    assert all(word in found['depth_unpaired'] for word in words), found


def test_depth_that_pairs_half_of_the_time_is_accepted_and_less_is_not():
    assert Camera().run(depth=3, pairs=lambda i: i % 2 == 0).causes() == {}
    found = Camera().run(depth=30, pairs=lambda i: i % 2 == 0 and i < 58).causes()
    assert '31 of the last 60' in found['depth_unpaired']
    # A depth camera of a fifth of the rate serves every fifth colour image.
    slow = Camera()
    for i in range(12):
        slow.run(5, pairs=lambda i: i == 0).watch.depth_arrived(EPOCH + i * 50 * MS, EPOCH)
    assert 'depth_unpaired' not in slow.causes()


def test_depth_that_comes_too_late_names_the_wait():
    found = Camera().run(depth=0, late=0.3, pairs=lambda _: False).causes()
    assert 'depth arrives 0.3 s after colour: raise depth_wait_s, which is 0.1' in found['depth_unpaired']


def test_pairs_that_join_different_moments_are_named():
    assert list(Camera().run(depth=1900).causes()) == []
    found = Camera().run(depth=5000).causes()
    assert list(found) == ['depth_offset'] and 'stamped 5 s after colour' in found['depth_offset']


@pytest.mark.parametrize('unit,given', [(0.0, 'which is 0, as the encoding says'), (0.001, 'which is 0.001')])
def test_a_median_that_cannot_be_names_the_unit(unit, given):
    camera = Camera().run()
    for median in (float('nan'), 3000.0, 3001.0, 2999.0):
        camera.watch.decoded((48, 64), median)
    camera.watch.decoded((48, 64), None)
    sentence = camera.causes(unit_m=unit)['depth_unit']
    assert all(words in sentence for words in ('3000 m', '/depth', 'depth_unit_m', given))
    for _ in range(10):
        camera.watch.decoded((48, 64), 1.5)
    assert camera.causes() == {}


@pytest.mark.parametrize(
    'ahead,reason,words',
    [
        (101, 'stamp_ahead', '0.101 s ahead'),
        (99, None, ''),
        (-9_999, None, ''),
        (-10_001, 'stamp_old', '10 s old'),
        (-1_700_000_000_000 + 1000, 'stamp_old', '1.7e+09 s old'),
    ],
)
def test_clocks_that_disagree_are_named_at_both_edges(ahead, reason, words):
    found = Camera().run(rgb=ahead).causes()
    assert list(found) == ([reason] if reason else [])
    assert reason is None or (words in found[reason] and 'chrony' in found[reason] and '/rgb' in found[reason])


def test_images_without_a_stamp_are_named():
    found = Camera().run(rgb=None).causes()
    assert list(found) == ['stamp_zero'] and '60 of 60 images on /rgb' in found['stamp_zero']


def test_simulated_time_that_stands_still_is_named_but_not_one_that_goes_on():
    camera = Camera()
    for i in range(60):
        camera.clock.seconds += 0.05
        camera.watch.rgb_arrived(EPOCH + i * 50 * MS, 0)
    found = camera.causes(sim_time=True)
    assert list(found) == ['clock_missing'] and 'stands still at 0.000 s' in found['clock_missing']
    assert list(camera.causes()) == ['stamp_ahead']
    assert Camera().run().causes(sim_time=True) == {}
    assert Camera().run(10).causes(sim_time=True) == {}, 'not in the first moments'
    early = Camera()
    for i in range(10):
        early.clock.seconds += 0.05
        early.watch.rgb_arrived(EPOCH + i * 50 * MS, 0)
    assert early.causes(sim_time=True) == {}


@pytest.mark.parametrize('stream', ['rgb', 'depth'])
def test_stamps_that_go_back_are_named_for_a_while(stream):
    camera = Camera()
    add = getattr(camera.watch, f'{stream}_arrived')
    add(EPOCH + 9 * S, EPOCH)
    add(EPOCH + 2 * S, EPOCH)
    sentence = camera.causes()['stamp_back']
    assert f'on /{stream} went back by 7 s' in sentence and 'reset_memory' in sentence
    camera.clock.seconds += BACK_S
    assert 'stamp_back' not in camera.causes()


def test_lost_images_are_counted_by_their_stamps():
    chance = random.Random(3)
    found = Camera().run(100, lost=lambda _: chance.random() > 0.25).causes()
    assert list(found) == ['lossy_arrival']
    words = found['lossy_arrival']
    arrived, sent = map(int, re.match(r'About (\d+) of (\d+)', words).groups())
    assert 90 <= sent <= 100 and 15 <= arrived <= 35
    assert 'one per 50 ms' in words and 'FASTRTPS_DEFAULT_PROFILES_FILE=/opt/fastdds.xml' in words


def test_a_reliable_stream_that_loses_images_is_too_fast_for_this_machine():
    camera = Camera()
    for i in range(100):
        camera.clock.seconds += 0.05
        camera.watch.rgb_arrived(EPOCH + i * 50 * MS, EPOCH + i * 50 * MS)
        if i % 3 == 0:
            camera.watch.depth_arrived(EPOCH + i * 50 * MS, EPOCH)
    assert camera.causes() == {}, 'a third of the rate is a slower camera'
    chance = random.Random(3)
    camera = Camera()
    for i in range(100):
        camera.clock.seconds += 0.05
        if chance.random() < 0.3:
            camera.watch.depth_arrived(EPOCH + i * 50 * MS, EPOCH)
    found = camera.causes()['lossy_arrival']
    assert 'on /depth' in found and 'this machine' in found


def test_an_uneven_camera_and_one_that_loses_few_images_are_accepted():
    chance = random.Random(5)
    uneven, at = Camera(), EPOCH
    for _ in range(60):
        gap = chance.uniform(20, 300)
        at += round(gap * MS)
        uneven.clock.seconds += 0.05
        uneven.watch.rgb_arrived(at, at)
    assert uneven.causes() == {}
    assert Camera().run(lost=lambda i: i % 5 == 0).causes() == {}
    assert list(Camera().run(lost=lambda i: i % 10 in (0, 3, 7)).causes()) == ['lossy_arrival']


def test_camera_info_that_is_missing_is_named_after_the_time_set():
    camera = Camera(info=None).run(100)
    assert camera.causes(silent_s=5.1) == {} and camera.causes(silent_s=0.0) == {}
    sentence = camera.causes(silent_s=4.9)['camera_info_missing']
    assert '/info in 5.0 s' in sentence and 'remap rgb/camera_info' in sentence


def test_camera_info_of_another_size_or_without_focal_length_is_named():
    camera = Camera(CameraInfo(height=480, width=640, k=[50.0] * 9)).run()
    assert camera.causes() == {}, 'the size of the images is not known yet'
    camera.watch.decoded((48, 64, 3), None)
    assert 'for 640x480 and the images are 64x48' in camera.causes()['camera_info_size']
    for fitting in (GOOD, CameraInfo(height=480, width=640, binning_x=10, binning_y=10, k=[50.0] * 9)):
        camera.watch.info_arrived(fitting)
        assert camera.causes() == {}
    camera.watch.info_arrived(CameraInfo(height=48, width=64))
    assert 'camera_calibration' in camera.causes()['camera_info_uncalibrated']


def test_intrinsics_are_for_their_region_after_binning():
    roi = RegionOfInterest(height=200, width=300)
    assert expected_size(CameraInfo(height=480, width=640)) == (480, 640)
    assert expected_size(CameraInfo(height=480, width=640, binning_x=2, binning_y=4)) == (120, 320)
    assert expected_size(CameraInfo(height=480, width=640, binning_x=2, roi=roi)) == (200, 150)
    assert expected_size(CameraInfo()) is None


def test_a_rate_out_far_below_the_rate_in_is_named_after_a_while():
    camera = Camera().run()
    assert camera.causes((20.0, 4.9)) == {}
    camera.clock.seconds += SLOW_S - 0.1
    assert 'rate_low' not in camera.causes((20.0, 4.9))
    camera.clock.seconds += 0.2
    assert '4.9 of 20.0 images a second' in camera.causes((20.0, 4.9))['rate_low']
    for rates in ((20.0, 5.0), (0.9, 0.0)):
        assert 'rate_low' not in camera.causes(rates)
    assert 'rate_low' not in camera.causes((20.0, 4.9)), 'it begins anew'


def test_every_cause_is_one_of_the_list():
    sources = [
        Camera().run(depth=60, pairs=lambda _: False).causes(),
        Camera(info=None).run(200, rgb=200).causes(),
        Camera().run(rgb=None).causes(),
    ]
    for found in sources:
        assert found and set(found) <= set(CAUSES)
        assert all(text[0].isupper() or text[0].isdigit() for text in found.values())
        assert all(text.endswith('.') for text in found.values())
