"""The model node in its own process, with real DDS and real messages."""

import signal
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

from m3et_ros.data.kitchen.labels import kitchen_labels
from m3et_ros.msg import ActionAnticipation, Answer, Instruction, LabelMap
from m3et_ros.ros.convert import stamp_msg, stamp_ns, to_image_msg
from m3et_ros.ros.model_node import ModelNode
from m3et_ros.srv import LoadModel

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def metres(message):
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def show_until_served(robot, messages, stamp=100.0, **images):
    """Publish frames until a new result arrives; return the stamps that were sent."""
    sent, before, due = [], len(messages), 0.0

    def more():
        # Results published before the processes have discovered each other are lost, so show frames repeatedly.
        nonlocal due
        if time.monotonic() >= due:
            sent.append(stamp_ns(robot.show(stamp + len(sent) / 10, **images).stamp))
            due = time.monotonic() + 0.2
        return len(messages) > before

    robot.ros.until(more, 30)
    return sent


def test_every_result_carries_the_header_of_its_image(robot):
    robot = robot()
    kinds = {
        'depth/image': Image,
        'segmentation/mask': Image,
        'segmentation/overlay': Image,
        'anticipation': ActionAnticipation,
    }
    results = {topic: robot.listen(kind, topic) for topic, kind in kinds.items()}
    labels = robot.listen(LabelMap, 'segmentation/labels', LATCHED)
    robot.ready()
    depth = np.full((48, 64), 1500, np.uint16)
    depth[:8], depth[8:16] = 0, 65535
    sent = show_until_served(robot, results['anticipation'], depth=depth)
    for topic, messages in results.items():
        message = robot.ros.until(lambda messages=messages: messages and messages[-1], 20)
        assert stamp_ns(message.header.stamp) in sent, topic
        assert message.header.frame_id == 'camera_color_optical_frame', topic
    # Until the first depth image arrives colour passes alone.
    robot.ros.until(
        lambda: (
            show_until_served(robot, results['depth/image'], depth=depth)
            and np.isfinite(metres(results['depth/image'][-1])).any()
        )
    )
    image = metres(results['depth/image'][-1])
    # Untrained weights are never asked: what is below continues above.
    assert (image[16:] == 1.5).all()
    np.testing.assert_allclose(image[:16], 1.5, atol=1e-3)
    mask = results['segmentation/mask'][-1]
    assert (mask.encoding, mask.height, mask.width) == ('mono8', 48, 64)
    assert tuple(robot.ros.until(lambda: labels)[-1].names) == kitchen_labels().classes
    anticipation = results['anticipation'][-1]
    assert anticipation.model_id == 'tiny-random-0' and anticipation.horizon_s == 1.0
    assert len(anticipation.actions) == len(anticipation.current_verbs) == 5
    assert anticipation.latency_s > 0 and len(results['segmentation/overlay'][-1].data) == 48 * 64 * 3


def test_depth_is_optional_and_holes_are_filled_when_asked(robot):
    robot = robot('filled', 'depth_fill:=always')
    images = robot.listen(Image, 'depth/image')
    robot.ready()
    show_until_served(robot, images)
    # The tiny model standardises depth by image: without measured depth there are no metres.
    assert np.isnan(metres(images[-1])).all()
    depth = np.linspace(1, 2, 48 * 64, dtype=np.float32).reshape(48, 64)
    depth[:24] = np.nan
    robot.ros.until(
        lambda: show_until_served(robot, images, 101.0, depth=depth) and np.isfinite(metres(images[-1])).any()
    )
    np.testing.assert_array_equal(metres(images[-1])[24:], depth[24:])
    assert np.isfinite(metres(images[-1])[:24]).any()


def test_camera_info_is_published_beside_the_depth(robot):
    robot = robot()
    infos, depth = robot.listen(CameraInfo, 'depth/camera_info'), robot.listen(Image, 'depth/image')
    camera = robot.node.create_publisher(CameraInfo, '/robot/rgb/camera_info', 1)
    robot.ready()
    robot.ros.until(camera.get_subscription_count)
    camera.publish(CameraInfo(height=48, width=64, k=[50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]))

    def republished():
        show_until_served(robot, depth)
        return infos

    info = robot.ros.until(republished)[0]
    assert info.k[0] == 50 and info.header in [image.header for image in depth]


def test_questions_are_answered_while_frames_stream(robot):
    robot = robot()
    answers = robot.listen(Answer, 'answer')
    robot.ready()
    assert 'No image has arrived yet' in robot.ask('what is this?').message
    show_until_served(robot, robot.listen(ActionAnticipation, 'anticipation'))
    reply = robot.ask('Is there a cup in view?', top_k=3)
    assert reply.success and reply.message == ''
    answer = reply.answer
    assert answer.question == 'Is there a cup in view?' and answer.text in kitchen_labels().answers
    assert answer.text == answer.alternatives[0].label and len(answer.alternatives) == 3
    assert answer.confidence == answer.alternatives[0].score
    assert (answer.scope, answer.frames_used, answer.model_id) == ('frame', 1, 'tiny-random-0')
    assert robot.ros.until(lambda: answers)[-1] == answer


def test_episode_questions_rest_on_the_memory_until_it_is_reset(robot):
    robot = robot('walker', 'memory_frames:=4')
    served = robot.listen(ActionAnticipation, 'anticipation')
    robot.ready()
    stamps = [show_until_served(robot, served, 200.0 + n)[-1] for n in range(6)]
    answer = robot.ask('What was done?', scope='episode').answer
    assert 2 <= answer.frames_used <= 4
    assert stamp_ns(answer.span_start) <= stamps[0] and stamp_ns(answer.header.stamp) == stamps[-1]
    reset = robot.node.create_client(Trigger, '/walker/model/reset_memory')
    assert robot.ros.until(reset.call_async(Trigger.Request()).result).success
    assert not robot.ask('What was done?', scope='episode').success


def test_an_image_in_the_request_is_answered_without_a_stream(robot):
    robot = robot().ready()
    image = Image(height=2, width=2, encoding='bgr8', step=6, data=bytes(12))
    image.header.frame_id = 'hand'
    reply = robot.ask('what is this?', image=image)
    assert reply.success and reply.answer.header.frame_id == 'hand'
    image.step = 3
    reply = robot.ask('what is this?', image=image)
    assert not reply.success and 'step' in reply.message


def test_a_standing_instruction_is_answered_for_every_frame(robot):
    robot = robot()
    answers, served = robot.listen(Answer, 'answer'), robot.listen(ActionAnticipation, 'anticipation')
    text = robot.node.create_publisher(String, '/robot/instruction/text', 1)
    stamped = robot.node.create_publisher(Instruction, '/robot/instruction', 1)
    robot.ready()
    robot.ros.until(lambda: text.get_subscription_count() and stamped.get_subscription_count())
    text.publish(String(data='what is in the hand?'))
    robot.ros.until(lambda: show_until_served(robot, served) and answers)
    assert answers[-1].question == 'what is in the hand?'
    instruction = Instruction(text='where is the cup?')
    instruction.header.stamp = stamp_msg(300 * 10**9)
    stamped.publish(instruction)
    robot.ros.until(lambda: show_until_served(robot, served, 300.0) and answers[-1].question == 'where is the cup?')
    assert stamp_ns(answers[-1].header.stamp) >= 300 * 10**9


def test_lifecycle_by_hand(robot):
    robot = robot('slow_starter', autostart=False)
    change = robot.node.create_client(ChangeState, '/slow_starter/model/change_state')
    state = robot.node.create_client(GetState, '/slow_starter/model/get_state')

    def go(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert robot.ros.until(change.call_async(request).result, 30).success
        return robot.ros.until(state.call_async(GetState.Request()).result).current_state.label

    robot.ros.until(lambda: all(c.service_is_ready() for c in (change, state, robot.asker)), 60)
    assert 'not active' in robot.ask('anybody there?').message
    served = robot.listen(ActionAnticipation, 'anticipation')
    assert go(Transition.TRANSITION_CONFIGURE) == 'inactive'
    for _ in range(2):
        assert go(Transition.TRANSITION_ACTIVATE) == 'active'
        robot.ready()
        show_until_served(robot, served)
        assert go(Transition.TRANSITION_DEACTIVATE) == 'inactive'
    assert 'not active' in robot.ask('anybody there?').message
    assert go(Transition.TRANSITION_CLEANUP) == 'unconfigured'
    assert robot.stop()[0] == 0


def test_two_robots_do_not_receive_each_others_images(robot):
    left, right = robot('left'), robot('right')
    of_left, of_right = (r.listen(ActionAnticipation, 'anticipation') for r in (left, right))
    left.ready(), right.ready()
    show_until_served(left, of_left, 10.0)
    assert not of_right
    show_until_served(right, of_right, 50.0)
    assert all(m.header.stamp.sec < 50 for m in of_left) and all(m.header.stamp.sec >= 50 for m in of_right)


def test_another_model_is_loaded_while_the_old_one_serves(robot):
    robot = robot().ready()
    load = robot.node.create_client(LoadModel, '/robot/model/load_model')
    refused = robot.ros.until(load.call_async(LoadModel.Request(model='/no/such/folder')).result, 30)
    assert not refused.success and '/no/such/folder' in refused.message
    served = robot.listen(Image, 'segmentation/mask')
    show_until_served(robot, served)
    assert robot.ask('Is there a cup in view?').answer.model_id == 'tiny-random-0'
    loaded = robot.ros.until(load.call_async(LoadModel.Request(model='kitchen')).result, 30)
    assert loaded.success and loaded.model_id.startswith('kitchen@')  # the shipped weights
    show_until_served(robot, served)
    assert robot.ask('Is there a cup in view?').answer.model_id == loaded.model_id


SLOW_LOAD = """
import time
from m3et_ros.ros.model_node import ModelNode, main
load, loads = ModelNode._load, []
def slowly(self, name):
    loads.append(name)
    if len(loads) > 1:
        time.sleep(3)
    return load(self, name)
ModelNode._load = slowly
raise SystemExit(main())
"""


def test_every_frame_is_served_while_another_model_is_loaded_and_the_newest_stays(robot):
    robot = robot(command=('-c', SLOW_LOAD)).ready()
    served = robot.listen(ActionAnticipation, 'anticipation')
    show_until_served(robot, served)
    load = robot.node.create_client(LoadModel, '/robot/model/load_model')
    robot.ros.until(load.service_is_ready)
    loading, shown = load.call_async(LoadModel.Request(model='kitchen')), []
    while not loading.done():
        shown.append(stamp_ns(robot.show(100 + len(shown)).stamp))
        robot.ros.until(lambda: stamp_ns(served[-1].header.stamp) == shown[-1])
    assert loading.result().success
    assert len([m for m in served if m.model_id == 'tiny-random-0']) > 10  # frames that the old model served meanwhile
    response = robot.ask('Is there a cup in view?')  # about a frame that was shown before the new model came
    assert response.success, response.message
    answer = response.answer
    assert answer.model_id == loading.result().model_id and stamp_ns(answer.header.stamp) == shown[-1]


def test_a_new_model_compares_its_first_frame_as_the_parameter_says():
    compared = []
    session = SimpleNamespace(domain_every=10, observe=lambda frame: compared.append((session.domain_every, frame)))
    node = SimpleNamespace(
        session=SimpleNamespace(newest=SimpleNamespace(frame='newest')),
        settings=SimpleNamespace(domain_check=0),
        _report_model=lambda: None,
        _publish_labels=lambda: None,
    )
    ModelNode._swap_session(node, session)
    assert compared == [(0, 'newest')] and node.session is session


def test_images_of_a_best_effort_camera_arrive(robot):
    robot = robot()
    camera = robot.node.create_publisher(Image, '/robot/rgb/image_raw', qos_profile_sensor_data)
    served = robot.listen(ActionAnticipation, 'anticipation')
    robot.ros.until(camera.get_subscription_count, 60)
    robot.rgb = camera
    sent = show_until_served(robot, served)
    assert stamp_ns(served[-1].header.stamp) in sent


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_in_order(robot, signum):
    robot = robot().ready()
    show_until_served(robot, robot.listen(ActionAnticipation, 'anticipation'))
    code, output = robot.stop(signum)
    assert code == 0, output
    assert 'Traceback' not in output


def test_a_refused_parameter_ends_with_a_sentence(robot):
    robot = robot('wrong', 'top_k:=0')
    robot.process.wait(30)
    code, output = robot.stop()
    assert code == 1 and 'top_k is 0; give 1..50' in output and 'Traceback' not in output


def test_depth_that_never_pairs_is_named_and_nothing_is_invented_for_it(robot):
    """Depth is stamped 60 ms after colour; the completed depth is empty and not a guess of the model."""
    robot = robot('robot', 'depth_fill:=always').ready()
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
    code, output = robot.stop()
    assert code == 0 and output.count('colour images got no depth') == 1


def test_a_parameter_file_for_another_node_is_named(robot, tmp_path):
    (tmp_path / 'other.yaml').write_text('model_node: {ros__parameters: {top_k: 3}}')
    command = ('-m', 'm3et_ros.ros.model_node', '--ros-args', '--params-file', str(tmp_path / 'other.yaml'))
    robot = robot(command=command).ready()
    assert '(/model_node)' in robot.ros.until(lambda: robot.diagnosis().get('causes/parameter_file'))
    assert "'/robot/model:'" in robot.diagnosis()['causes/parameter_file']


def test_diagnostics_name_model_state_and_kernels(robot):
    robot = robot().ready()
    show_until_served(robot, robot.listen(ActionAnticipation, 'anticipation'))
    status = robot.ros.until(lambda: robot.diagnosis().get('frames_out', '0') != '0' and robot.diagnosis())
    assert status['model_id'] == 'tiny-random-0' and status['state'] == 'active'
    assert status['kernel/ssd'].startswith('chunked') and float(status['age_s/p50']) != 0
    # The frames are stamped in 1970.
    assert 's old when they arrive' in robot.ros.until(lambda: robot.diagnosis().get('causes/stamp_old'))
    assert DiagnosticStatus.WARN in {s.level for a in robot.received['/diagnostics'] for s in a.status}


def test_adaptive_tokens_encode_less_of_a_still_scene_and_diagnostics_say_so(robot):
    robot = robot('robot', 'tokens:=adaptive', 'runtime:=torch').ready()
    served = robot.listen(ActionAnticipation, 'anticipation')
    show_until_served(robot, served)
    assert robot.diagnosis().get('tokens_encoded', 'nan') in ('nan', '1')
    show_until_served(robot, served, stamp=100.5)
    status = robot.ros.until(lambda: float(robot.diagnosis().get('tokens_encoded', 1)) < 1 and robot.diagnosis())
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
    assert [cycle() for _ in range(8)] == [first] * 8
    assert node.session is None and node.inference_thread is None
    node.destroy_node()


def test_an_impatient_second_signal_changes_nothing(robot):
    robot = robot().ready()
    robot.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    code, output = robot.stop(signal.SIGINT)
    assert code == 0 and 'Traceback' not in output, output


def test_a_runtime_that_cannot_serve_is_replaced_by_torch_and_reported(robot):
    robot = robot('robot', 'runtime:=cuda', 'device:=cpu').ready()
    runtime = robot.ros.until(lambda: robot.diagnosis().get('runtime'), 20)
    assert runtime.startswith('torch (cuda cannot serve')
    assert robot.count('runtime_fallback') == 1
