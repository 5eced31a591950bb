"""A node with memory off encodes a frame only for a subscriber or a question, and says that it is idle."""

import time
from functools import wraps

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from m3et_ros.msg import ActionAnticipation, Answer, LabelMap
from m3et_ros.ros import interfaces
from m3et_ros.ros.camera.subscription import latched
from m3et_ros.ros.camera.sync import Pair
from m3et_ros.ros.camera_inputs import PairedMessages
from m3et_ros.ros.convert import stamp_msg, stamp_ns, to_image_msg
from m3et_ros.ros.demand import Demand
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.ros.publishers import publisher
from m3et_ros.runtime.engine import Engine

RGB = np.full((48, 64, 3), 90, np.uint8)


def test_each_result_but_labels_and_intrinsics_is_a_reason_to_encode(ros):
    node, listener = ros.add(LifecycleNode('model', context=ros.context)), ros.node('listener')
    for output in (interfaces.MASK, interfaces.LABELS, interfaces.DEPTH_INFO, interfaces.ANSWER):
        publisher(node, output, Counters(), latched() if output is interfaces.LABELS else None)
    node.create_publisher(DiagnosticArray, '/diagnostics', 1)
    demand = Demand(node)

    def listen(kind, topic):
        one = listener.create_subscription(kind, topic, lambda _: None, 1)
        ros.until(lambda: node.count_subscribers(topic))
        return one

    listen(LabelMap, '/model/segmentation/labels')
    listen(CameraInfo, '/model/depth/camera_info')
    listen(DiagnosticArray, '/diagnostics')
    assert not demand.needs_frame('') and not demand.needs_frame('what is this?')
    answers = listen(Answer, '/model/answer')
    ros.until(lambda: demand.needs_frame('what is this?'))
    assert not demand.needs_frame('')
    ros.do(listener.destroy_subscription, answers)
    ros.until(lambda: not demand.needs_frame('what is this?'))
    listen(Image, '/model/segmentation/mask')
    ros.until(lambda: demand.needs_frame(''))


def test_an_idle_node_encodes_for_a_question_and_for_a_subscriber_alone(robot_here):
    # A camera that sends neither depth nor camera_info is no cause for a warning here.
    robot = robot_here('sleeper', 'memory:=false', 'silent_topic_s:=0.0').ready()

    def status():
        found = [s for m in robot.received['/diagnostics'] for s in m.status if s.name == '/sleeper/model']
        return (found[-1].level, robot.diagnosis()) if found else (None, {})

    def idle_after(frames):
        """Show frames until so many have arrived and the node says that it is idle and well; return its diagnosis."""

        def reached():
            robot.show(time.time())
            robot.pause(0.1)
            # On a busy machine a warning about the rate may pass.
            level, values = status()
            idle = level == DiagnosticStatus.OK and values['message'].startswith('Idle: nobody subscribes')
            return idle and values['idle'] == 'yes' and int(values['frames_in']) >= frames and values

        robot.received['/diagnostics'].clear()
        return robot.ros.until(reached)

    values = idle_after(8)
    assert (values['frames_encoded'], values['frames_out'], values['memory_frames']) == ('0', '0', '0')

    last = robot.show(time.time()).stamp
    answer = robot.ros.until(lambda: (a := robot.ask('what is this?').answer).header.stamp == last and a)
    assert (answer.scope, answer.frames_used) == ('frame', 1)
    assert robot.ask('what is this?').answer.header.stamp == last
    robot.pause()
    late = robot.ask('what is this?', max_age_s=0.1)
    assert not late.success and late.message.startswith('The newest image is ')
    episode = robot.ask('What was done?', scope='episode')
    assert not episode.success and episode.message.startswith('The parameter memory is off, so nothing of the episode')
    robot.ros.until(lambda: robot.count('memory_off') == robot.count('too_old') == 1)
    encoded = int(status()[1]['frames_encoded'])
    assert encoded >= 1
    values = idle_after(int(status()[1]['frames_in']) + 4)
    assert (int(values['frames_encoded']), values['frames_out']) == (encoded, '0')

    masks, sent = [], []
    subscription = robot.node.create_subscription(Image, '/sleeper/model/segmentation/mask', masks.append, 1)
    robot.ros.until(lambda: (sent.append(stamp_ns(robot.show(time.time()).stamp)) or robot.pause()) or masks, 60)
    assert stamp_ns(masks[0].header.stamp) in sent
    robot.show_until(time.time(), lambda: status()[1].get('idle') == 'no')
    robot.ros.do(robot.node.destroy_subscription, subscription)
    values = idle_after(0)
    encoded = int(values['frames_encoded'])
    values = idle_after(int(values['frames_in']) + 8)
    assert int(values['frames_encoded']) == encoded
    assert int(values['frames_in']) >= int(values['frames_unneeded']) >= 8
    assert not [name for name in values if name.startswith('causes/rate')]


@pytest.fixture
def node(ros, request):
    given = [Parameter('model', value='tiny'), Parameter('memory', value=getattr(request, 'param', False))]
    node = ros.add(ModelNode(context=ros.context, namespace='robot', parameter_overrides=given))
    node.trigger_configure()
    node.trigger_activate()
    return node


def process(node, stamp, rgb=RGB):
    """Let the inference thread process a frame with a stamp in seconds."""
    header = Header(stamp=stamp_msg(stamp * 10**9), frame_id='lens')
    messages = PairedMessages(Pair(stamp * 10**9, to_image_msg(rgb, 'rgb8', header)), None, '')
    node.inference_thread.submit(lambda: node._process_frame(messages)).result(60)


def test_the_first_result_is_that_of_the_next_frame(ros, node):
    masks = []
    process(node, 1)
    ros.node('listener').create_subscription(Image, '/robot/model/segmentation/mask', masks.append, 1)
    ros.until(lambda: node._perception.wants_mask)
    process(node, 2)
    assert ros.until(lambda: masks)[0].header.stamp.sec == 2
    assert node.health.encoded == node.health.served.total == 1 and not node.health.idle


def test_an_image_that_cannot_be_read_leaves_the_last_good_one_to_the_question(node):
    process(node, 1)
    node.inference_thread.submit(node.observe_newest).result(60)
    message = to_image_msg(RGB, 'rgb8', Header())
    message.encoding = 'unheard_of'
    broken = PairedMessages(Pair(2, message), None, '')
    node.inference_thread.submit(lambda: node._process_frame(broken)).result(60)
    node.inference_thread.submit(node.observe_newest).result(60)
    assert node.session.newest.frame.stamp_ns == 10**9
    assert node.health.counters.snapshot() == {'unknown_encoding': 1}


@pytest.fixture
def calls(monkeypatch):
    """Names of the calls that concern the stream of actions, in order."""
    found = []

    def record(inner):
        @wraps(inner)
        def recorded(*args, **options):
            found.append(inner.__name__)
            return inner(*args, **options)

        monkeypatch.setattr(Engine, inner.__name__, recorded)

    for inner in (Engine.anticipate, Engine.follow, Engine.reset_actions):
        record(inner)
    return found


@pytest.mark.parametrize('node', [True], indirect=True)
def test_with_memory_actions_are_followed_unread_until_somebody_subscribes(ros, node, calls):
    actions = []
    calls.clear()
    process(node, 1)
    process(node, 2)
    assert calls == ['follow', 'follow']
    process(node, 100)
    assert node.health.counters.snapshot() == {'stream_gap': 1}
    ros.node('listener').create_subscription(ActionAnticipation, '/robot/model/anticipation', actions.append, 1)
    ros.until(lambda: node._anticipations.wanted)
    process(node, 101)
    assert calls == ['follow', 'follow', 'follow', 'anticipate']
    assert ros.until(lambda: actions)[0].header.stamp.sec == 101


def test_actions_are_anticipated_for_their_subscribers_and_begin_anew_with_the_first(ros, node, calls):
    calls.clear()
    listener, actions = ros.node('listener'), []
    listener.create_subscription(Image, '/robot/model/segmentation/mask', lambda _: None, 1)
    ros.until(lambda: node._perception.wants_mask)
    process(node, 1)
    assert calls == [] and node.health.served.total == 1
    kept = listener.create_subscription(ActionAnticipation, '/robot/model/anticipation', actions.append, 1)
    ros.until(lambda: node._anticipations.wanted)
    # More than the gap after which a stream counts a break.
    process(node, 100)
    process(node, 101)
    assert calls == ['reset_actions', 'anticipate', 'anticipate']
    assert node.health.counters.snapshot() == {}
    ros.do(listener.destroy_subscription, kept)
    ros.until(lambda: not node._anticipations.wanted)
    process(node, 102)
    assert len(calls) == 3
