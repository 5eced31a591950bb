"""Answerers beside M3ET on a running node: streaming, cancelling, several clients."""

import itertools
import threading

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile
from talkers import talker_folder

from m3et_ros.action import AskQuestion
from m3et_ros.models.vlm.variants import VARIANTS
from m3et_ros.msg import ActionAnticipation
from m3et_ros.runtime.answerer import Answerer

MANY = QoSProfile(depth=200)


@pytest.fixture
def talking(tmp_path):
    def start(robot, name, variant, tokens):
        folder = talker_folder(tmp_path / variant, variant)
        running = robot(
            name, f'answerer:={variant}', f'answerer_checkpoint:={folder}', f'max_sentence_tokens:={tokens}'
        )
        served = running.listen(ActionAnticipation, 'anticipation')
        running.ready()
        clients = [
            ActionClient(
                running.node,
                AskQuestion,
                f'/{name}/model/ask_streaming',
                goal_service_qos_profile=MANY,
                result_service_qos_profile=MANY,
                cancel_service_qos_profile=MANY,
            )
            for _ in range(2)
        ]
        running.ros.until(lambda: all(client.server_is_ready() for client in clients))
        stamps = iter(range(100, 200))
        running.ros.until(lambda: (running.show(next(stamps)) and running.pause()) or served, 60)
        return running, clients

    return start


def send(robot, client, question):
    pieces = []
    goal = robot.ros.until(
        client.send_goal_async(
            AskQuestion.Goal(question=question), feedback_callback=lambda m: pieces.append(m.feedback)
        ).result
    )
    assert goal.accepted
    return goal, pieces


@pytest.mark.parametrize('variant', VARIANTS)
def test_each_answerer_streams_to_several_clients(talking, robot_here, variant):
    robot, clients = talking(robot_here, variant, variant, 12)
    goals = [send(robot, client, question) for client, question in zip(clients, ('where is the cup?', 'is it red?'))]
    for (goal, pieces), question in zip(goals, ('where is the cup?', 'is it red?')):
        outcome = robot.ros.until(goal.get_result_async().result, 60)
        assert outcome.status == GoalStatus.STATUS_SUCCEEDED, outcome.result.message
        answer = outcome.result.answer
        assert answer.question == question and answer.model_id == f'{variant}-random-0' and answer.frames_used == 1
        # Feedback and result travel separately, and a busy machine may lose pieces: each holds the text so far.
        texts = [piece.text for piece in tuple(pieces)]
        assert all(piece.text.endswith(piece.token) for piece in tuple(pieces))
        assert all(later.startswith(text) for text, later in itertools.pairwise([*texts, answer.text]))
    reply = robot.ask('where is the cup?')
    assert reply.success and reply.answer.model_id == f'{variant}-random-0'
    assert (
        reply.answer.text
        == robot.ros.until(send(robot, clients[0], 'where is the cup?')[0].get_result_async().result).result.answer.text
    )
    assert robot.ask('where was it?', scope='episode').answer.model_id == 'tiny-random-0'


def test_a_cancelled_goal_stops_and_the_node_goes_on(talking, robot_here, monkeypatch):
    robot, (client, _) = talking(robot_here, 'cancelled', 'ml_mamba', 12)
    gate, write = threading.Event(), Answerer.write

    def in_tokens(*args, **options):
        pieces = write(*args, **options)
        yield next(pieces)
        assert gate.wait(60)
        return (yield from pieces)

    monkeypatch.setattr(Answerer, 'write', in_tokens)
    goal, _ = send(robot, client, 'where is the cup?')
    robot.ros.until(goal.cancel_goal_async().result)
    gate.set()
    outcome = robot.ros.until(goal.get_result_async().result)
    assert outcome.status == GoalStatus.STATUS_CANCELED and not outcome.result.success
    assert robot.ask('where is the cup?').success


def test_a_hundred_goals_at_once_all_get_a_result(talking, robot):
    robot, (client, _) = talking(robot, 'crowded', 'matvlm', 1)
    sent = [client.send_goal_async(AskQuestion.Goal(question='is it red?')) for _ in range(100)]
    goals = [robot.ros.until(future.result, 60) for future in sent]
    results = [robot.ros.until(goal.get_result_async().result, 60) for goal in goals]
    assert all(goal.accepted for goal in goals)
    refused = [r.result.message for r in results if r.status != GoalStatus.STATUS_SUCCEEDED]
    assert len(refused) < 100 and set(refused) <= {'Too many questions are waiting; ask again later.'}
    assert robot.ask('where is the cup?').success and robot.process.poll() is None


def test_a_wrong_checkpoint_is_refused_with_a_sentence(robot_here, tmp_path):
    folder = talker_folder(tmp_path, vision='kitchen@00000000')
    robot = robot_here('picky', 'answerer:=ml_mamba', f'answerer_checkpoint:={folder}')
    robot.ros.until(lambda: robot.model.start_failed)
    sentence = robot.model.health.failure
    assert 'trained on the visual tokens of kitchen@00000000' in sentence and 'm3et train talk' in sentence
