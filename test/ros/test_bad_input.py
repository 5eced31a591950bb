"""Bad input is refused with a sentence and counted, and the node goes on, in a process of its own."""

import json
import shutil
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros.convert import stamp_msg, stamp_ns, to_image_msg
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.runtime.open_model import untrained
from m3et_ros.srv import AskQuestion


def image(**fields):
    """Return a good image message, except for the given fields."""
    message = to_image_msg(np.full((48, 64, 3), 90, np.uint8), 'rgb8', Header())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


BAD_COLOUR = {
    'empty_image': ({'height': 0, 'width': 0, 'step': 0, 'data': []}, 'holds no pixel'),
    'step_too_short': ({'step': 100}, 'has step 100'),
    'data_too_short': ({'data': [0] * 500}, 'has 500 bytes'),
    'unknown_encoding': ({'encoding': 'bayer_rggb17'}, 'bayer_rggb17'),
    'too_large': ({'height': 2**31, 'width': 2**31, 'step': 2**31}, 'claims 2147483648x2147483648'),
}


class Stream:
    """A camera whose stamps continue from one test to the next."""

    def __init__(self, robot):
        # Stamps follow the clock this many seconds late; older ones would be a cause of their own.
        self.robot, self.now, self.late = robot, 0.0, 0.0
        self.served = robot.listen(ActionAnticipation, 'anticipation')
        robot.ready()

    def stamp(self):
        self.now = max(self.now + 0.1, time.time() - self.late)
        return stamp_msg(round(self.now * 1e9))

    def send(self, message, publisher=None):
        message.header.stamp = self.stamp()
        (publisher or self.robot.rgb).publish(message)
        return stamp_ns(message.header.stamp)

    def serves(self):
        """Wait until an image sent now is served."""
        sent = set()

        def answered():
            sent.add(self.send(image()))
            time.sleep(0.1)
            return any(stamp_ns(m.header.stamp) in sent for m in list(self.served))

        self.robot.ros.until(answered, 60)

    def refused(self, reason, send, words):
        """Send until the node counts a refusal for this reason, and its last error has these words and a fix."""
        before = self.robot.count(reason)

        def counted():
            send()
            time.sleep(0.2)
            # Another complaint, such as that a busy node is slow, may stand there meanwhile.
            sentence = self.robot.diagnosis()['last_error']
            fixed = '; ' in sentence or ', so' in sentence
            return self.robot.count(reason) > before and fixed and all(word in sentence for word in words)

        self.robot.ros.until(counted)


@pytest.fixture(scope='module')
def shared(module_robot):
    """The camera of a node that the tests share: none of them may harm it."""
    return Stream(module_robot())


@pytest.fixture
def stream(shared):
    """That camera, with diagnostics that count all that came before."""
    shared.robot.received['/diagnostics'].clear()
    shared.robot.ros.until(shared.robot.diagnosis)
    return shared


def test_bad_images_are_refused_counted_and_survived(stream):
    stream.serves()
    for reason, (fields, words) in BAD_COLOUR.items():
        stream.refused(reason, lambda fields=fields: stream.send(image(**fields)), (words,))
        stream.serves()
    assert stream.robot.process.poll() is None


def test_bytes_that_are_no_image_are_refused_and_survived(stream):
    stream.serves()
    whole = serialize_message(image())
    for spoiled in (whole[:40], whole[:4] + b'\xff' * 60):
        stream.refused('message', lambda spoiled=spoiled: stream.robot.rgb.publish(spoiled), ('sensor_msgs/msg/Image',))
        stream.serves()
    assert stream.robot.process.poll() is None


def test_bad_depth_is_left_out_and_colour_goes_on(stream):
    stream.serves()

    def both(depth, encoding):
        message = to_image_msg(depth, encoding, Header())
        message.header.stamp = stamp_msg(stream.send(image()))
        stream.robot.depth.publish(message)

    small = np.full((24, 32), 1000, np.uint16)
    stream.refused('depth_size', lambda: both(small, '16UC1'), ('32x24', '64x48', 'align'))
    stream.serves()
    stream.refused('unknown_encoding', lambda: both(np.zeros((48, 64), np.uint8), 'mono8'), ('mono8',))
    both(np.full((48, 64), np.nan, np.float32), '32FC1')
    stream.serves()


def test_time_that_goes_back_and_encodings_that_change(stream):
    robot = stream.robot

    def back():
        return int(robot.diagnosis().get('synchroniser/stamp_back', 0))

    stream.serves()
    before, stream.now, stream.late = back(), 0.0, 90.0
    stream.serves()
    robot.ros.until(lambda: back() > before)
    stream.late = 0.0
    for encoding, channels in (('bgr8', 3), ('mono8', 1), ('rgba8', 4)):
        sent = stream.send(Image(height=4, width=4, encoding=encoding, step=4 * channels, data=bytes(16 * channels)))
        robot.ros.until(lambda sent=sent: any(stamp_ns(m.header.stamp) == sent for m in stream.served))


def test_bad_questions_are_refused(stream):
    stream.serves()
    ask, count = stream.robot.ask, stream.robot.count
    reasons = ('question_empty', 'question_long', 'scope_unknown', 'too_old')
    before = [count(reason) for reason in reasons]
    for question, words in (('', 'is empty'), ('  \n', 'is empty'), ('why ' * 262_144, 'at most 1000')):
        reply = ask(question)
        assert not reply.success and words in reply.message and len(reply.message) < 300
    reply = ask('what?', scope='universe')
    assert not reply.success and 'universe' in reply.message and '"frame" or "episode"' in reply.message
    assert not ask('what?', max_age_s=0.001).success
    assert ask('what is this?').success
    stream.robot.ros.until(lambda: count('too_old') > before[-1])
    assert [count(reason) - old for reason, old in zip(reasons, before)] == [2, 1, 1, 1]


def test_a_hundred_questions_at_once(stream):
    stream.serves()
    client = stream.robot.node.create_client(AskQuestion, '/robot/model/ask', qos_profile=QoSProfile(depth=200))
    stream.robot.ros.until(client.service_is_ready)
    futures = [client.call_async(AskQuestion.Request(question=f'question {n}?')) for n in range(100)]
    replies = [stream.robot.ros.until(future.result, 60) for future in futures]
    assert all(r.success or 'waiting' in r.message for r in replies)
    assert sum(r.success for r in replies) > 50
    stream.serves()


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / 'model', untrained('tiny', 7), card='# tiny')
    return tmp_path / 'model'


def remove(folder):
    shutil.rmtree(folder)


def truncate(folder):
    weights = folder / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-1000])


def change(folder):
    weights = folder / 'model.safetensors'
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def empty_config(folder):
    (folder / 'config.json').write_text(json.dumps({}))


def test_a_bad_model_folder_ends_a_node_that_starts_by_itself_with_the_reason(robot, folder):
    truncate(folder)
    robot = robot('bad', model=str(folder))
    robot.ros.until(lambda: robot.process.poll() is not None)
    code, output = robot.stop()
    assert code == 1 and 'The node cannot start: ' in output and 'cut short' in output and 'Traceback' not in output


@pytest.fixture
def failure(ros):
    """Start a node of this process by hand, which does not succeed; return the reason."""

    def start(**values):
        given = [Parameter(name, value=value) for name, value in {'model': 'tiny', **values}.items()]
        node = ros.add(ModelNode(context=ros.context, parameter_overrides=given))
        configured = node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert not (configured and node.trigger_activate() == TransitionCallbackReturn.SUCCESS)
        return node.health.failure

    return start


@pytest.mark.parametrize(
    'damage, words',
    [(remove, 'There is no'), (truncate, 'cut short'), (change, 'SHA-256'), (empty_config, 'config.json')],
)
def test_a_bad_model_folder_is_refused_with_the_reason(failure, folder, damage, words):
    damage(folder)
    assert words in failure(model=str(folder))


@pytest.mark.parametrize('device', ['abacus', 'cuda:99'])
def test_a_device_that_is_not_there_is_refused_with_the_reason(failure, device):
    sentence = failure(device=device)
    assert f'The device {device!r} cannot be used' in sentence and 'm3et doctor' in sentence


def test_a_lifecycle_manager_learns_the_reason_as_an_error_and_may_try_again(robot_here, tmp_path):
    robot = robot_here('managed', model=str(tmp_path / 'none'), autostart=False)
    change = robot.node.create_client(ChangeState, '/managed/model/change_state')
    robot.ros.until(change.service_is_ready, 60)
    for _ in range(2):
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        assert robot.ros.until(change.call_async(request).result, 60).success is False
    status = robot.ros.until(lambda: 'There is no model' in robot.diagnosis().get('message', '') and robot.diagnosis())
    assert status['state'] == 'unconfigured'
    newest = [s for array in robot.received['/diagnostics'] for s in array.status if s.name == '/managed/model'][-1]
    assert newest.level == DiagnosticStatus.ERROR


def test_a_good_model_folder_serves_under_its_name(robot_here, folder):
    stream = Stream(robot_here('good', model=str(folder)))
    stream.serves()
    assert stream.served[-1].model_id == 'tiny-random-7'
