"""Messages become pairs with header, intrinsics and instruction; every parameter of the inputs arrives."""

import dataclasses
import threading
import time
import traceback
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String

from m3et_ros import ros as ros_package
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.compressed import encode_depth, encode_rgb
from m3et_ros.msg import Instruction
from m3et_ros.ros import parameters
from m3et_ros.ros.camera import sync
from m3et_ros.ros.camera.subscription import latched
from m3et_ros.ros.camera.sync import Pair, Synchroniser
from m3et_ros.ros.camera_inputs import CameraInputs, Instructions, PairedMessages
from m3et_ros.ros.convert import stamp_msg, stamp_ns, to_image_msg
from m3et_ros.ros.environment import Trouble
from m3et_ros.ros.health import Health
from m3et_ros.ros.host import Host
from m3et_ros.ros.inference_thread import InferenceThread
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.runtime.engine import Engine

HEADER = Header(stamp=stamp_msg(5), frame_id='camera')
RGB = np.full((20, 30, 3), 128, np.uint8)
DEPTH = np.full((20, 30), 1.5, np.float32)
SECOND = 10**9


def compressed(encoded):
    kind, data = encoded
    return CompressedImage(header=HEADER, format=kind, data=list(data))


def sample(rgb, depth=None):
    return PairedMessages(Pair(5, rgb, depth), None, 'look at the cup')


@pytest.mark.parametrize(
    'rgb, depth',
    [
        (to_image_msg(RGB, 'rgb8', HEADER), to_image_msg(DEPTH, '32FC1', HEADER)),
        (compressed(encode_rgb(RGB)), compressed(encode_depth(DEPTH))),
    ],
    ids=['raw', 'compressed'],
)
def test_raw_and_compressed_pairs_become_frames(rgb, depth):
    frame, problem = sample(rgb, depth).decode()
    assert problem is None and (frame.stamp_ns, frame.frame_id, frame.instruction) == (5, 'camera', 'look at the cup')
    assert abs(frame.rgb.astype(int) - 128).max() <= 2
    np.testing.assert_allclose(frame.depth, DEPTH)


def test_depth_that_does_not_fit_is_left_out_with_the_reason():
    frame, problem = sample(to_image_msg(RGB, 'rgb8', HEADER), compressed(encode_depth(DEPTH[:10]))).decode()
    assert frame.depth is None and problem.reason == 'depth_size'


def test_the_reason_of_the_synchroniser_passes_on():
    reason = InputError('depth_size', 'why')
    messages = PairedMessages(Pair(5, to_image_msg(RGB, 'rgb8', HEADER), error=reason), None, '')
    frame, problem = messages.decode()
    assert frame.depth is None and problem is reason


def test_colour_that_cannot_be_decoded_is_refused():
    message = to_image_msg(RGB, 'rgb8', HEADER)
    message.step = 7
    with pytest.raises(InputError) as refused:
        sample(message).decode()
    assert refused.value.reason == 'step_too_short'


def test_instructions_hold_from_their_stamp_until_the_next():
    instructions = Instructions(' at first ')
    instructions.add(100, 'then')
    instructions.add(200, ' at last ')
    holding = [instructions.at(t) for t in (0, 99, 100, 199, 200, 10**18)]
    assert holding == ['at first', 'at first', 'then', 'then', 'at last', 'at last']


def test_of_two_instructions_with_one_stamp_the_later_one_holds():
    instructions = Instructions('')
    instructions.add(100, 'z')
    instructions.add(100, 'a')
    assert instructions.at(100) == 'a'


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
    assert instructions.at(99) == '99' and instructions.at(96) == '96' and instructions.at(95) == ''


class Bench:
    """Camera inputs on a real node whose inference thread collects what it gets, and a camera."""

    def __init__(self, ros, **settings):
        self.ros, self.processed = ros, []
        self.host = ros.add(
            Host(
                'model',
                namespace='robot',
                context=ros.context,
                parameter_overrides=[Parameter(name, value=value) for name, value in settings.items()],
            )
        )
        self.host.settings = parameters.declare(self.host)
        self.host.health = Health(self.host.get_logger())
        self.host.inference_thread = InferenceThread(self.processed.append)
        self.inputs = CameraInputs(self.host)
        self.camera = ros.node('camera', namespace='robot')
        self.publishers = {}
        self.inputs.start()

    def topics(self):
        return {s.topic_name.removeprefix('/robot/'): s.qos_profile for s in self.host.subscriptions}

    def publish(self, kind, topic, message):
        if topic not in self.publishers:
            self.publishers[topic] = self.camera.create_publisher(kind, topic, 1)
            self.ros.until(self.publishers[topic].get_subscription_count)
        self.publishers[topic].publish(message)

    def show(self, stamp):
        image = to_image_msg(RGB, 'rgb8', Header(stamp=stamp_msg(stamp), frame_id='lens'))
        self.publish(Image, 'rgb/image_raw', image)

    def close(self):
        self.ros.do(self.inputs.stop)
        self.host.inference_thread.close()


@pytest.fixture
def bench(ros):
    benches = []

    def start(**settings):
        benches.append(Bench(ros, **settings))
        return benches[-1]

    yield start
    for one in benches:
        one.close()


def test_a_pair_reaches_the_inference_thread_with_all_that_belongs_to_it(ros, bench):
    bench = bench(depth_wait_s=10.0)
    info = CameraInfo(height=20, width=30, k=[float(n) for n in range(9)])
    bench.publish(CameraInfo, 'rgb/camera_info', info)
    instruction = Instruction(header=Header(stamp=stamp_msg(6 * SECOND)), text=' find the cup ')
    bench.publish(Instruction, 'instruction', instruction)
    ros.until(lambda: bench.inputs.instructions.at(6 * SECOND) == 'find the cup')
    depth = to_image_msg(DEPTH, '32FC1', Header(stamp=stamp_msg(7 * SECOND)))
    bench.publish(Image, 'depth/image_raw', depth)
    ros.until(lambda: bench.inputs.sync.waiting == (0, 1))
    # Depth of a later stamp cannot be nearer, so the pair waits for nothing.
    bench.show(7 * SECOND - 1)
    messages = ros.until(lambda: bench.processed)[0]
    assert messages.header == Header(stamp=stamp_msg(7 * SECOND - 1), frame_id='lens')
    assert (messages.info, messages.instruction) == (info, 'find the cup')
    pair = messages.pair
    assert (pair.stamp_ns, pair.depth_stamp_ns, pair.error) == (7 * SECOND - 1, 7 * SECOND, None)
    frame, problem = messages.decode()
    assert problem is None and np.array_equal(frame.rgb, RGB) and np.array_equal(frame.depth, DEPTH)
    assert bench.host.health.arrived.total == 1, 'frames_in counts colour'


def test_a_frame_that_a_newer_one_replaces_is_counted(ros, bench):
    bench, begun, release = bench(), threading.Event(), threading.Event()
    bench.host.inference_thread.submit(lambda: begun.set() or release.wait(60))
    assert begun.wait(60)
    for n in range(1, 4):
        bench.show(n * SECOND)
        ros.until(lambda n=n: bench.host.health.arrived.total == n)
    ros.until(lambda: bench.host.health.counters['frame_superseded'] == 2)
    release.set()
    assert stamp_ns(ros.until(lambda: bench.processed)[0].header.stamp) == 3 * SECOND


@pytest.mark.parametrize('topic', ['rgb/image_raw', 'depth/image_raw'])
def test_bytes_that_are_no_message_are_refused_and_counted(ros, bench, topic):
    bench = bench()
    bench.publish(Image, topic, b'\0\1\0\0' + b'\xff' * 60)
    ros.until(lambda: bench.host.health.counters['message'] == 1)
    assert bench.host.health.arrived.total == 0
    bench.show(SECOND)
    ros.until(lambda: bench.processed)


@pytest.mark.parametrize(
    ('kind', 'topic'), [(Instruction, 'instruction'), (String, 'instruction/text'), (CameraInfo, 'rgb/camera_info')]
)
def test_damaged_bytes_on_every_other_topic_are_refused_and_counted_too(ros, bench, kind, topic):
    bench = bench()
    bench.publish(kind, topic, b'\0\1\0\0' + b'\xff' * 60)
    ros.until(lambda: bench.host.health.counters['message'] == 1)
    bench.publish(kind, topic, kind())
    bench.show(SECOND)
    assert ros.until(lambda: bench.processed)[0].instruction == ''


TOPICS = {'instruction', 'instruction/text', 'rgb/camera_info'}


@pytest.mark.parametrize(
    'rgb, depth, expected',
    [
        ('auto', 'auto', {'rgb/image_raw', 'depth/image_raw'}),
        ('raw', 'raw', {'rgb/image_raw', 'depth/image_raw'}),
        ('compressed', 'compressedDepth', {'rgb/image_raw/compressed', 'depth/image_raw/compressedDepth'}),
        ('compressed', 'none', {'rgb/image_raw/compressed'}),
        ('raw', 'compressed', {'rgb/image_raw', 'depth/image_raw/compressed'}),
    ],
)
def test_each_transport_opens_its_topic(bench, rgb, depth, expected):
    assert set(bench(rgb_transport=rgb, depth_transport=depth).topics()) == TOPICS | expected


def test_auto_follows_the_camera_to_the_compressed_topics(ros, bench):
    bench = bench()
    bench.camera.create_publisher(CompressedImage, 'rgb/image_raw/compressed', 1)
    bench.camera.create_publisher(CompressedImage, 'depth/image_raw/compressedDepth', 1)
    expected = TOPICS | {'rgb/image_raw/compressed', 'depth/image_raw/compressedDepth'}
    ros.until(lambda: set(bench.topics()) == expected)


def test_depth_of_the_compressed_transport_alone_is_followed_and_decoded(ros, bench):
    bench = bench()
    stored = cv2.imencode('.png', np.full((20, 30), 1500, np.uint16))[1].tobytes()
    header = Header(stamp=stamp_msg(7 * SECOND))
    message = CompressedImage(header=header, format='16UC1; png compressed ', data=list(stored))
    publisher = bench.camera.create_publisher(CompressedImage, 'depth/image_raw/compressed', 1)
    ros.until(publisher.get_subscription_count)
    publisher.publish(message)
    ros.until(lambda: bench.inputs.sync.waiting == (0, 1))
    bench.show(7 * SECOND)
    frame, problem = ros.until(lambda: bench.processed)[0].decode()
    assert problem is None and (frame.depth == 1.5).all()


@pytest.mark.parametrize(
    'name, policy', [('best_effort', ReliabilityPolicy.BEST_EFFORT), ('reliable', ReliabilityPolicy.RELIABLE)]
)
def test_the_reliability_arrives_at_every_subscription(bench, name, policy):
    bench = bench(reliability=name)
    assert {profile.reliability for profile in bench.topics().values()} == {policy}


def test_the_slop_arrives(bench):
    pairs = bench(sync_slop_s=0.3, depth_wait_s=0.0).inputs.sync
    pairs.add_depth(SECOND, 'depth')
    assert pairs.add_rgb(SECOND + 300_000_000, 'colour').depth == 'depth'
    pairs.add_depth(3 * SECOND, 'depth')
    assert pairs.add_rgb(3 * SECOND + 300_000_001, 'colour').depth is None


def test_the_wait_for_depth_arrives(ros, bench):
    bench = bench(depth_wait_s=0.4)
    bench.inputs.sync.add_depth(SECOND, 'depth')
    bench.show(3 * SECOND)
    ros.until(lambda: bench.inputs.sync.waiting[0] == 1)
    assert not bench.processed
    # The wait thread ends the wait; no message comes to do so.
    ros.until(lambda: bench.processed)
    assert bench.processed[0].pair.depth is None and bench.inputs.sync.counts['depth_stalled'] == 1


@pytest.mark.parametrize('stall, depth', [('leave_out', None), ('reuse', 'depth'), ('wait', 'no pair')])
def test_the_policy_for_stalled_depth_arrives(bench, stall, depth):
    pairs = bench(depth_stall=stall, depth_wait_s=0.0).inputs.sync
    pairs.add_depth(SECOND, 'depth')
    pair = pairs.add_rgb(3 * SECOND, 'colour')
    assert (pair.depth if pair else 'no pair') == depth


def test_the_standing_instruction_arrives_and_a_text_replaces_it(ros, bench):
    bench = bench(instruction='find the pan')
    assert bench.inputs.instructions.at(1) == 'find the pan'
    bench.publish(String, 'instruction/text', String(data='find the lid'))
    ros.until(lambda: bench.inputs.instructions.at(1) == 'find the lid')


def test_an_instruction_of_the_longest_length_is_accepted_and_a_longer_one_refused(ros, bench):
    bench = bench(max_question_chars=6)
    bench.publish(String, 'instruction/text', String(data='longer!'))
    ros.until(lambda: 'has 7 characters and at most 6 are read' in bench.host.health.last_error)
    assert bench.host.health.counters['instruction_long'] == 1
    bench.publish(String, 'instruction/text', String(data='enough'))
    ros.until(lambda: bench.inputs.instructions.at(1) == 'enough')
    bench.host.settings = dataclasses.replace(bench.host.settings, max_question_chars=7)
    bench.publish(String, 'instruction/text', String(data='longer!'))
    ros.until(lambda: bench.inputs.instructions.at(1) == 'longer!')
    assert bench.host.health.counters['instruction_long'] == 1


def test_silence_of_the_colour_topic_is_reported_after_the_time_set_and_ends_with_a_message(ros, bench):
    warnings = []
    ros.read_log(lambda m: warnings.append(m.msg))
    bench = bench(silent_topic_s=0.0)
    bench.show(SECOND)
    ros.until(lambda: bench.processed)
    bench.host.settings = dataclasses.replace(bench.host.settings, silent_topic_s=0.7)
    sentence = ros.until(lambda: [w for w in warnings if 'has arrived' in w])[0]
    assert 'sensor_msgs/msg/Image has arrived on /robot/rgb/image_raw for ' in sentence and 'any more' in sentence
    assert 0.7 <= float(sentence.split(' for ')[1].split()[0]) < 5
    assert sentence in bench.host.health.causes['rgb_silent']
    bench.host.settings = dataclasses.replace(bench.host.settings, silent_topic_s=600.0)
    ros.until(lambda: 'rgb_silent' not in bench.host.health.causes)


def test_a_depth_topic_on_which_nothing_comes_is_named_with_the_way_to_do_without(ros, bench):
    silent, without = bench(silent_topic_s=0.7), bench(silent_topic_s=0.7, depth_transport='none')
    sentence = ros.until(lambda: silent.host.health.causes.get('depth_silent'))
    assert '/robot/depth/image_raw' in sentence and sentence.endswith('none if the camera has no depth.')
    ros.until(lambda: 'rgb_silent' in without.host.health.causes)
    assert 'depth_silent' not in without.host.health.causes
    depth = to_image_msg(DEPTH, '32FC1', Header(stamp=stamp_msg(SECOND)))
    silent.host.settings = dataclasses.replace(silent.host.settings, silent_topic_s=3.0)
    ros.until(
        lambda: silent.publish(Image, 'depth/image_raw', depth) or 'depth_silent' not in silent.host.health.causes
    )


def test_a_camera_without_depth_is_not_asked_for_camera_info(ros, bench):
    full, colour = bench(silent_topic_s=0.7), bench(silent_topic_s=0.7, depth_transport='none')
    stamps = iter(range(1, 10_000))
    ros.until(lambda: full.show(next(stamps)) or 'camera_info_missing' in full.host.health.causes)
    ros.until(lambda: colour.processed)
    # By the time that it reports silence it has judged everything else.
    ros.until(lambda: 'rgb_silent' in colour.host.health.causes)
    assert 'camera_info_missing' not in colour.host.health.causes


def test_silence_may_come_from_the_shared_memory_of_another_user(ros, bench, monkeypatch):
    trouble = Trouble('nodes of another user (eve) have shared memory', 'start all nodes as one user')
    monkeypatch.setattr('m3et_ros.ros.camera_inputs.foreign_shared_memory', lambda: trouble)
    bench = bench(silent_topic_s=0.7)
    sentence = ros.until(lambda: bench.host.health.causes.get('rgb_silent'))
    assert sentence.startswith('No sensor_msgs/msg/Image has arrived on /robot/rgb/image_raw')
    assert sentence.endswith('. Besides, nodes of another user (eve) have shared memory; start all nodes as one user.')


def test_the_topic_of_colour_is_not_offered_as_depth(ros, bench):
    bench = bench(silent_topic_s=0.7)
    bench.show(SECOND)
    sentence = ros.until(lambda: bench.host.health.causes.get('depth_silent'))
    assert 'nobody publishes it' in sentence and 'remap' not in sentence


def test_a_latched_camera_info_and_instruction_arrive_late(ros, bench):
    camera = ros.node('latched', namespace='robot')
    info = camera.create_publisher(CameraInfo, 'rgb/camera_info', latched())
    info.publish(CameraInfo(height=20, width=30))
    camera.create_publisher(String, 'instruction/text', latched()).publish(String(data='find the lid'))
    ros.until(lambda: camera.count_publishers('/robot/instruction/text'))
    bench = bench()
    ros.until(lambda: bench.inputs.instructions.at(1) == 'find the lid')
    stamps = iter(range(1, 10_000))
    messages = ros.until(lambda: bench.show(next(stamps)) or [m for m in bench.processed if m.info is not None])
    assert messages[0].info.width == 30


def test_what_does_not_fit_reaches_the_health_of_the_node_and_is_withdrawn(ros, bench):
    """Colour is stamped an hour ago, depth 60 ms later; both come ten times a second."""
    bench, old = bench(), time.time_ns() - 3600 * SECOND
    for number in range(1, 400):
        stamp = old + number * SECOND // 10
        depth = Header(stamp=stamp_msg(stamp + 60_000_000), frame_id='lens')
        bench.publish(Image, 'depth/image_raw', to_image_msg(DEPTH, '32FC1', depth))
        bench.show(stamp)
        time.sleep(0.1)
        causes = bench.host.health.causes
        newest = bench.processed[-3:]
        if {'stamp_old', 'depth_unpaired'} <= set(causes) and all(messages.depth_comes for messages in newest):
            break
    assert '3600 s old' in causes['stamp_old'] and '/robot/rgb/image_raw' in causes['stamp_old']
    assert '60 ms after' in causes['depth_unpaired'] and 'sync_slop_s, which is 0.02' in causes['depth_unpaired']
    assert len(newest) == 3 and all(messages.depth_comes for messages in newest)
    ros.until(lambda: not {'stamp_old', 'depth_unpaired'} & set(bench.host.health.causes))


def test_the_unit_of_depth_arrives_at_the_decoders(ros, bench):
    bench = bench(depth_unit_m=0.0001)
    assert not bench.inputs.sync.any_depth
    for stamp, live in ((7 * SECOND, 0.0001), (8 * SECOND, 0.002)):
        bench.host.settings = dataclasses.replace(bench.host.settings, depth_unit_m=live)
        depth = to_image_msg(np.full((20, 30), 15000, np.uint16), '16UC1', Header(stamp=stamp_msg(stamp)))
        bench.inputs.sync.add_depth(stamp, depth)
        bench.show(stamp)
        messages = ros.until(lambda s=stamp: [m for m in bench.processed if m.pair.stamp_ns == s])[0]
        np.testing.assert_allclose(messages.decode()[0].depth, 15000 * live, rtol=1e-6)
    packed = compressed(encode_depth(DEPTH))
    frame, _ = PairedMessages(Pair(5, to_image_msg(RGB, 'rgb8', HEADER), packed), None, '', depth_unit_m=0.01).decode()
    np.testing.assert_allclose(frame.depth, 15.0, rtol=1e-6)


@pytest.mark.parametrize('height,fits', [(20, True), (40, False), (0, True)])
def test_intrinsics_of_another_size_are_not_passed_on(height, fits):
    info = CameraInfo(height=height, width=30 if height else 0)
    messages = PairedMessages(Pair(5, to_image_msg(RGB, 'rgb8', HEADER)), info, '')
    assert (messages.info_for(RGB.shape) is info) is fits
    assert PairedMessages(messages.pair, None, '').info_for(RGB.shape) is None
    info.k = [50.0, 0.0, 14.5, 0.0, 60.0, 9.5, 0.0, 0.0, 1.0]
    K = messages.decode()[0].K
    assert np.array_equal(K, np.reshape(info.k, (3, 3))) if fits else K is None


def test_stopping_closes_everything_and_starting_again_works(ros, bench):
    bench = bench()
    bench.show(SECOND)
    ros.until(lambda: len(bench.processed) == 1)
    timers = len(list(bench.host.timers))
    bench.host.health.set_cause('depth_silent', 'Nothing comes.')
    ros.do(bench.inputs.stop)
    assert bench.host.health.causes == {}
    assert not bench.topics() and len(list(bench.host.timers)) == timers - 1
    assert not [t for t in threading.enumerate() if t.name == 'wait_thread']
    bench.inputs.start()
    ros.until(lambda: bench.show(2 * SECOND) or len(bench.processed) > 1)


def test_a_frame_passes_the_files_named_in_the_package_docstring(ros, monkeypatch):
    folder, passed = Path(ros_package.__file__).parent, []

    def record(owner, name):
        inner = getattr(owner, name)

        def recorded(*args, **kwargs):
            stack = [Path(entry.filename) for entry in traceback.extract_stack()]
            passed.extend(str(f.relative_to(folder)) for f in stack if f.is_relative_to(folder))
            return inner(*args, **kwargs)

        monkeypatch.setattr(owner, name, recorded)

    node = ModelNode(context=ros.context, parameter_overrides=[Parameter('model', value='tiny')])
    ros.add(node)
    node.trigger_configure()
    for owner, name in ((Synchroniser, 'add_rgb'), (sync, 'Pair'), (InferenceThread, 'offer'), (Engine, 'encode')):
        record(owner, name)
    node.trigger_activate()
    camera = ros.node('camera').create_publisher(Image, 'rgb/image_raw', 1)
    ros.until(camera.get_subscription_count)
    camera.publish(to_image_msg(RGB, 'rgb8', HEADER))
    ros.until(lambda: node.health.served.total)
    files = list(dict.fromkeys(passed))
    assert len(files) == 5
    places = [ros_package.__doc__.index(f'. {file}') for file in files]
    assert places == sorted(places), files
