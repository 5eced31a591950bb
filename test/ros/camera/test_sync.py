"""Pairing by stamp: matched images, colour that passes alone, images that are dropped and counted."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from std_msgs.msg import Header

from m3et_ros.data.errors import InputError
from m3et_ros.ros.camera.sync import STALLS, Pair, Synchroniser, require_same_size
from m3et_ros.ros.convert import stamp_msg

MS = 1_000_000
START = 1_700_000_000_000 * MS


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Bench:
    """A synchroniser with slop 20 ms and wait 100 ms that gets names as images; stamps in milliseconds."""

    def __init__(self, **options):
        self.clock = Clock()
        self.sync = Synchroniser(clock=self.clock, **options)

    def rgb(self, at):
        return short(self.sync.add_rgb(START + at * MS, f'c{at}'))

    def depth(self, at):
        return short(self.sync.add_depth(START + at * MS, f'd{at}'))

    def poll(self, after):
        self.clock.seconds += after / 1000
        return short(self.sync.poll())


def short(pair: Pair | None):
    return pair and (pair.rgb, pair.depth)


def test_without_any_depth_colour_passes_at_once():
    bench = Bench()
    assert [bench.rgb(i) for i in (0, 33, 66)] == [('c0', None), ('c33', None), ('c66', None)]
    assert bench.sync.counts == {}


def test_equal_stamps_pair_in_either_order_of_arrival():
    bench = Bench()
    assert bench.depth(0) is None and bench.rgb(0) == ('c0', 'd0')
    assert bench.rgb(33) is None and bench.depth(33) == ('c33', 'd33')
    assert bench.sync.waiting == (0, 0)


def test_depth_that_arrives_two_frames_late_still_pairs():
    bench = Bench()
    assert bench.depth(-33) is None
    assert bench.rgb(0) is None and bench.rgb(33) is None
    assert bench.depth(0) == ('c0', 'd0')
    assert bench.rgb(66) is None and bench.depth(33) == ('c33', 'd33')


def test_with_a_wide_slop_the_nearest_is_awaited():
    bench = Bench(slop_s=0.05)
    for at in (-66, -33, 0):
        bench.depth(at)
    assert bench.rgb(30) is None, 'd33 is nearer than d0 and still to come'
    assert bench.depth(33) == ('c30', 'd33')


def test_depth_that_always_leads_a_little_is_not_awaited():
    bench = Bench()
    bench.depth(-33)
    assert bench.depth(0) is None and bench.rgb(8) == ('c8', 'd0')


def test_slow_depth_passes_over_the_colour_between():
    bench = Bench()
    pairs = [bench.depth(0), bench.rgb(0), bench.rgb(33), bench.depth(66), bench.rgb(66)]
    assert pairs == [None, ('c0', 'd0'), None, None, ('c66', 'd66')]
    assert bench.sync.counts == {'rgb_superseded': 1}


def test_beyond_the_slop_is_unmatched():
    bench = Bench(queue=2)
    bench.depth(0), bench.rgb(0)
    assert bench.rgb(100) is None and bench.depth(79) is None and bench.depth(121) is None
    assert bench.rgb(121) == ('c121', 'd121')
    assert bench.sync.counts == {'depth_unmatched': 1, 'rgb_superseded': 1}


@pytest.mark.parametrize('slop_s, slop_ns', [(0, 0), (0.02, 20 * MS), (1, 1000 * MS)])
@pytest.mark.parametrize('sign', [-1, 1])
def test_the_slop_pairs_up_to_its_edge_and_not_beyond(slop_s, slop_ns, sign):
    for beyond, depth in ((0, 'depth'), (1, None)):
        sync = Synchroniser(slop_s=slop_s, depth_wait_s=0, clock=Clock())
        sync.add_depth(START + sign * (slop_ns + beyond), 'depth')
        assert sync.add_rgb(START, 'colour').depth == depth


def test_colour_waits_up_to_the_edge_of_the_wait():
    bench = Bench(depth_wait_s=0.25)
    bench.depth(0), bench.rgb(0), bench.rgb(33)
    bench.clock.seconds = 0.2499
    assert bench.poll(0) is None
    bench.clock.seconds = 0.25
    assert bench.poll(0) == ('c33', None)


def test_depth_half_a_period_ahead_is_taken_at_once_and_one_further_ahead_awaited():
    for at, pair in ((60, ('c60', 'd40')), (61, None)):
        bench = Bench(slop_s=0.05)
        bench.depth(0), bench.depth(40)
        assert bench.rgb(at) == pair


def test_each_queue_holds_its_limit_and_drops_the_oldest_beyond():
    bench = Bench(queue=2, stall='wait')
    bench.depth(-1000)
    for at in (0, 33):
        bench.rgb(at)
    assert bench.sync.waiting == (2, 1) and bench.sync.counts == {}
    bench.rgb(66), bench.depth(-900), bench.depth(-800)
    assert bench.sync.waiting == (2, 2)
    assert bench.sync.counts == {'rgb_superseded': 1, 'depth_unmatched': 1}


def stalled(stall):
    bench = Bench(stall=stall)
    bench.depth(0), bench.rgb(0)
    assert bench.rgb(33) is None and bench.poll(99) is None
    return bench


def test_a_stall_leaves_depth_out_and_then_waits_no_more():
    bench = stalled('leave_out')
    assert bench.poll(2) == ('c33', None)
    assert bench.rgb(66) == ('c66', None), 'only the first image pays the wait'
    assert bench.depth(99) is None and bench.rgb(99) == ('c99', 'd99')
    assert bench.sync.counts == {'depth_stalled': 2}


def test_a_stall_reuses_the_last_depth():
    bench = stalled('reuse')
    assert bench.poll(2) == ('c33', 'd0') and bench.rgb(66) == ('c66', 'd0')
    assert bench.sync.counts == {'depth_stalled': 2, 'depth_reused': 2}


def test_a_stall_may_hold_colour_until_depth_comes():
    bench = stalled('wait')
    assert bench.poll(5000) is None
    assert bench.rgb(5033) is None and bench.depth(5033) == ('c5033', 'd5033')
    assert bench.sync.counts == {'rgb_superseded': 1}


def test_a_candidate_within_slop_is_better_than_none():
    bench = Bench()
    bench.depth(0)
    assert bench.rgb(15) is None, 'the period of depth is not known yet'
    assert bench.poll(101) == ('c15', 'd0')


def test_time_that_goes_back_starts_anew():
    bench = Bench()
    bench.depth(5000), bench.rgb(5000), bench.rgb(5033)
    assert bench.depth(0) is None and bench.rgb(0) == ('c0', 'd0')
    assert bench.sync.counts == {'stamp_back': 1, 'rgb_superseded': 1}


def test_the_same_stamp_again_is_dropped():
    bench = Bench()
    assert bench.rgb(0) and bench.rgb(0) is None
    bench.depth(33), bench.depth(33)
    assert bench.sync.counts == {'rgb_duplicate': 1, 'depth_duplicate': 1}


def test_images_without_a_stamp_pass_and_match_each_other():
    sync = Synchroniser(clock=Clock())
    assert sync.add_rgb(0, 'c1') == Pair(0, 'c1')
    assert sync.add_depth(0, 'd1') is None and sync.add_depth(0, 'd2') is None
    assert sync.add_rgb(0, 'c2') == Pair(0, 'c2', 'd2', 0)
    assert sync.counts == {'stamp_zero': 4, 'depth_unmatched': 1}


def test_depth_of_another_size_is_named_and_colour_passes_alone():
    sync = Synchroniser(clock=Clock())
    sync.add_depth(START, np.zeros((4, 5), np.float32))
    pair = sync.add_rgb(START, np.zeros((8, 10, 3), np.uint8))
    assert pair.depth is None and pair.error.reason == 'depth_size'
    assert '5x4' in str(pair.error) and 'align_depth.enable:=true' in str(pair.error)
    assert sync.counts == {'depth_size': 1}


def test_messages_are_compared_by_their_fields():
    image = SimpleNamespace(height=4, width=5)
    require_same_size(image, np.zeros((4, 5)))
    require_same_size(image, 'not decoded yet')
    with pytest.raises(InputError, match='5x4'):
        require_same_size(np.zeros((4, 6, 3)), image)


def framed(name):
    return SimpleNamespace(height=4, width=5, header=SimpleNamespace(frame_id=name))


def test_depth_of_another_frame_is_named_and_colour_passes_alone():
    sync = Synchroniser(clock=Clock())
    assert not sync.any_depth
    sync.add_depth(START, framed('camera_depth_optical_frame'))
    pair = sync.add_rgb(START, framed('camera_color_optical_frame'))
    assert pair.depth is None and pair.error.reason == 'depth_frame' and sync.any_depth
    assert "'camera_depth_optical_frame'" in str(pair.error) and 'align_depth.enable:=true' in str(pair.error)
    assert sync.counts == {'depth_frame': 1}
    for number, names in enumerate((('eye', 'eye'), ('eye', ''), ('', 'eye')), 1):
        sync.add_depth(START + number * 10**9, framed(names[1]))
        assert sync.add_rgb(START + number * 10**9, framed(names[0])).depth is not None


def test_pairs_agree_with_message_filters():
    """The synchroniser of the field, where it is installed: every pair that it finds within the slop is ours too."""
    filters = pytest.importorskip('message_filters', reason='message_filters is not installed')
    rng = np.random.default_rng(0)

    def stamped(ns):
        return SimpleNamespace(header=Header(stamp=stamp_msg(ns)), ns=ns)

    theirs, ours = [], []
    rgb_in, depth_in = filters.SimpleFilter(), filters.SimpleFilter()
    reference = filters.ApproximateTimeSynchronizer([rgb_in, depth_in], 20, 0.02)
    reference.registerCallback(lambda rgb, depth: theirs.append((rgb.ns, depth.ns)))
    sync = Synchroniser(clock=Clock())
    for number in range(200):
        rgb = START + number * 33_000_000
        depth = rgb + int(rng.integers(-8_000_000, 8_000_000))
        for kind, ns in sorted((('rgb', rgb), ('depth', depth)), key=lambda item: item[1]):
            (rgb_in if kind == 'rgb' else depth_in).signalMessage(stamped(ns))
            pair = (sync.add_rgb if kind == 'rgb' else sync.add_depth)(ns, ns)
            if pair is not None and pair.depth is not None:
                ours.append((pair.rgb, pair.depth))
    # Before the first depth image colour passes alone.
    assert len(theirs) > 150 and set(theirs[1:]) <= set(ours)


@pytest.mark.parametrize('options', [{'stall': 'hope'}, {'slop_s': -1}, {'depth_wait_s': -1}, {'queue': 0}])
def test_arguments_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Synchroniser(**options)


STAMPS = st.one_of(st.integers(-3, 60), st.just(-1_000_000))
EVENTS = st.lists(st.tuples(st.sampled_from(['rgb', 'depth', 'poll']), STAMPS, st.integers(0, 80)), max_size=80)


@settings(max_examples=400, deadline=None)
@given(events=EVENTS, stall=st.sampled_from(STALLS), queue=st.integers(1, 4))
def test_every_frame_is_emitted_once_or_counted(events, stall, queue):
    clock = Clock()
    sync = Synchroniser(stall=stall, queue=queue, clock=clock)
    emitted, added, now, last, resets = [], 0, 100, 0, 0
    for number, (kind, step, wait) in enumerate(events):
        clock.seconds += wait / 1000
        now = now + step if step > -1000 else 0
        stamp = max(now, 0) * MS
        if kind == 'poll':
            pair = sync.poll()
        elif kind == 'rgb':
            added += 1
            pair = sync.add_rgb(stamp, number)
        else:
            pair = sync.add_depth(stamp, number)
        back = sync.counts.get('stamp_back', 0)
        if back > resets:
            resets, last = back, 0
        if pair is not None:
            emitted.append(pair.rgb)
            assert pair.stamp_ns >= last or pair.stamp_ns == 0, 'stamps go back only after a reset'
            last = max(last, pair.stamp_ns)
            if stall != 'reuse' and pair.depth is not None:
                assert abs(pair.depth_stamp_ns - pair.stamp_ns) <= 20 * MS
        assert max(sync.waiting) <= queue
    counts = sync.counts
    assert len(set(emitted)) == len(emitted)
    assert added == len(emitted) + sync.waiting[0] + counts.get('rgb_superseded', 0) + counts.get('rgb_duplicate', 0)
