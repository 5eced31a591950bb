"""A running demo against publishers that play camera and robot: questions, moments, truth and measurements."""

import json
import threading

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from m3et_ros.cli.ask.client import client
from m3et_ros.cli.demo import camera_and_robot
from m3et_ros.cli.demo.camera_and_robot import MAX_UNCONFIGURED, PER_ROW, QUESTIONS, Demo
from m3et_ros.cli.output import Refused
from m3et_ros.msg import ActionAnticipation, Answer, ScoredLabel
from m3et_ros.ros.convert import stamp_msg, to_image_msg

IMAGES = {
    '/cam/color/image_raw': ('rgb8', np.full((6, 8, 3), 90, np.uint8)),
    '/cam/aligned_depth_to_color/image_raw': ('32FC1', np.full((6, 8), 1.5, np.float32)),
    '/r/model/depth/image': ('32FC1', np.full((6, 8), 1.25, np.float32)),
    '/r/model/segmentation/overlay': ('rgb8', np.full((6, 8, 3), 30, np.uint8)),
    '/r/model/segmentation/mask': ('mono8', np.ones((6, 8), np.uint8)),
}
TAKE, PUT = (
    {'narration': n, 'verb': n[:4].strip(), 'noun': 'cup', 'start_s': s}
    for n, s in (('take cup from the table', 1.0), ('put cup', 3.0))
)


class Robot:
    """Camera and robot as publishers in the context of the demo, and the demo itself."""

    def __init__(self, node, alive):
        self.node = node
        self.demo = Demo(node, '/r', '/cam', alive)
        self.images = {topic: node.create_publisher(Image, topic, 10) for topic in IMAGES}
        self.truth = node.create_publisher(String, '/cam/camera_sim/action', 10)
        self.status = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.actions = node.create_publisher(ActionAnticipation, '/r/model/anticipation', 10)

    def show(self, stamp, topics=IMAGES):
        for topic in topics:
            encoding, pixels = IMAGES[topic]
            self.images[topic].publish(to_image_msg(pixels, encoding, Header(stamp=stamp_msg(stamp))))
        self.node.spin_for(0.3)

    def report(self, **values):
        pairs = [KeyValue(key=name, value=value) for name, value in ({'state': 'active'} | values).items()]
        self.status.publish(DiagnosticArray(status=[DiagnosticStatus(name='/r/model', values=pairs)]))
        self.node.spin_for(0.3)


@pytest.fixture
def robot():
    with client(threading.Event()) as node:
        yield Robot(node, lambda: None)


@pytest.fixture
def answered(monkeypatch):
    """Answer every question about frame 7, and record what was asked."""
    asked = []

    def ask(node, namespace, questions, timeout_s):
        asked.append((namespace, questions))
        header = Header(stamp=stamp_msg(7))
        return [
            Answer(
                header=header,
                question=question,
                text='cup',
                confidence=0.5,
                frames_used=1,
                latency_s=0.02,
                age_s=0.03,
                model_id='m@1',
            )
            for question, _ in questions
        ]

    monkeypatch.setattr(camera_and_robot, 'ask_together', ask)
    return asked


def test_the_demo_begins_with_the_first_whole_result_and_diagnostics(robot):
    assert robot.demo.missing() == 'the first image of the simulated kitchen' and not robot.demo.begun()
    robot.show(5, ['/cam/color/image_raw'])
    assert robot.demo.missing() == 'the model node'
    robot.report(model_id='m@1')
    assert robot.demo.missing() == 'the first result of the model' and not robot.demo.begun()
    robot.show(6)
    assert robot.demo.begun()
    assert robot.demo.describe_model() == 'Model m@1.'
    robot.report(model_id='tiny-random-0')
    assert robot.demo.describe_model().startswith('tiny has no trained weights yet')


def test_a_node_that_stays_unconfigured_is_trouble(robot):
    for _ in range(MAX_UNCONFIGURED):
        assert robot.demo.trouble() == ''
        robot.report(state='unconfigured', last_error='no such model')
    assert MAX_UNCONFIGURED == 3 and robot.demo.trouble() == 'no such model'
    robot.report(state='unconfigured', last_error='none')
    assert 'it stays unconfigured' in robot.demo.trouble()
    robot.report()
    assert robot.demo.trouble() == ''


def test_a_moment_has_answers_anticipation_and_truth(robot, answered, tmp_path):
    robot.report(model_id='m@1', **{'dropped/stamp_back': '2', 'device': 'cpu'})
    robot.show(6)
    assert robot.demo.begun()
    robot.actions.publish(
        ActionAnticipation(
            header=Header(stamp=stamp_msg(7)),
            horizon_s=1.5,
            current_actions=[ScoredLabel(label='take cup', score=0.75)],
            actions=[ScoredLabel(label='put cup', score=0.25), ScoredLabel(label='wash cup', score=0.125)],
        )
    )
    for stamp, action in ((7, TAKE), (8, TAKE), (9, PUT)):
        robot.truth.publish(
            String(
                data=json.dumps(
                    {'stamp_ns': stamp, 'current': action, 'answers': {QUESTIONS[0][0]: 'cup', QUESTIONS[1][0]: 'pan'}}
                )
            )
        )
    robot.show(7)
    lines = []
    robot.demo.ask(lines.append)
    robot.demo.ask(lines.append)
    assert answered == [('/r', list(QUESTIONS[:PER_ROW])), ('/r', list(QUESTIONS[PER_ROW : 2 * PER_ROW]))]
    assert 'cup, right  (confidence 0.50, one frame, 20 ms, image 30 ms old, m@1)' in lines[1]
    assert 'cup, in truth pan  (confidence' in lines[2]
    assert lines[3] == '  now: take cup  0.75  (in truth: take cup from the table), next: put cup  0.25'
    robot.demo.listen(0.1)
    summary = robot.demo.summary()
    moment = summary['moments'][0]
    assert moment['stamp_ns'] == 7 and [answer['text'] for answer in moment['answers']] == ['cup', 'cup']
    assert moment['true_answers'] == ['cup', 'pan']
    assert moment['truth'] == {'now': 'take cup from the table', 'next': 'put cup'}
    assert moment['anticipation'] == {
        'horizon_s': 1.5,
        'now': [{'label': 'take cup', 'score': 0.75}],
        'next': [{'label': 'put cup', 'score': 0.25}, {'label': 'wash cup', 'score': 0.125}],
    }
    assert (summary['frames_in'], summary['frames_out'], summary['drops']) == (1, 1, {'stamp_back': 2})
    assert summary['trained'] and summary['device'] == 'cpu' and summary['fps_in'] > 0
    row = robot.demo._poster_row(robot.demo._rows[0])
    assert [(c.right, c.true_answer, c.expected) for c in row.captions] == [(True, 'cup', True), (False, 'pan', True)]
    robot.demo.draw(tmp_path / 'sheet.png', summary)
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape[1] == 1540


def test_without_an_action_head_there_is_only_the_truth(robot, answered):
    robot.report(model_id='m@1')
    robot.show(7)
    assert robot.demo.begun()
    lines = []
    robot.demo.ask(lines.append)
    robot.demo.listen(0.05)
    assert len(lines) == 1 + PER_ROW
    (moment,) = robot.demo.summary()['moments']
    assert moment['anticipation'] is None and moment['truth'] == {'now': None, 'next': None}


def test_pictures_that_lag_behind_are_replaced_by_the_newest_whole_ones(robot, answered, monkeypatch):
    monkeypatch.setattr(camera_and_robot, 'PICTURES_S', 0.1)
    robot.report(model_id='m@1')
    robot.show(6)
    assert robot.demo.begun()
    robot.demo.ask(lambda line: None)
    robot.demo.listen(0.05)
    assert robot.demo.summary()['moments'][0]['stamp_ns'] == 6


def test_listening_checks_the_nodes_and_ends_with_a_signal():
    def dead():
        raise Refused('camera ended by itself')

    with client(threading.Event()) as node:
        with pytest.raises(Refused, match='camera ended'):
            Demo(node, '/r', '/cam', dead).listen(5)
        demo = Demo(node, '/r', '/cam', lambda: None)
        node.stopped.set()
        demo.listen(60)
        demo.ask(print)
