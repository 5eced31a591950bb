"""A robot as the pages show it, on real DDS: what is read, when, and what comes of it."""

import json
import struct
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.cli.view.robot_feed import FeedOptions, RobotFeed, stamp_of
from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera
from m3et_ros.data.errors import InputError
from m3et_ros.msg import Answer
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.srv import AskQuestion

OWN = {'/answer', '/anticipation', '/segmentation/labels'}
COLOUR = {'/cam/color/image_raw'}
DEPTH = {'/depth/image', '/cam/aligned_depth_to_color/image_raw'}
MASK = {'/segmentation/mask'}


@contextmanager
def feed_of(graph, namespace, **options):
    """A feed and everything that it has sent."""
    sent = []
    feed = RobotFeed(graph, namespace, FeedOptions(**options), lambda name, message: sent.append((name, message)))
    try:
        yield feed, sent
    finally:
        feed.close()


@pytest.fixture
def feed(graph, robot):
    with feed_of(graph, robot) as made:
        assert graph.node.wait(lambda: 'camera_info' in made[0].robot.camera_topics, 60)
        yield made


def read(graph):
    # camera_info is read until the first one has come.
    others = {'/diagnostics', '/parameter_events', '/cam/color/camera_info'}
    return {one.topic_name.removeprefix('/one/model') for one in graph.node.subscriptions} - others


@pytest.mark.parametrize(
    ('wanted', 'topics'),
    [
        (set(), set()),
        ({'colour'}, COLOUR),
        ({'depth'}, DEPTH),
        ({'mask'}, MASK),
        ({'colour', 'depth', 'mask'}, COLOUR | DEPTH | MASK),
    ],
    ids=['none', 'colour', 'depth', 'mask', 'all'],
)
def test_only_what_is_looked_at_is_read_and_nothing_after_the_end(graph, robot, feed, wanted, topics):
    feed[0].refresh({'colour', 'depth', 'mask'})
    feed[0].refresh(wanted)
    assert read(graph) == OWN | topics
    feed[0].close()
    assert read(graph) == set()


def pictures(sent, kind):
    for name, message in list(sent):
        if name == kind:
            length = struct.unpack_from('<I', message)[0]
            yield json.loads(message[4 : 4 + length]), message[4 + length :]


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_pictures_labels_and_actions_arrive(graph, feed):
    feed, sent = feed
    feed.refresh({'colour', 'depth', 'mask'})
    kinds = {'colour', 'depth', 'mask', 'labels', 'actions'}
    filled = lambda: any('filled' in facts for facts, _ in pictures(sent, 'depth'))  # noqa: E731
    assert graph.node.wait(lambda: kinds <= {name for name, _ in sent} and filled(), 60)
    facts, data = next(pictures(sent, 'colour'))
    assert facts['size'] == [160, 120] and decoded(data).shape == (120, 160, 3) and facts['stamp'] > 1.7e9
    facts, data = next(pictures(sent, 'mask'))
    assert decoded(data).shape == (120, 160) and facts['size'] == [160, 120]
    facts, _ = next(one for one in pictures(sent, 'depth') if 'filled' in one[0])
    assert facts['filled'] == pytest.approx(40 * 50 / (120 * 160), abs=0.02)
    assert feed.metres_at(0.1, 0.1) == pytest.approx(1.5)
    labels = json.loads(dict(sent)['labels'])['classes']
    assert {'id', 'name', 'colour'} == set(labels[0]) and len(labels[0]['colour']) == 3
    actions = json.loads(dict(sent)['actions'])
    assert len(actions['next']) == 3 and 0 <= actions['next'][0]['score'] <= 1
    assert {'colour', 'depth', 'mask', 'labels', 'actions'} <= set(feed.snapshot())
    feed.refresh(set())
    assert not {'colour', 'depth', 'mask'} & set(feed.snapshot())


def test_pictures_are_no_wider_than_asked(graph, robot):
    with feed_of(graph, robot, width=64) as (feed, sent):
        assert graph.node.wait(lambda: 'rgb' in feed.robot.camera_topics, 60)
        feed.refresh({'colour', 'depth', 'mask'})
        assert graph.node.wait(lambda: {'colour', 'depth', 'mask'} <= {name for name, _ in sent}, 60)
        for kind in ('colour', 'depth', 'mask'):
            facts, data = next(pictures(sent, kind))
            width = 48 if kind == 'depth' else 64
            assert decoded(data).shape[:2] == (width * 3 // 4, width) and facts['size'] == [160, 120]


def test_an_answer_comes_once_though_it_comes_by_topic_and_by_service(graph, feed):
    feed, sent = feed
    feed.refresh(set())
    # The robot may not have found the new subscription at once, so it is asked until an answer comes by topic.
    answers = []

    def heard():
        answers.append(feed.robot.ask(AskQuestion.Request(question=f'What is {len(answers)}?'), 60))
        return graph.node.wait(lambda: any(name[0] == 'answer' for name, _ in sent), 1)

    assert graph.node.wait(heard, 60)
    (name, message), *_ = [one for one in sent if one[0][0] == 'answer']
    told = json.loads(message)
    (own,) = [one for one in answers if one.question == told['answer']['question']]
    assert feed.add_answer(own) == told['id'] == name[1]
    assert told['times'] == 1 and told['answer']['text'] == own.text


def answer(question, second, text='a cup', scope='frame'):
    return Answer(header=Header(stamp=stamp_msg(second * 10**9)), question=question, text=text, scope=scope)


def test_answers_to_a_standing_instruction_take_the_place_of_each_other(graph):
    with feed_of(graph, '/nobody') as (feed, sent):
        numbers = [feed.add_answer(answer('Where?', second)) for second in (1, 2, 2, 3)]
        assert numbers == [1, 1, 1, 1] and json.loads(sent[-1][1])['times'] == 3
        assert feed.add_answer(answer('What?', 3)) == 2
        assert feed.add_answer(answer('Where?', 4)) == 3
        assert [json.loads(message)['id'] for message in feed.snapshot().values()] == [1, 2, 3]


def test_a_mask_that_cannot_be_shown_is_said(graph):
    with feed_of(graph, '/nobody') as (feed, _):
        feed.refresh({'mask'})
        publisher = graph.node.create_publisher(Image, '/nobody/model/segmentation/mask', 1)
        stamp = 0

        def told():
            nonlocal stamp
            stamp += 1
            header = Header(stamp=stamp_msg(stamp * 10**9))
            publisher.publish(to_image_msg(np.zeros((4, 4, 3), np.uint8), 'rgb8', header))
            return 'mask' in feed.troubles

        assert graph.node.wait(told, 60)
        graph.node.destroy_publisher(publisher)
        assert 'rgb8' in feed.troubles['mask'] and 'mono8' in feed.troubles['mask']


def test_the_bag_of_the_last_minute_has_the_camera_with_its_depth(graph, robot, tmp_path):
    with feed_of(graph, robot) as (whole, _), feed_of(graph, robot, width=64) as (small, _):
        feeds = {tmp_path / 'whole': whole, tmp_path / 'small': small}
        assert graph.node.wait(lambda: all('camera_info' in feed.robot.camera_topics for feed in feeds.values()), 60)
        for feed in feeds.values():
            feed.refresh({'colour', 'depth'})
        assert graph.node.wait(lambda: min(feed.last_minute.seconds for feed in feeds.values()) > 2, 60)
        for path, feed in feeds.items():
            feed.last_minute.write(path)
            check_recorded(path)


def check_recorded(path):
    with BagReader(path) as bag:
        camera = find_camera(bag)
        assert camera.rgb == '/cam/color/image_raw/compressed'
        assert camera.depth == '/cam/aligned_depth_to_color/image_raw' and camera.note == ''
        found = list(frames(bag, rgb_topic=camera.rgb, depth_topic=camera.depth, info_topic='/cam/color/camera_info'))
        topics = set(bag.topics)
    paired = [frame for frame in found if frame.depth is not None]
    assert len(paired) >= 3 and paired[0].rgb.shape == (120, 160, 3) and paired[0].depth.shape == (120, 160)
    assert np.nanmax(paired[0].depth) == 1.5 and paired[0].K[0, 0] == 100
    assert {'/one/model/anticipation', '/one/model/segmentation/labels'} <= topics


def test_the_stamp_of_a_message_is_read_in_either_byte_order():
    assert stamp_of(b'\0\1\0\0' + struct.pack('<iI', 7, 8)) == 7 * 10**9 + 8
    assert stamp_of(b'\0\0\0\0' + struct.pack('>iI', 7, 8)) == 7 * 10**9 + 8
    with pytest.raises(InputError, match='4 bytes hold no header'):
        stamp_of(b'\0\1\0\0')
