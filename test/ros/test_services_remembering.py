"""The memory of an episode saved by one process and gone on with by another."""

import pytest
from std_srvs.srv import Trigger

from m3et_ros.msg import ActionAnticipation


@pytest.fixture
def call(ros):
    def now(robot, name):
        client = robot.node.create_client(Trigger, f'/{robot.name}/model/{name}_memory')
        ros.until(client.service_is_ready)
        robot.pause(1)  # DDS drops the answer to a client that the node has not met yet
        return ros.until(client.call_async(Trigger.Request()).result, 30)

    return now


def watched(robot, start, frames):
    """Let a robot look at frames, a second apart, until it has served each."""
    served = robot.listen(ActionAnticipation, 'anticipation')
    robot.ready()
    for n in range(frames):
        robot.ros.until(
            lambda: (robot.look(start + n) and robot.pause()) or (served and served[-1].header.stamp.sec >= start + n)
        )
    return robot


def test_another_process_goes_on_with_what_was_saved(robot, call, tmp_path):
    path = f'memory_file:={tmp_path}/episode.safetensors'
    first = watched(robot('first', path, model='kitchen'), 100, 3)
    before = first.ask('Was there a cup?', scope='episode').answer
    assert before.frames_used == 3
    saved = call(first, 'save')
    assert saved.success and saved.message.startswith('3 frames of the episode')
    assert call(first, 'reset').success

    second = robot('second', path, model='kitchen').ready()
    restored = call(second, 'restore')
    assert restored.success and 'after 3 frames' in restored.message
    answer = watched(second, 103, 1).ask('Was there a cup?', scope='episode').answer
    assert answer.frames_used == 4 and answer.span_start == before.span_start


def test_what_cannot_be_kept_is_told_and_counted(robot, call, tmp_path):
    damaged = tmp_path / 'damaged.safetensors'
    damaged.write_bytes(b'no memory')
    nowhere, few = robot('nowhere', model='kitchen').ready(), robot('few', f'memory_file:={damaged}').ready()
    assert 'memory_file is empty' in call(nowhere, 'save').message
    assert 'has no memory that could be saved' in call(few, 'save').message
    spoilt = robot('spoilt', f'memory_file:={damaged}', model='kitchen').ready()
    reply = call(spoilt, 'restore')
    assert not reply.success and 'holds no memory' in reply.message
    spoilt.ros.until(lambda: spoilt.count('memory_damaged') == 1)
