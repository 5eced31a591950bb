"""The model node with real DDS and real messages: most tests share one node, which runs in its own process."""

import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from m3et_ros.data.checkpoints.m3et import save_checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.msg import ActionAnticipation, Answer, Instruction, LabelMap
from m3et_ros.ros.convert import stamp_msg, stamp_ns, to_image_msg
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.runtime.open_model import untrained
from m3et_ros.srv import LoadModel

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def metres(message):
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


class Camera:
    """A camera whose stamps go on from one test to the next."""

    def __init__(self, robot):
        self.robot, self.ros, self.newest_s = robot, robot.ros, 100.0
        self.served = robot.listen(ActionAnticipation, 'anticipation')
        self.resetting = robot.node.create_client(Trigger, f'/{robot.name}/model/reset_memory')
        robot.ready()
        self.ros.until(self.resetting.service_is_ready)

    def serve(self, messages=None, **images):
        """Show frames until one of them has a result on a topic; return the results of those shown, oldest first."""
        messages, sent, due = self.served if messages is None else messages, set(), 0.0

        def found():
            # A frame that is published before the processes have discovered each other is lost.
            nonlocal due
            if time.monotonic() >= due:
                self.newest_s += 0.1
                sent.add(stamp_ns(self.robot.show(self.newest_s, **images).stamp))
                due = time.monotonic() + 0.5
            return [message for message in list(messages) if stamp_ns(message.header.stamp) in sent]

        return self.ros.until(found)

    def begin(self):
        """Begin a new episode."""
        assert self.ros.until(self.resetting.call_async(Trigger.Request()).result).success


@pytest.fixture(scope='module')
def shared(module_robot):
    """The camera of a node in its own process, which the tests share; other robots need other names."""
    return Camera(module_robot('robot', 'memory_frames:=4'))


@pytest.fixture
def camera(shared):
    """That camera at the beginning of an episode."""
    shared.begin()
    return shared


def test_every_result_carries_the_header_of_its_image(camera):
    robot = camera.robot
    kinds = {
        'depth/image': Image,
        'segmentation/mask': Image,
        'segmentation/overlay': Image,
        'anticipation': ActionAnticipation,
    }
    results = {topic: robot.listen(kind, topic) for topic, kind in kinds.items()}
    labels = robot.listen(LabelMap, 'segmentation/labels', LATCHED)
    depth = np.full((48, 64), 1500, np.uint16)
    depth[:8], depth[8:16] = 0, 65535
    found = {topic: camera.serve(messages, depth=depth)[-1] for topic, messages in results.items()}
    assert {message.header.frame_id for message in found.values()} == {'camera_color_optical_frame'}

    def measured():
        # Until the first depth image arrives colour passes alone.
        image = metres(camera.serve(results['depth/image'], depth=depth)[-1])
        return image if np.isfinite(image).any() else None

    image = robot.ros.until(lambda: (image := measured()) is not None and [image])[0]
    # Untrained weights are never asked: what is below continues above.
    assert (image[16:] == 1.5).all()
    np.testing.assert_allclose(image[:16], 1.5, atol=1e-3)
    mask = found['segmentation/mask']
    assert (mask.encoding, mask.height, mask.width) == ('mono8', 48, 64)
    assert tuple(robot.ros.until(lambda: labels)[-1].names) == kitchen_labels().classes
    anticipation = found['anticipation']
    assert anticipation.model_id == 'tiny-random-0' and anticipation.horizon_s == 1.0
    assert len(anticipation.actions) == len(anticipation.current_verbs) == 5
    assert anticipation.latency_s > 0 and len(found['segmentation/overlay'].data) == 48 * 64 * 3


def test_depth_is_optional_and_holes_are_filled_when_asked(robot_here):
    robot = robot_here('filled', 'depth_fill:=always')
    images, camera = robot.listen(Image, 'depth/image'), Camera(robot)
    # The tiny model standardises depth by image: without measured depth there are no metres.
    assert np.isnan(metres(camera.serve(images)[-1])).all()
    depth = np.linspace(1, 2, 48 * 64, dtype=np.float32).reshape(48, 64)
    depth[:24] = np.nan
    robot.ros.until(lambda: np.isfinite(metres(camera.serve(images, depth=depth)[-1])).any())
    np.testing.assert_array_equal(metres(images[-1])[24:], depth[24:])
    assert np.isfinite(metres(images[-1])[:24]).any()


def test_camera_info_is_published_beside_the_depth(camera):
    robot = camera.robot
    infos, depth = robot.listen(CameraInfo, 'depth/camera_info'), robot.listen(Image, 'depth/image')
    publisher = robot.node.create_publisher(CameraInfo, '/robot/rgb/camera_info', 1)
    message = CameraInfo(height=48, width=64, k=[50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0])
    info = robot.ros.until(lambda: publisher.publish(message) or (camera.serve(depth) and infos))[0]
    assert info.k[0] == 50
    robot.ros.until(lambda: info.header in [image.header for image in list(depth)])


def test_questions_are_answered_while_frames_stream(camera):
    robot = camera.robot
    answers, replies = robot.listen(Answer, 'answer'), []
    camera.serve()

    def published():
        # What is published before the processes have discovered each other is lost.
        replies.append(robot.ask('Is there a cup in view?', top_k=3))
        robot.pause()
        return next((reply for reply in replies if reply.answer in answers), None)

    reply = robot.ros.until(published)
    assert reply.success and reply.message == ''
    answer = reply.answer
    assert answer.question == 'Is there a cup in view?' and answer.text in kitchen_labels().answers
    assert answer.text == answer.alternatives[0].label and len(answer.alternatives) == 3
    assert answer.confidence == answer.alternatives[0].score
    assert (answer.scope, answer.frames_used, answer.model_id) == ('frame', 1, 'tiny-random-0')


def test_episode_questions_rest_on_the_memory_until_it_is_reset(camera):
    stamps = [stamp_ns(message.header.stamp) for _ in range(6) for message in camera.serve()[-1:]]
    answer = camera.robot.ask('What was done?', scope='episode').answer
    assert 2 <= answer.frames_used <= 4
    assert stamp_ns(answer.span_start) <= stamps[0] and stamp_ns(answer.header.stamp) >= stamps[-1]
    # A frame that is still on its way belongs to the next episode.
    camera.ros.until(lambda: camera.begin() or not camera.robot.ask('What was done?', scope='episode').success)


def test_an_image_in_the_request_is_answered_without_a_stream(camera):
    image = Image(height=2, width=2, encoding='bgr8', step=6, data=bytes(12))
    image.header.frame_id = 'hand'
    reply = camera.robot.ask('what is this?', image=image)
    assert reply.success and reply.answer.header.frame_id == 'hand'
    image.step = 3
    reply = camera.robot.ask('what is this?', image=image)
    assert not reply.success and 'step' in reply.message


def test_a_standing_instruction_is_answered_for_every_frame(camera):
    robot = camera.robot
    answers = robot.listen(Answer, 'answer')
    text = robot.node.create_publisher(String, '/robot/instruction/text', 1)
    stamped = robot.node.create_publisher(Instruction, '/robot/instruction', 1)
    hand, cup = String(data='what is in the hand?'), Instruction(text='where is the cup?')
    robot.ros.until(lambda: text.publish(hand) or (camera.serve() and any(a.question == hand.data for a in answers)))
    # Ten frames later.
    since_ns = round((camera.newest_s + 1) * 1e9)
    cup.header.stamp = stamp_msg(since_ns)
    robot.ros.until(lambda: stamped.publish(cup) or (camera.serve() and any(a.question == cup.text for a in answers)))
    assert all(stamp_ns(a.header.stamp) >= since_ns for a in answers if a.question == cup.text)


def test_lifecycle_by_hand(robot_here):
    robot = robot_here('slow_starter', autostart=False)
    change = robot.node.create_client(ChangeState, '/slow_starter/model/change_state')
    state = robot.node.create_client(GetState, '/slow_starter/model/get_state')

    def go(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert robot.ros.until(change.call_async(request).result, 60).success
        return robot.ros.until(state.call_async(GetState.Request()).result).current_state.label

    robot.ros.until(lambda: all(c.service_is_ready() for c in (change, state, robot.asker)), 60)
    assert 'not active' in robot.ask('anybody there?').message
    assert go(Transition.TRANSITION_CONFIGURE) == 'inactive'
    for start_s in (100.0, 200.0):
        assert go(Transition.TRANSITION_ACTIVATE) == 'active'
        camera = Camera(robot)
        camera.newest_s = start_s
        camera.serve()
        assert go(Transition.TRANSITION_DEACTIVATE) == 'inactive'
    assert 'not active' in robot.ask('anybody there?').message
    assert go(Transition.TRANSITION_CLEANUP) == 'unconfigured'


def test_two_robots_do_not_receive_each_others_images(robot_here):
    left, right = Camera(robot_here('left')), Camera(robot_here('right'))
    left.newest_s, right.newest_s = 10.0, 50.0
    left.serve()
    assert not right.served
    right.serve()
    assert all(m.header.stamp.sec < 50 for m in left.served) and all(m.header.stamp.sec >= 50 for m in right.served)


def test_every_frame_is_served_while_another_model_is_loaded_and_the_newest_stays(robot_here, monkeypatch, tmp_path):
    other = tmp_path / 'other'
    save_checkpoint(other, untrained('tiny', 1), card='# other')
    robot = robot_here('student')
    camera, gate, load = Camera(robot), threading.Event(), ModelNode._load
    camera.serve()

    def slowly(self, name):
        assert gate.wait(60)
        return load(self, name)

    monkeypatch.setattr(ModelNode, '_load', slowly)
    client = robot.node.create_client(LoadModel, '/student/model/load_model')
    robot.ros.until(client.service_is_ready)
    loading = client.call_async(LoadModel.Request(model=str(other)))
    assert {camera.serve()[-1].model_id for _ in range(10)} == {'tiny-random-0'}
    gate.set()
    while not loading.done():
        camera.serve()
    loaded = loading.result()
    assert (loaded.success, loaded.model_id) == (True, 'tiny-random-1'), loaded.message
    newest_ns = stamp_ns(camera.served[-1].header.stamp)
    response = robot.ask('Is there a cup in view?')  # about a frame that was shown before the new model came
    assert response.success, response.message
    assert response.answer.model_id == 'tiny-random-1' and stamp_ns(response.answer.header.stamp) >= newest_ns
    assert camera.serve()[-1].model_id == 'tiny-random-1'


def test_a_new_model_compares_its_first_frame_as_the_parameter_says():
    compared = []
    session = SimpleNamespace(
        domain_every=10,
        observe=lambda frame: compared.append((session.domain_every, frame)),
        engine=SimpleNamespace(start_build=lambda: None),
    )
    node = SimpleNamespace(
        session=SimpleNamespace(newest=SimpleNamespace(frame='newest')),
        settings=SimpleNamespace(domain_check=0),
        _report_model=lambda: None,
        _publish_labels=lambda: None,
    )
    ModelNode._swap_session(node, session)
    assert compared == [(0, 'newest')] and node.session is session


def test_images_of_a_best_effort_camera_arrive(robot_here):
    robot = robot_here('careless')
    best_effort = robot.node.create_publisher(Image, '/careless/rgb/image_raw', qos_profile_sensor_data)
    robot.ros.until(best_effort.get_subscription_count, 60)
    robot.rgb = best_effort
    Camera(robot).serve()


def test_an_impatient_second_signal_ends_the_node_in_order_too(robot):
    """The first signal alone is SIGTERM in the test of depth that never pairs."""
    robot = robot('impatient')
    Camera(robot).serve()
    robot.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    code, output = robot.stop(signal.SIGINT)
    assert code == 0 and 'Traceback' not in output, output


def test_a_refused_parameter_is_a_sentence(robot_here):
    """That a node whose making is refused ends with exit code 1 is a test of test_process.py."""
    with pytest.raises(InputError, match=r'top_k is 0; give 1\.\.50'):
        robot_here('wrong', 'top_k:=0')


def test_depth_that_never_pairs_is_named_and_nothing_is_invented_for_it(robot):
    """Depth is stamped 60 ms after colour; the completed depth is empty and not a guess of the model."""
    robot = robot('unpaired', 'depth_fill:=always').ready()
    completed, depth = robot.listen(Image, 'depth/image'), np.full((48, 64), 1500, np.uint16)

    def show():
        stamp = time.time()
        late = Header(stamp=stamp_msg(round((stamp + 0.06) * 1e9)), frame_id='camera_color_optical_frame')
        robot.depth.publish(to_image_msg(depth, '16UC1', late))
        robot.show(stamp)
        return robot.pause(0.15)

    cause = robot.ros.until(lambda: show() or robot.diagnosis().get('causes/depth_unpaired'), 60)
    assert 'ms after colour' in cause and 'sync_slop_s' in cause
    robot.ros.until(lambda: show() or int(robot.diagnosis()['frames_without_depth']) > 3)
    newest = np.frombuffer(bytes(completed[-1].data), np.float32)
    assert newest.size == 48 * 64 and np.isnan(newest).all()
    code, output = robot.stop(signal.SIGTERM)
    assert code == 0 and 'Traceback' not in output, output
    assert output.count('colour images got no depth') == 1


def test_a_parameter_file_for_another_node_is_named(robot_here, monkeypatch, tmp_path):
    (tmp_path / 'other.yaml').write_text('model_node: {ros__parameters: {top_k: 3}}')
    monkeypatch.setattr(sys, 'argv', ['model_node', '--ros-args', '--params-file', str(tmp_path / 'other.yaml')])
    robot = robot_here('mistaken', autostart=False)
    assert '(/model_node)' in robot.ros.until(lambda: robot.diagnosis().get('causes/parameter_file'))
    assert "'/mistaken/model:'" in robot.diagnosis()['causes/parameter_file']


def test_diagnostics_name_model_state_and_kernels(camera):
    robot = camera.robot
    camera.serve()
    status = robot.ros.until(lambda: robot.diagnosis().get('frames_out', '0') != '0' and robot.diagnosis())
    assert status['model_id'] == 'tiny-random-0' and status['state'] == 'active'
    assert status['kernel/ssd'].startswith('chunked') and float(status['age_s/p50']) != 0
    # The frames are stamped in 1970.
    cause = robot.ros.until(lambda: camera.serve() and robot.diagnosis().get('causes/stamp_old'))
    assert 's old when they arrive' in cause
    assert DiagnosticStatus.WARN in {s.level for a in robot.received['/diagnostics'] for s in a.status}


def test_adaptive_tokens_encode_less_of_a_still_scene_and_diagnostics_say_so(robot_here):
    robot = robot_here('adaptive', 'tokens:=adaptive', 'runtime:=torch')
    camera = Camera(robot)
    camera.serve()
    assert robot.diagnosis().get('tokens_encoded', 'nan') in ('nan', '1')
    status = robot.ros.until(
        lambda: camera.serve() and float(robot.diagnosis().get('tokens_encoded', 1)) < 1 and robot.diagnosis()
    )
    assert status['tokens'] == 'adaptive' and float(status['tokens_encoded']) > 0


def test_going_up_and_down_leaves_no_thread_and_no_file_open(ros):
    # Not on the executor: this test is about what the transitions leave, and they run on this thread.
    node = ModelNode(context=ros.context, namespace='yoyo', parameter_overrides=[Parameter('model', value='tiny')])
    process = psutil.Process()

    def cycle():
        steps = (node.trigger_configure, node.trigger_activate, node.trigger_deactivate, node.trigger_cleanup)
        assert [step() for step in steps] == [TransitionCallbackReturn.SUCCESS] * 4
        return process.num_threads(), process.num_fds()

    cycle()
    first = cycle()
    assert [cycle() for _ in range(3)] == [first] * 3
    assert node.session is None and node.inference_thread is None
    node.destroy_node()


def test_a_runtime_that_cannot_serve_is_replaced_by_torch_and_reported(robot_here):
    robot = robot_here('without_cuda', 'runtime:=cuda', 'device:=cpu')
    runtime = robot.ros.until(lambda: robot.diagnosis().get('runtime'))
    assert runtime.startswith('torch (cuda cannot serve')
    assert robot.count('runtime_fallback') == 1
