"""A connection to running robots: a real model node, asked from several threads at once."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from m3et_ros.cli.output import Refused
from m3et_ros.cli.robots import STALE_S, connect
from m3et_ros.data.bags.cdr import from_cdr
from m3et_ros.msg import LabelMap
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.srv import AskQuestion

STAMP = 1_700_000_000_123_456_789


@pytest.fixture(scope='module')
def robots(m3et_started):
    """A connection to one robot, /one, on a camera that shows one image."""
    picture = to_image_msg(np.full((48, 64, 3), 90, np.uint8), 'rgb8', Header(stamp=stamp_msg(STAMP), frame_id='eye'))
    with (
        m3et_started('robot', '--namespace', 'one', '--camera', '/cam', '--model', 'tiny') as process,
        connect(threading.Event()) as robots,
    ):
        camera = robots.node.create_publisher(Image, '/cam/color/image_raw', 5)
        robots.node.create_timer(0.2, lambda: camera.publish(picture))
        robots.robot('/one').newest('~/depth/image', Image, 120)
        yield robots
        assert process.poll() is None


def test_the_robots_of_the_graph_are_listed(robots):
    assert robots.namespaces() == ['/one']


def test_health_is_that_of_the_diagnostics(robots):
    robot = robots.robot('/one')
    assert robots.node.wait(lambda: robot.health.values.get('state') == 'active', 60)
    assert robot.health.level in ('ok', 'warn') and robot.health.values['model_id'] == 'tiny-random-0'
    assert robot.camera_topics['rgb'] == '/cam/color/image_raw'
    assert robot.camera_topics['depth'].startswith('/cam/') and robot.camera_topics['camera_info'].startswith('/cam/')


def test_a_robot_that_is_not_there_is_silent(robots):
    robot = robots.robot('/two')
    assert robot.health.level == 'silent' and 'has not reported yet' in robot.health.sentence
    assert robot.camera_topics == {}
    with pytest.raises(Refused, match='--namespace /one'):
        robot.ask(AskQuestion.Request(question='What?'), 0.3)
    with pytest.raises(Refused, match=r'/two/model/depth/image within 0.2 s; /two says: .* not reported'):
        robot.newest('~/depth/image', Image, 0.2)


def test_a_robot_that_falls_silent_is_reported(robots, monkeypatch):
    robot = robots.robot('/one')
    assert robots.node.wait(lambda: robot.health.level != 'silent', 60)
    now = time.monotonic()
    monkeypatch.setattr('m3et_ros.cli.robots.time.monotonic', lambda: now + STALE_S + 60)
    assert robot.health.level == 'silent' and 'has reported nothing for 6' in robot.health.sentence
    assert robot.health.values['state'] == 'active'


def test_many_threads_ask_at_once(robots):
    robot, answers = robots.robot('/one'), []

    def ask(number):
        answers.append(robot.ask(AskQuestion.Request(question=f'What is {number}?', top_k=1), 120))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(answer.question for answer in answers) == [f'What is {number}?' for number in range(8)]


def test_an_answer_comes_as_the_robot_is_configured(robots):
    parts = []
    answer = robots.robot('/one').converse('What is in the hand?', 120, parts.append, scope='episode')
    assert answer.scope == 'episode' and parts == []  # this robot ranks its answers


def test_a_thread_gives_up_alone(robots):
    stopped = threading.Event()
    stopped.set()
    robot = robots.robot('/one')
    with pytest.raises(Refused, match='cancelled'):
        robot.ask(AskQuestion.Request(question='What?'), 120, stopped)
    assert robot.ask(AskQuestion.Request(question='What?'), 120).question == 'What?'


def test_the_block_of_a_thread_goes_on_after_one_inside_it(robots):
    outer, node = threading.Event(), robots.node
    with node.stopping(outer):
        robots.robot('/one').ask(AskQuestion.Request(question='What?'), 120)
        assert node.stopped is outer
    assert node.stopped is not outer


def test_an_action_client_is_destroyed_by_the_thread_that_waits_for_it(robots):
    threads = []
    robots.node.discard(SimpleNamespace(destroy=lambda: threads.append(threading.current_thread().name)))
    assert robots.node.wait(lambda: threads == ['robots'], 60)


def test_a_listener_receives_bytes_without_a_copy_and_latched_messages(robots):
    robot = robots.robot('/one')
    message = from_cdr(robot.newest('/cam/color/image_raw', Image, 60, raw=True), 'sensor_msgs/msg/Image')
    assert (message.height, message.width) == (48, 64)
    labels = robot.newest('~/segmentation/labels', LabelMap, 60, latched=True)
    assert len(labels.names) == len(labels.ids) > 0


def test_a_listener_that_raises_does_not_end_the_others(robots):
    received, topic = [], '/words'
    words = robots.node.create_publisher(String, topic, 1)
    with robots.listen(topic, String, lambda message: 1 / 0), robots.listen(topic, String, received.append):

        def arrived():
            words.publish(String(data='hello'))
            return received

        assert robots.node.wait(arrived, 60)
    assert not [one for one in robots.node.subscriptions if one.topic_name == topic]
    robots.node.destroy_publisher(words)


def test_listeners_are_closed_while_their_messages_arrive_and_nothing_is_logged(robots, capfd):
    words, received = robots.node.create_publisher(String, '/many', 1), []
    for _ in range(100):
        with robots.listen('/many', String, received.append):
            words.publish(String(data='hello'))
            time.sleep(0.002)  # until about the turn of the message
    with robots.listen('/many', String, received.append):

        def arrived():
            words.publish(String(data='the last'))
            return String(data='the last') in received

        assert robots.node.wait(arrived, 60)
    robots.node.destroy_publisher(words)
    assert 'internal error' not in capfd.readouterr().err
