"""Engine results become messages without losing a stamp or a number."""

import pytest
from builtin_interfaces.msg import Time
from rclpy.time import Time as Clock
from std_msgs.msg import Header

from m3et_ros.data.frame import Labels
from m3et_ros.ros import convert
from m3et_ros.runtime.results import Actions, Anticipation, Ranked, Reply

HEADER = Header(stamp=Time(sec=5, nanosec=999_999_999), frame_id='camera_color_optical_frame')
NOW = Clock(nanoseconds=6_249_999_999)


@pytest.mark.parametrize('nanoseconds', [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789])
def test_stamps_survive_the_round_trip(nanoseconds):
    assert convert.stamp_ns(convert.stamp_msg(nanoseconds)) == nanoseconds


def test_answer_keeps_the_header_and_says_how_old_it_is():
    reply = Reply(
        'what?',
        'a cup',
        0.75,
        (Ranked(3, 'a cup', 0.75), Ranked(-1, 'a pan', 0.25)),
        'episode',
        8,
        1_500_000_000,
        5_999_999_999,
        0.125,
    )
    message = convert.answer_msg(reply, HEADER, 'kitchen-random-0', NOW)
    assert message.header == HEADER
    assert message.age_s == pytest.approx(0.25)
    assert [(a.id, a.label) for a in message.alternatives] == [(3, 'a cup'), (-1, 'a pan')]
    assert (message.frames_used, message.span_start.sec, message.scope) == (8, 1, 'episode')
    assert message.model_id == 'kitchen-random-0'


def test_anticipation_tells_now_from_next():
    def actions(word):
        return Actions((Ranked(0, word, 0.5),), (Ranked(13, 'cup', 0.5),), (Ranked(13, f'{word} cup', 0.25),))

    message = convert.anticipation_msg(Anticipation(actions('take'), actions('wash'), 1.0, 0.01), HEADER, 'm', NOW)
    assert message.actions[0].label == 'wash cup'
    assert message.current_actions[0].label == 'take cup'
    assert message.horizon_s == 1.0


def test_label_map_names_every_class():
    labels = Labels(('wall', 'cup'), ((255, 0, 0), (0, 51, 0)), (), (), ())
    message = convert.label_map_msg(labels, HEADER)
    assert list(message.ids) == [0, 1] and list(message.names) == ['wall', 'cup']
    assert message.colors[1].g == pytest.approx(0.2)
