"""Samples are decoded late, depth that cannot be used is left out, instructions hold from their stamp on."""

import numpy as np
import pytest
from std_msgs.msg import Header

from m3et_ros.data.errors import InputError
from m3et_ros.ros.camera.inputs import Instructions, PairedMessages
from m3et_ros.ros.camera.sync import Pair
from m3et_ros.ros.convert import compress_depth, compress_rgb, stamp_msg, to_image_msg

HEADER = Header(stamp=stamp_msg(5), frame_id='camera')
RGB = np.full((20, 30, 3), 128, np.uint8)
DEPTH = np.full((20, 30), 1.5, np.float32)


def sample(rgb, depth=None):
    return PairedMessages(Pair(5, rgb, depth), None, 'look at the cup')


@pytest.mark.parametrize(
    'rgb, depth',
    [
        (to_image_msg(RGB, 'rgb8', HEADER), to_image_msg(DEPTH, '32FC1', HEADER)),
        (compress_rgb(RGB, HEADER), compress_depth(DEPTH, HEADER)),
    ],
)
def test_raw_and_compressed_pairs_become_frames(rgb, depth):
    frame, problem = sample(rgb, depth).decode()
    assert problem is None and (frame.stamp_ns, frame.frame_id, frame.instruction) == (5, 'camera', 'look at the cup')
    assert abs(frame.rgb.astype(int) - 128).max() <= 2
    np.testing.assert_allclose(frame.depth, DEPTH)


def test_depth_that_does_not_fit_is_left_out_with_the_reason():
    frame, problem = sample(to_image_msg(RGB, 'rgb8', HEADER), compress_depth(DEPTH[:10], HEADER)).decode()
    assert frame.depth is None and problem.reason == 'depth_size'


def test_colour_that_cannot_be_read_is_refused():
    message = to_image_msg(RGB, 'rgb8', HEADER)
    message.step = 7
    with pytest.raises(InputError) as refused:
        sample(message).decode()
    assert refused.value.reason == 'step_too_short'


def test_instructions_hold_from_their_stamp_until_the_next():
    instructions = Instructions('at first')
    instructions.add(100, 'then')
    instructions.add(200, ' at last ')
    assert [instructions.at(t) for t in (0, 99, 100, 199, 200, 10**18)] == [
        'at first',
        'at first',
        'then',
        'then',
        'at last',
        'at last',
    ]


def test_an_instruction_without_a_stamp_holds_from_now_on_whatever_the_clock():
    instructions = Instructions('')
    instructions.add(10**18, 'later')
    instructions.add(0, 'now')
    assert instructions.at(1) == instructions.at(2 * 10**18) == 'now'
    instructions.add(0, '')
    assert instructions.at(5) == ''


def test_the_list_of_instructions_is_bounded():
    instructions = Instructions('', limit=4)
    for n in range(1, 100):
        instructions.add(n, str(n))
    assert instructions.at(99) == '99' and instructions.at(97) == '97' and instructions.at(1) == ''
