"""Messages for Foxglove, field by field."""

import numpy as np
import pytest
from protobuf_fields import fields
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from m3et_ros.cli.robots import RobotHealth
from m3et_ros.cli.view.foxglove_messages import Messages, anticipation_json, health_json
from m3et_ros.cli.view.messages import SeenBox
from m3et_ros.msg import ActionAnticipation, Answer, Place, ScoredLabel
from m3et_ros.ros.convert import stamp_msg, to_image_msg

pytest.importorskip('foxglove', reason="foxglove-sdk is not installed: pip install 'm3et_ros[foxglove]'")
HEADER = Header(stamp=stamp_msg(5_000_000_007), frame_id='eye')
STAMP = {1: [5], 2: [7]}


def test_colours_are_jpeg_under_stamp_and_frame():
    image = to_image_msg(np.full((8, 12, 3), 90, np.uint8), 'rgb8', HEADER)
    found = fields(Messages('/one').picture(image).encode())
    assert fields(found[1][0]) == STAMP and found[3] == [b'jpeg'] and found[4] == [b'eye']
    assert found[2][0][:2] == b'\xff\xd8'


def test_an_image_without_a_frame_gets_one():
    image = to_image_msg(np.full((8, 12, 3), 90, np.uint8), 'rgb8', Header())
    assert fields(Messages('/left/arm').picture(image).encode())[4] == [b'left_arm_camera']


def test_depth_is_in_millimetres():
    image = to_image_msg(np.array([[1.5, np.nan]], np.float32), '32FC1', HEADER)
    found = fields(Messages('/one').depth(image).encode())
    assert (found[2], found[3], found[4], found[5]) == ([2], [1], [b'16UC1'], [4])
    assert np.frombuffer(found[6][0], '<u2').tolist() == [1500, 0]


def test_calibration_is_that_of_camera_info():
    k = [50.0, 0.0, 32.0, 0.0, 51.0, 24.0, 0.0, 0.0, 1.0]
    info = CameraInfo(header=HEADER, width=64, height=48, distortion_model='plumb_bob', d=[0.5], k=k)
    found = fields(Messages('/one').calibration(info).encode())
    assert (found[2], found[3], found[4]) == ([64], [48], [b'plumb_bob'])
    assert np.frombuffer(found[5][0], '<f8').tolist() == [0.5] and np.frombuffer(found[6][0], '<f8').tolist() == k


def test_the_camera_looks_forward_in_an_upright_frame():
    found = fields(Messages('/one').transform(CameraInfo(header=HEADER)).encode())
    assert found[2] == [b'one_view'] and found[3] == [b'eye']
    turned = fields(found[5][0])
    x, y, z, w = (turned[n][0] for n in (1, 2, 3, 4))
    forward = (2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y))
    down = (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w))
    assert forward == (1, 0, 0) and down == (0, 0, -1)


def test_an_answer_is_a_line_and_no_answer_a_warning():
    make = Messages('/one')
    sure = Answer(header=HEADER, question='What?', text='a cup', confidence=0.5, answerable=True)
    found = fields(make.log(sure).encode())
    assert found[3] == [b'What? a cup (0.50)'] and found[4] == [b'one']
    unsure = fields(make.log(Answer(question='What?', text='I cannot tell', explanation='Unsure.')).encode())
    assert unsure[3] == [b'What? I cannot tell (Unsure.)'] and unsure[2] != found[2]


def where(*, known=True):
    place = Place(label='cup', confidence=0.75, u=30.0, v=20.0, distance=1.25, measured=1.0)
    place.box = RegionOfInterest(x_offset=10, y_offset=12, width=40, height=16)
    place.position.x, place.position.y, place.position.z = 0.5 if known else float('nan'), 0.25, 1.0
    place.size.x, place.size.y, place.size.z = 0.1, 0.2, 0.3
    return Answer(header=HEADER, question='Where?', text='left', answerable=True, places=[place])


def test_the_place_of_an_answer_is_a_box_with_words_in_the_image():
    found = fields(Messages('/one').boxes(where()).encode())
    corners = [fields(one) for one in fields(found[2][0])[3]]
    assert [(one[1][0], one[2][0]) for one in corners] == [(10, 12), (50, 12), (50, 28), (10, 28)]
    assert fields(found[3][0])[3] == [b'cup 0.75']


def test_the_place_of_an_answer_is_a_box_in_space_that_vanishes():
    (entity,) = fields(Messages('/one').scene(where()).encode())[2]
    found = fields(entity)
    assert found[2] == [b'eye'] and fields(found[4][0])[1] == [2]
    cube = fields(found[8][0])
    assert [fields(cube[2][0])[n][0] for n in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.3])
    position = fields(fields(cube[1][0])[1][0])
    assert [position[n][0] for n in (1, 2, 3)] == [0.5, 0.25, 1.0]
    assert b'cup 0.75, 1.25 m' in entity
    (unknown,) = fields(Messages('/one').scene(where(known=False)).encode())[2]
    assert 8 not in fields(unknown)


def test_what_is_seen_is_boxes_in_space():
    box = SeenBox('cup', (255, 0, 51), (0.5, 0.25, 1.0), (0.1, 0.2, 0.3))
    (entity,) = fields(Messages('/one').things(5_000_000_007, 'eye', [box]).encode())[2]
    found = fields(entity)
    assert fields(found[1][0]) == STAMP and found[2] == [b'eye'] and found[3] == [b'things']
    cube = fields(found[8][0])
    assert [fields(cube[2][0])[n][0] for n in (1, 2, 3)] == [0.1, 0.2, 0.3]
    assert [fields(cube[3][0])[n][0] for n in (1, 3, 4)] == [1, 0.2, 0.4] and b'cup' in entity


def test_actions_and_health_as_json():
    message = ActionAnticipation(
        horizon_s=1.0, current_actions=[ScoredLabel(label='open tap', score=0.25)], actions=[ScoredLabel(label='wash')]
    )
    assert anticipation_json(message) == {
        'now': [{'label': 'open tap', 'score': 0.25}],
        'next': [{'label': 'wash', 'score': 0.0}],
        'horizon_s': 1.0,
    }
    values = {'rate_in_hz': '10', 'age_s/p50': '0.25', 'age_s/p95': 'nan', 'state': 'active', 'state/more': '1'}
    assert health_json(RobotHealth('ok', 'Running.', values)) == {
        'level': 'ok',
        'sentence': 'Running.',
        'values': {'rate_in_hz': 10, 'age_s': {'p50': 0.25, 'p95': None}, 'state': 'active'},
    }
