"""The tools for agents: each waits for a running robot and returns a report."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from m3et_ros.cli.ask.app import answer_dict
from m3et_ros.cli.mcp.reports import (
    AnswerReport,
    HappenedReport,
    HealthReport,
    LookReport,
    NextReport,
    RobotReport,
    RobotsReport,
    WhereReport,
)
from m3et_ros.cli.mcp.sight import Show, look
from m3et_ros.cli.output import Refused
from m3et_ros.cli.robots import Robot, Robots
from m3et_ros.cli.ros_names import full_namespace
from m3et_ros.msg import ActionAnticipation, Answer
from m3et_ros.ros import interfaces
from m3et_ros.ros.diagnostics import Counters
from m3et_ros.srv import AskQuestion

FOUND_S = 5.0
"""Seconds that a robot may take to be found in the graph."""
MOST_NAME = 255
"""Characters of a topic's name in DDS, and so of a namespace."""
MOST_CHARS = 10_000
"""Characters of a question; the parameter max_question_chars of the robot limits it further."""
SEGMENTATION_NETWORK = 'segmentation_network/model_id'
"""Figure of a robot on which a network of others finds the classes."""
REMEMBERED = 50
"""Answers of a robot that are kept."""
PAST = (
    'How many actions have been done?',
    'What was the first action?',
    'What was done before the last action?',
    'What was done last?',
)
"""Questions to the memory of the episode about finished actions."""
PAST_OF_THING = ('Was there a {} in view before?', 'Where is the {} now?', 'Has the {} been taken?')

Stopped = threading.Event


class UnknownRobot(Refused):
    """No robot answers, none in the namespace that was given, or several without a namespace."""


class RobotTools:
    """Uses the robots of a graph for an agent. Every method blocks, and may be called from any thread.

    Args:
        robots: the connection.
        timeout_s: longest wait for an answer or an image in seconds.
        counters: counts of the server, for `health`.
    """

    def __init__(self, robots: Robots, timeout_s: float, counters: Counters):
        self.robots, self.timeout_s = robots, timeout_s
        self._counters = counters
        self._lock = threading.Lock()
        self._answers: dict[str, deque[Answer]] = {}

    def list_robots(self, stopped: Stopped) -> RobotsReport:
        """Return the robots that answer, after a moment's wait until each has reported."""

        def reported() -> bool:
            present = self.robots.namespaces()
            return bool(present) and all(self.robots.robot(one).health.level != 'silent' for one in present)

        with self._until(stopped):
            self.robots.node.wait(reported, FOUND_S)
        found = []
        for namespace in self.robots.namespaces():
            robot = self.robots.robot(namespace)
            health = robot.health
            found.append(
                RobotReport(
                    robot=namespace,
                    level=health.level,
                    sentence=health.sentence,
                    model_id=health.values.get('model_id', ''),
                    camera=robot.camera_topics,
                )
            )
        return RobotsReport(robots=found)

    def look(self, name: str | None, show: Show, stopped: Stopped) -> tuple[LookReport, bytes]:
        """Return the report on the next image and its picture as JPEG.

        Raises:
            Refused: no robot, or no image in time.
            InputError: the image cannot be decoded.
        """
        with self._until(stopped):
            robot = self.choose(name)
            sight = look(self.robots, robot, show, self.timeout_s)
            self.robots.node.wait(lambda: bool(robot.health.values), FOUND_S)
        values = robot.health.values
        model_id = values.get(SEGMENTATION_NETWORK, values.get('model_id', ''))
        return LookReport.of(robot.namespace, show, sight, model_id), sight.jpeg

    def ask(
        self, question: str, scope: str, name: str | None, stopped: Stopped, write: Callable[[str], None] | None = None
    ) -> AnswerReport:
        """Ask as the robot is configured.

        Args:
            question: the question.
            scope: 'frame' or 'episode'.
            name: namespace of the robot; None for the only one.
            stopped: ends the question.
            write: receives every new part of a written answer, on any thread.

        Raises:
            Refused: no robot, or it refuses, or does not answer in time.
        """
        check_question(question)
        with self._until(stopped):
            robot = self.choose(name)
            answer = robot.converse(question, self.timeout_s, write or ignore, scope=scope, stopped=stopped)
        return AnswerReport.of(robot.namespace, answer_dict(answer))

    def ask_request(self, request: AskQuestion.Request, name: str | None, stopped: Stopped) -> AnswerReport:
        """Ask by a request, which may hold an image; arguments and errors as of `ask`."""
        check_question(request.question)
        with self._until(stopped):
            robot = self.choose(name)
            answer = robot.ask(request, self.timeout_s, stopped)
        return AnswerReport.of(robot.namespace, answer_dict(answer))

    def where(self, thing: str, name: str | None, stopped: Stopped) -> WhereReport:
        """Return the place of a thing in the newest image; a whole question is asked as it is. Errors as of `ask`."""
        question = thing if thing.rstrip().endswith('?') else f'Where is the {without_article(thing)}?'
        answer = self.ask_request(AskQuestion.Request(question=question), name, stopped)
        return WhereReport(**answer.model_dump(), thing=thing, found=bool(answer.places))

    def what_happened(self, thing: str | None, name: str | None, stopped: Stopped) -> HappenedReport:
        """Ask the memory of the episode about finished actions, and about a thing if one is given.

        Raises:
            Refused: as `ask`, or the memory of the robot is off.
        """
        if thing is not None:
            check_question(thing)
        with self._until(stopped):
            robot = self.choose(name)
            given = list(self._answers[robot.namespace])
            asked = [] if thing is None else [words.format(without_article(thing)) for words in PAST_OF_THING]
            answers = [
                answer_dict(robot.ask(AskQuestion.Request(question=words, scope='episode'), self.timeout_s, stopped))
                for words in (*PAST, *asked)
            ]
        reports = [AnswerReport.of(robot.namespace, answer) for answer in answers]
        newest = answers[-1]
        return HappenedReport(
            robot=robot.namespace,
            remembered_s=round((newest['stamp_ns'] - newest['span_start_ns']) / 1e9, 3),
            frames=newest['frames_used'],
            actions=reports[: len(PAST)],
            about=reports[len(PAST) :],
            answers=[AnswerReport.of(robot.namespace, answer_dict(answer)) for answer in given],
        )

    def what_next(self, name: str | None, stopped: Stopped) -> NextReport:
        """Return the present and the next action of the next image.

        Raises:
            Refused: no robot, or no anticipation in time.
        """
        with self._until(stopped):
            robot = self.choose(name)
            try:
                message = robot.newest(interfaces.ANTICIPATION.name, ActionAnticipation, self.timeout_s)
            except Refused as error:
                raise Refused(f'{error} A model without an action head anticipates nothing.') from None
        return NextReport.of(robot.namespace, message)

    def health(self, name: str | None, stopped: Stopped) -> HealthReport:
        """Return the newest report of a robot about itself.

        Raises:
            Refused: no robot.
        """
        with self._until(stopped):
            robot = self.choose(name)
            # It reports once a second.
            self.robots.node.wait(lambda: robot.health.level != 'silent', FOUND_S)
        health = robot.health
        return HealthReport(
            robot=robot.namespace,
            level=health.level,
            sentence=health.sentence,
            values=dict(health.values),
            server=self._counters.snapshot(),
        )

    def choose(self, name: str | None) -> Robot:
        """Return the robot of a namespace, or the only one, after a moment's wait where it is not known yet.

        Raises:
            UnknownRobot: there is none, there are several and no namespace, or none in that namespace.
            Refused: the name is no namespace.
        """
        if name and len(name) > MOST_NAME:
            raise UnknownRobot(
                f'`robot` has {len(name)} characters, and no name of a robot is longer than {MOST_NAME}.'
            )
        wanted = full_namespace(name, 'robot') if name else None
        present: list[str] = []

        def found() -> bool:
            present[:] = self.robots.namespaces()
            return bool(present) if wanted is None else wanted in present

        if not self.robots.node.wait(found, FOUND_S):
            domain = os.environ.get('ROS_DOMAIN_ID') or 0
            there = f'there is {", ".join(present)}' if present else 'start one with "m3et robot"'
            raise UnknownRobot(f'No robot answers{f" in {wanted}" if wanted else ""} on ROS domain {domain}; {there}.')
        if wanted is None and len(present) > 1:
            raise UnknownRobot(f'There are several robots, {", ".join(present)}; give `robot` one of these names.')
        namespace = wanted or present[0]
        self._listen(namespace)
        return self.robots.robot(namespace)

    def _listen(self, namespace: str) -> None:
        """Keep the answers of a robot from now on."""
        with self._lock:
            if namespace in self._answers:
                return
            kept = self._answers[namespace] = deque(maxlen=REMEMBERED)

        def keep(answer: Answer) -> None:
            # A standing instruction is answered for every image.
            if all((answer.question, answer.text) != (other.question, other.text) for other in list(kept)[-3:]):
                kept.append(answer)

        self.robots.robot(namespace).listen(interfaces.ANSWER.name, Answer, keep)

    @contextmanager
    def _until(self, stopped: Stopped) -> Iterator[None]:
        with self.robots.node.stopping(stopped):
            yield


def check_question(question: str) -> None:
    """Refuse a question that is too long to be sent.

    Raises:
        Refused: the sentence says how long it may be.
    """
    if len(question) > MOST_CHARS:
        raise Refused(f'The question has {len(question)} characters and at most {MOST_CHARS} are sent; shorten it.')


def without_article(thing: str) -> str:
    """Return the name of a thing without an article in front and blanks around it."""
    words = thing.split()
    return ' '.join(words[1:] if len(words) > 1 and words[0].lower() in ('the', 'a', 'an') else words)


def ignore(text: str) -> None:
    """Do nothing with a part of an answer."""
    del text
