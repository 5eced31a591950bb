"""A robot whose results are known, on real DDS, and what serves it to agents."""

import asyncio
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Vector3
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from m3et_ros.action import AskQuestion as AskStreaming
from m3et_ros.cli.mcp.calls import Calls
from m3et_ros.cli.mcp.robot_tools import RobotTools
from m3et_ros.cli.robots import connect
from m3et_ros.msg import ActionAnticipation, Answer, LabelMap, Place, ScoredLabel
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.srv import AskQuestion

LENS = 'lens'
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class KnownRobot:
    """A model node that writes its answers; all images are 4 x 2 pixels.

    Attributes:
        WAIT: question that is answered only by its cancellation.
        SLOW: question whose answer goes on after its first part when `go_on` is set.
    """

    WAIT, SLOW = 'Wait until I leave.', 'Slowly, what is it?'

    def __init__(self, namespace='/known'):
        self.namespace = namespace
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[])
        self.node = node = rclpy.create_node('model', namespace=namespace, context=self.context)
        node.declare_parameter('answerer', 'emma')
        node.declare_parameter('answer_mode', 'classify')
        self.go_on = threading.Event()
        self.more = {}
        self.asked, self.goals, self.cancelled = [], [], 0
        group = ReentrantCallbackGroup()
        node.create_service(AskQuestion, '~/ask', self.on_request, callback_group=group)
        self.action = ActionServer(
            node,
            AskStreaming,
            '~/ask_streaming',
            self.on_goal,
            callback_group=group,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self.answers = node.create_publisher(Answer, '~/answer', 5)
        self.images = {
            name: node.create_publisher(Image, name, 5)
            for name in ('~/segmentation/mask', '~/segmentation/overlay', '~/depth/image', f'{namespace}/eye')
        }
        self.labels = node.create_publisher(LabelMap, '~/segmentation/labels', LATCHED)
        self.labels.publish(LabelMap(ids=[0, 1], names=['table', 'cup'], colors=[ColorRGBA(), ColorRGBA()]))
        self.actions = node.create_publisher(ActionAnticipation, '~/anticipation', 5)
        self.diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 5)
        self.stamp = 1_000_000_000
        node.create_timer(0.2, self.show)
        node.create_timer(0.5, self.report)
        self.executor = MultiThreadedExecutor(4, context=self.context)
        self.executor.add_node(node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def header(self):
        return Header(stamp=stamp_msg(self.stamp), frame_id=LENS)

    def show(self):
        """Publish an image: table left, cup right, one pixel of neither."""
        self.stamp += 200_000_000
        mask = np.array([[0, 0, 0, 1], [0, 0, 255, 1]], np.uint8)
        depth = np.array([[1, 2, 3, 0.5], [np.nan, np.nan, 4, np.nan]], np.float32)
        colour = np.full((2, 4, 3), (200, 100, 50), np.uint8)
        for name, pixels, encoding in (
            ('~/segmentation/mask', mask, 'mono8'),
            ('~/segmentation/overlay', 255 - colour, 'rgb8'),
            ('~/depth/image', depth, '32FC1'),
            (f'{self.namespace}/eye', colour, 'rgb8'),
        ):
            self.images[name].publish(to_image_msg(pixels, encoding, self.header()))
        self.actions.publish(
            ActionAnticipation(
                header=self.header(),
                horizon_s=1.5,
                actions=[ScoredLabel(label='put cup', score=0.625)],
                current_actions=[ScoredLabel(label='take cup', score=0.5), ScoredLabel(label='wash cup', score=0.25)],
                model_id='known@1',
                age_s=0.125,
            )
        )

    def report(self):
        """Publish that all is well."""
        values = {'model_id': 'known@1', 'topic/rgb': f'{self.namespace}/eye', 'rate_out_hz': '5'} | self.more
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        status = DiagnosticStatus(
            name=f'{self.namespace}/model', level=DiagnosticStatus.OK, message='Running.', values=pairs
        )
        self.diagnostics.publish(DiagnosticArray(status=[status]))

    def answer(self, question, scope, text):
        """An answer, with a place for the cup and none for the moon."""
        answer = Answer(header=self.header(), question=question, text=text, confidence=0.75, answerable=True)
        answer.scope, answer.frames_used, answer.model_id, answer.age_s = scope or 'frame', 3, 'known@1', 0.25
        answer.span_start = stamp_msg(self.stamp - 2_500_000_000) if scope == 'episode' else answer.header.stamp
        answer.read_as, answer.latency_s = question, 0.125
        answer.alternatives = [ScoredLabel(label=text, score=0.75), ScoredLabel(label='no', score=0.25)]
        if question == 'Where is the cup?':
            answer.places = [
                Place(
                    label='cup',
                    confidence=0.875,
                    u=3.0,
                    v=1.0,
                    box=RegionOfInterest(x_offset=3, y_offset=0, width=1, height=2),
                    position=Point(x=0.25, y=-0.5, z=2.0),
                    size=Vector3(x=0.125, y=0.25, z=0.5),
                    distance=2.125,
                    measured=0.5,
                )
            ]
        if 'moon' in question:
            answer.text, answer.answerable, answer.confidence = 'I cannot tell', False, 0.0
            answer.reason, answer.explanation = 'unknown_word', 'The model was never taught "moon".'
            answer.suggestions = ['Where is the cup?']
        return answer

    def on_request(self, request, response):
        self.asked.append(request)
        if request.question == 'Refuse?':
            response.message = 'The robot refuses.'
            return response
        text = 'on the table'
        if len(request.image.data):
            text = f'{request.image.width} x {request.image.height}, {list(request.image.data[:3])}'
        response.success, response.answer = True, self.answer(request.question, request.scope, text)
        return response

    def on_goal(self, goal):
        question = goal.request.question
        self.goals.append(question)
        while question == self.WAIT and not goal.is_cancel_requested and self.context.ok():
            time.sleep(0.01)
        if goal.is_cancel_requested:
            self.cancelled += 1
            goal.canceled()
            return AskStreaming.Result(message='The question was cancelled.')
        goal.publish_feedback(AskStreaming.Feedback(token='a ', text='a '))
        while question == self.SLOW and not self.go_on.is_set() and self.context.ok():
            time.sleep(0.01)
        goal.succeed()
        return AskStreaming.Result(success=True, answer=self.answer(question, goal.request.scope, 'a cup'))

    def close(self):
        rclpy.try_shutdown(context=self.context)
        self.executor.shutdown(timeout_sec=10)
        self.thread.join(10)
        self.action.destroy()
        self.node.destroy_node()


@pytest.fixture(scope='session')
def known_robot():
    """Run a known robot in a namespace while a block lasts."""

    @contextmanager
    def run(namespace):
        robot = KnownRobot(namespace)
        try:
            yield robot
        finally:
            robot.close()

    return run


@pytest.fixture(scope='module')
def known(known_robot):
    """The known robot."""
    with known_robot('/known') as robot:
        yield robot


@pytest.fixture(scope='module')
def robots(known):
    """A connection that has found the known robot and its report."""
    with connect(threading.Event()) as found:
        assert found.node.wait(lambda: found.robot('/known').health.level == 'ok', 60)
        yield found


@pytest.fixture
def calls():
    """Calls that are ended with the test."""
    calls = Calls()
    yield calls
    calls.close()


@pytest.fixture
def tools(robots, calls):
    """The tools for the known robot."""
    return RobotTools(robots, 60, calls.counters)


@pytest.fixture(scope='session')
def until():
    """Wait for a condition in a coroutine, at most 60 s."""

    async def wait(condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, 'the condition stayed false'
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture(scope='session')
def served():
    """Serve an application on a free port of loopback while a block lasts; yields the port."""
    from m3et_ros.cli.mcp.web import listening_socket, serve

    @contextmanager
    def run(app, calls):
        stopped = threading.Event()
        with listening_socket('127.0.0.1', 0) as socket:
            thread = threading.Thread(target=lambda: asyncio.run(serve(app, socket, calls, stopped)))
            thread.start()
            try:
                yield socket.getsockname()[1]
            finally:
                stopped.set()
                thread.join(60)
                assert not thread.is_alive()

    return run
