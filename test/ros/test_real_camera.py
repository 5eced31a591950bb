"""Five seconds of a real kitchen at 30 Hz through replay and model node, in separate processes."""

import subprocess
import sys

import numpy as np
import pytest
from sensor_msgs.msg import Image
from shared_data import SHARED as DATA

from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.msg import ActionAnticipation, Answer
from m3et_ros.ros.convert import stamp_ns

BAG = DATA / 'real_kitchen' / 'bag'
COLOUR = '/camera/camera/color/image_raw'
DEPTH = '/camera/camera/aligned_depth_to_color/image_raw'

pytestmark = pytest.mark.skipif(
    not BAG.exists(), reason='the real kitchen bag is not there; set M3ET_DATA to its folder'
)


@pytest.fixture(scope='module')
def stamps():
    with BagReader(BAG) as bag:
        return {stamp_ns(decode(m).header.stamp) for m in bag.messages([f'{COLOUR}/compressed'])}


def play(robot, rate):
    return subprocess.Popen(
        [
            sys.executable,
            '-m',
            'm3et_ros.ros.replay_node',
            '--ros-args',
            '-p',
            f'path:={BAG}',
            '-p',
            f'rate:={rate}',
            '-r',
            f'{COLOUR}/compressed:=/{robot.name}/rgb/image_raw/compressed',
            '-r',
            f'{DEPTH}/compressedDepth:=/{robot.name}/depth/image_raw/compressedDepth',
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_results_carry_the_stamps_of_a_real_camera(robot, stamps):
    robot = robot(
        'kitchen',
        'instruction:=what is in view?',
        'use_sim_time:=true',
        'rgb_transport:=compressed',
        'depth_transport:=compressedDepth',
    )
    depth, served = robot.listen(Image, 'depth/image'), robot.listen(ActionAnticipation, 'anticipation')
    answers = robot.listen(Answer, 'answer')
    robot.ros.until(robot.asker.service_is_ready, 60)
    player = play(robot, 1.0)
    output, _ = player.communicate(timeout=120)
    assert player.returncode == 0, output
    robot.ros.until(lambda: served and answers and depth)
    for message in (*served, *answers, *depth):
        assert stamp_ns(message.header.stamp) in stamps
        assert message.header.frame_id
    assert len(served) > 5
    # Every image is accounted for: served, replaced in the slot, or superseded in the synchroniser.
    status = robot.ros.until(lambda: int(robot.diagnosis().get('frames_out', 0)) >= len(served) and robot.diagnosis())
    dropped = int(status.get('dropped/frame_superseded', 0)) + int(status.get('synchroniser/rgb_superseded', 0))
    assert int(status['frames_in']) - 2 <= int(status['frames_out']) + dropped <= int(status['frames_in'])
    metres = [np.frombuffer(m.data, np.float32) for m in depth]
    assert all(np.isfinite(m).all() for m in metres[2:]), "depth_fill 'auto' fills every hole of the sensor"
    known = np.concatenate([m[np.isfinite(m)] for m in metres])
    assert known.min() > 0.3 and known.max() < 10 and 0.5 < np.median(known) < 5
