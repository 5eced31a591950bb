"""The memory of an episode goes from one process to the next; what cannot be saved or restored is refused."""

from std_srvs.srv import Trigger

from m3et_ros.msg import ActionAnticipation


def call(robot, name, after_s=0.0):
    """Return the response of a service of the memory, which is called so long after its client was made."""
    client = robot.node.create_client(Trigger, f'/{robot.name}/model/{name}_memory')
    robot.ros.until(client.service_is_ready)
    robot.pause(after_s)
    return robot.ros.until(client.call_async(Trigger.Request()).result, 60)


def shown(robot, start, frames):
    """Show a robot frames, a second apart, until it has served each."""
    served = robot.listen(ActionAnticipation, 'anticipation')
    robot.ready()
    for stamp in range(start, start + frames):
        robot.show_until(stamp, lambda stamp=stamp: served and served[-1].header.stamp.sec >= stamp)
    return robot


def test_another_process_continues_the_saved_episode(robot_here, robot, tmp_path):
    path = tmp_path / 'episode.safetensors'
    first = shown(robot_here('first', f'memory_file:={path}', model='kitchen'), 100, 3)
    before = first.ask('Was there a cup?', scope='episode').answer
    assert before.frames_used == 3
    saved = call(first, 'save')
    assert saved.success and saved.message.startswith('3 frames of the episode')

    second = robot('second', f'memory_file:={path}', model='kitchen').ready()
    # DDS drops the answer to a client that another process has not met yet.
    restored = call(second, 'restore', after_s=1)
    assert restored.success and 'after 3 frames' in restored.message
    answer = shown(second, 103, 1).ask('Was there a cup?', scope='episode').answer
    assert answer.frames_used == 4 and answer.span_start == before.span_start
    path.write_bytes(b'no memory')
    reply = call(second, 'restore', after_s=1)
    assert not reply.success and 'holds no memory' in reply.message
    second.ros.until(lambda: second.count('memory_damaged') == 1)


def test_a_model_without_a_memory_saves_nothing(robot_here, tmp_path):
    few = robot_here('few', f'memory_file:={tmp_path}/episode.safetensors').ready()
    assert 'has no memory that could be saved' in call(few, 'save').message


def test_a_node_that_remembers_nothing_refuses_to_save_and_to_restore(robot_here, tmp_path):
    path = tmp_path / 'episode.safetensors'
    path.write_bytes(b'the memory of an earlier day')
    robot = robot_here('forgetful', 'memory:=false', f'memory_file:={path}').ready()
    for name in ('save', 'restore'):
        reply = call(robot, name)
        assert not reply.success and reply.message.startswith('The parameter memory is off')
    robot.ros.until(lambda: robot.count('memory_off') == 2)
    assert path.read_bytes() == b'the memory of an earlier day'
