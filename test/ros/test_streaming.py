"""~/ask_streaming: tokens as feedback, the whole answer as result, cancelling."""

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient

from m3et_ros.action import AskQuestion
from m3et_ros.msg import ActionAnticipation

# A text decoder that takes its time, so that pieces come before the result and there is something to cancel.
SLOW = """
import time
from m3et_ros.models.m3et.model import M3ET
generate = M3ET.generate
def slowly(*args, **options):
    for step in generate(*args, **options):
        time.sleep(0.3)
        yield step
M3ET.generate = slowly
from m3et_ros.ros.model_node import main
raise SystemExit(main())
"""


@pytest.fixture(scope='module')
def talker(module_robot):
    """A robot that has seen a frame, and a client."""
    robot = module_robot('talker', command=('-c', SLOW))
    client = ActionClient(robot.node, AskQuestion, '/talker/model/ask_streaming')
    served, stamps = robot.listen(ActionAnticipation, 'anticipation'), iter(range(100, 10_000))
    robot.ready()
    robot.ros.until(client.server_is_ready)
    robot.ros.until(lambda: (robot.show(next(stamps)) and robot.pause()) or served)
    return robot, client


def send(robot, client, question):
    pieces = []
    goal = robot.ros.until(
        client.send_goal_async(
            AskQuestion.Goal(question=question), feedback_callback=lambda m: pieces.append(m.feedback)
        ).result
    )
    assert goal.accepted
    return goal, pieces


def test_tokens_are_streamed_and_the_result_is_the_whole_answer(talker):
    robot, client = talker
    goal, pieces = send(robot, client, 'where is the cup?')
    outcome = robot.ros.until(goal.get_result_async().result)
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED and outcome.result.success
    answer = outcome.result.answer
    assert answer.question == 'where is the cup?' and answer.model_id == 'tiny-random-0'
    # Feedback and result travel separately, so the last pieces may still be missing when the result arrives.
    assert pieces and ''.join(p.token for p in pieces) == pieces[-1].text
    assert answer.text.startswith(pieces[-1].text)


def test_a_bad_goal_is_aborted_with_a_sentence(talker):
    robot, client = talker
    goal, _ = send(robot, client, '')
    outcome = robot.ros.until(goal.get_result_async().result)
    assert outcome.status == GoalStatus.STATUS_ABORTED and 'empty' in outcome.result.message


def test_a_cancelled_goal_stops_and_the_node_goes_on(talker):
    robot, client = talker
    goal, pieces = send(robot, client, 'where is the cup?')
    robot.ros.until(lambda: pieces)
    robot.ros.until(goal.cancel_goal_async().result)
    outcome = robot.ros.until(goal.get_result_async().result)
    assert outcome.status == GoalStatus.STATUS_CANCELED and not outcome.result.success
    assert robot.ask('where is the cup?').success
    assert robot.process.poll() is None
