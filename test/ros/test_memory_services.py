"""The memory of an episode goes from one process to the next; what cannot be saved or restored is refused."""

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


def shown(robot, start, frames):
    """Show a robot frames, a second apart, until it has served each."""
    served = robot.listen(ActionAnticipation, 'anticipation')
    robot.ready()
    for stamp in range(start, start + frames):
        robot.show_until(stamp, lambda stamp=stamp: served and served[-1].header.stamp.sec >= stamp)
    return robot


def test_another_process_continues_the_saved_episode(robot, call, tmp_path):
    path = f'memory_file:={tmp_path}/episode.safetensors'
    first = shown(robot('first', path, model='kitchen'), 100, 3)
    before = first.ask('Was there a cup?', scope='episode').answer
    assert before.frames_used == 3
    saved = call(first, 'save')
    assert saved.success and saved.message.startswith('3 frames of the episode')
    assert call(first, 'reset').success

    second = robot('second', path, model='kitchen').ready()
    restored = call(second, 'restore')
    assert restored.success and 'after 3 frames' in restored.message
    answer = shown(second, 103, 1).ask('Was there a cup?', scope='episode').answer
    assert answer.frames_used == 4 and answer.span_start == before.span_start


def test_a_memory_that_cannot_be_saved_or_restored_is_refused_and_counted(robot, call, tmp_path):
    damaged = tmp_path / 'damaged.safetensors'
    damaged.write_bytes(b'no memory')
    few = robot('few', f'memory_file:={damaged}').ready()
    assert 'has no memory that could be saved' in call(few, 'save').message
    spoilt = robot('spoilt', f'memory_file:={damaged}', model='kitchen').ready()
    reply = call(spoilt, 'restore')
    assert not reply.success and 'holds no memory' in reply.message
    spoilt.ros.until(lambda: spoilt.count('memory_damaged') == 1)


def test_a_node_that_remembers_nothing_refuses_to_save_and_to_restore(robot, call, tmp_path):
    path = tmp_path / 'episode.safetensors'
    path.write_bytes(b'the memory of an earlier day')
    robot = robot('forgetful', 'memory:=false', f'memory_file:={path}').ready()
    for name in ('save', 'restore'):
        reply = call(robot, name)
        assert not reply.success and reply.message.startswith('The parameter memory is off')
    robot.ros.until(lambda: robot.count('memory_off') == 2)
    assert path.read_bytes() == b'the memory of an earlier day'
