"""First pass over a recording: which frames make which episode, and what the robot was told and did at each.

LeRobot's frames are 1 / fps seconds apart. A recording is regular where each interval is between half and one and a
half of its median; it then becomes frames as they were recorded. Others are resampled on request. A pause of more than
a second, or of more than three periods, ends an episode. Symbols: N frames.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.bags.topics import CameraTopics
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS
from m3et_ros.data.lerobot.robot_topics import TYPES, names_of, vector_of
from m3et_ros.data.lerobot.schema import ACTION, MAX_FPS, STATE

INSTRUCTION_TYPE = 'm3et_ros/msg/Instruction'
TEXT = 'std_msgs/msg/String'
INSTRUCTION_NAMES = ('/instruction', '/instruction/text')
PAUSE_S, PAUSE_PERIODS = 1.0, 3.0
WHOLE = 0.01
"""Largest share by which the rate of a recording may differ from a whole number: 29.97 is 30."""


@dataclass(frozen=True)
class RobotTopics:
    """Topics beside the camera; None for none."""

    # Instructions: m3et_ros/msg/Instruction, or std_msgs/msg/String, which holds from its recording on.
    instruction: str | None = None
    # Position of the robot and its commands, of one of robot_topics.TYPES.
    state: str | None = None
    action: str | None = None


@dataclass
class RobotTimeline:
    """Frames of a recording in its order, and the values that hold for them."""

    # Header stamps in ns, N.
    stamps: list[int] = field(default_factory=list)
    # Instruction of each frame, N; '' for none.
    instructions: list[str] = field(default_factory=list)
    # State and action of each frame, N each; empty where the recording has none.
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    # Names of the values by LeRobot's feature; and the topics, each with 'name' and 'type'.
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    topics: dict[str, dict[str, str]] = field(default_factory=dict)
    # Why the rest of the recording cannot be read; None where it can.
    damage: InputError | None = None


@dataclass(frozen=True)
class Pick:
    """One row of the data set."""

    # Number of the frame of the recording.
    frame: int
    # True for the first row of an episode.
    begins: bool


def read_timeline(bag: BagReader, camera: CameraTopics, robot: RobotTopics) -> RobotTimeline:
    """Read stamps, instructions, states and actions of a recording without decoding a picture.

    An instruction holds from its stamp until the next one; one without a stamp holds from the next frame on. The state
    of a frame is the last one before it, its action the first one after it: the command that followed the picture.

    Args:
        bag: the recording.
        camera: its camera.
        robot: further topics.

    Raises:
        InputError: 'bag_topic' or 'bag_type', a topic is missing or of another type; 'bag_truncated', no frame can be
            read; 'lerobot_vector', a state or action has no values, or changes its length.
    """
    vectors = {STATE: robot.state, ACTION: robot.action}
    topics: dict[str, list[str]] = {camera.rgb: []}
    for key, name in vectors.items():
        if name is not None:
            topics.setdefault(bag.topic_name(name, *TYPES), []).append(key)
    if robot.instruction is not None:
        bag.topic_name(robot.instruction, INSTRUCTION_TYPE, TEXT)
        topics[robot.instruction] = []
    line, given = RobotTimeline(), _Given()
    messages = bag.messages(topics)
    while True:
        try:
            item = next(messages, None)
        except InputError as error:
            line.damage = error
            break
        if item is None:
            break
        message = decode(item)
        if item.topic == camera.rgb:
            line.stamps.append(_nanoseconds(message.header.stamp))
            given.frame()
        elif item.topic == robot.instruction:
            stamp = _nanoseconds(message.header.stamp) if item.type == INSTRUCTION_TYPE else 0
            given.instruction(stamp, str(message.text if item.type == INSTRUCTION_TYPE else message.data).strip())
        for key in topics[item.topic]:
            line.topics[key] = {'name': item.topic, 'type': item.type}
            line.names.setdefault(key, names_of(item.type, message))
            given.vector(key, vector_of(item.topic, item.type, message))
    if not line.stamps:
        raise line.damage or InputError('lerobot_empty', f'{bag.path} has no pictures on {camera.rgb}')
    line.instructions = given.instructions(line.stamps)
    line.states, line.actions = (given.vectors(key, len(line.stamps)) for key in (STATE, ACTION))
    return line


class _Given:
    """Messages by their place among the frames."""

    def __init__(self) -> None:
        self._frames = 0
        # Stamp, or 0 and the number of the frame from which it holds.
        self._instructions: list[tuple[int, int, str]] = []
        self._vectors: dict[str, list[tuple[int, np.ndarray]]] = {STATE: [], ACTION: []}

    def frame(self) -> None:
        self._frames += 1

    def instruction(self, stamp_ns: int, text: str) -> None:
        self._instructions.append((stamp_ns, self._frames, text))

    def vector(self, key: str, vector: np.ndarray) -> None:
        known = self._vectors[key]
        if known and known[0][1].size != vector.size:
            raise InputError(
                'lerobot_vector',
                f'{key} has {known[0][1].size} values first and {vector.size} later; record one robot at a time',
            )
        known.append((self._frames, vector))

    def instructions(self, stamps: Sequence[int]) -> list[str]:
        """Return the instruction of each frame."""
        holding = [
            (stamp or (stamps[number] if number < len(stamps) else 2**63), order, text)
            for order, (stamp, number, text) in enumerate(self._instructions)
        ]
        holding.sort(key=lambda one: one[:2])
        begins = [stamp for stamp, _, _ in holding]
        places = [bisect_right(begins, stamp) for stamp in stamps]
        return [holding[place - 1][2] if place else '' for place in places]

    def vectors(self, key: str, count: int) -> list[np.ndarray]:
        """Return the vector of each frame: of states the last before it, of actions the first after it."""
        known = self._vectors[key]
        if not known:
            return []
        # The number of frames before a message: a state counts for frame n if it came when at most n frames had.
        numbers = [number for number, _ in known]
        if key == STATE:
            places = [max(bisect_right(numbers, frame) - 1, 0) for frame in range(count)]
        else:
            places = [min(bisect_right(numbers, frame), len(known) - 1) for frame in range(count)]
        return [known[place][1] for place in places]


def plan(stamps: Sequence[int], fps: int | None, where: object) -> tuple[list[Pick], int]:
    """Choose the rows of a data set.

    Args:
        stamps: of the frames in ns, in the order of recording, N at least 1.
        fps: frames per second to resample to: each row gets the nearest frame; None keeps the frames as they are.
        where: the recording, for errors.

    Returns:
        The rows, and the frames per second of the data set.

    Raises:
        InputError: 'lerobot_rate', the recording is irregular or its rate is no whole number, and no fps is given.
    """
    intervals = np.diff(np.array(stamps, np.int64)).astype(np.float64)
    if not len(intervals):
        return [Pick(0, True)], fps or 1
    fix = 'give --fps to resample: each row then gets the nearest frame'
    median = float(np.median(intervals))
    if median <= 0 or (fps is None and (intervals <= 0).any()):
        back = int(np.argmax(intervals <= 0)) + 1
        raise InputError('lerobot_rate', f'frame {back} of {where} is stamped no later than the one before; {fix}')
    pause = max(PAUSE_S * NANOSECONDS, PAUSE_PERIODS * median)
    begins = [0, *(np.flatnonzero(intervals > pause) + 1).tolist()]
    if fps is not None:
        return _resampled(stamps, begins, fps), fps
    uneven = ((intervals < median / 2) | (intervals > median * 1.5)) & (intervals <= pause)
    if uneven.any():
        at = int(np.argmax(uneven))
        raise InputError(
            'lerobot_rate',
            f'{int(uneven.sum())} of {len(intervals)} intervals between the frames of {where} are uneven, the first '
            f'{intervals[at] / 1e6:.1f} ms after frame {at} where {median / 1e6:.1f} ms are usual, and LeRobot has '
            f'frames at equal intervals alone; {fix}',
        )
    # The mean, because many drivers cut stamps to milliseconds.
    rate = NANOSECONDS / float(intervals[intervals <= pause].mean())
    whole = round(rate)
    if not 1 <= whole <= MAX_FPS or abs(rate - whole) > WHOLE * whole:
        raise InputError(
            'lerobot_rate', f'{where} has {rate:.3f} frames per second and LeRobot takes a whole number; {fix}'
        )
    first = set(begins)
    return [Pick(number, number in first) for number in range(len(stamps))], whole


def _resampled(stamps: Sequence[int], begins: list[int], fps: int) -> list[Pick]:
    """Return rows at multiples of 1 / fps after the first frame of each episode, each with the nearest frame."""
    picks = []
    for begin, end in zip(begins, [*begins[1:], len(stamps)], strict=True):
        own = np.array(stamps[begin:end], np.int64)
        # Stamps that went back are in no order; the nearest is looked for in that of time.
        order = np.argsort(own, kind='stable')
        times = own[order]
        count = int((times[-1] - times[0]) * fps // NANOSECONDS) + 1
        grid = times[0] + np.arange(count) * NANOSECONDS // fps
        after = np.searchsorted(times, grid).clip(1, max(len(times) - 1, 1)) if len(times) > 1 else np.zeros(count, int)
        nearest = after
        if len(times) > 1:
            nearest = np.where(grid - times[after - 1] <= times[after] - grid, after - 1, after)
        picks += [Pick(begin + int(order[place]), number == 0) for number, place in enumerate(nearest)]
    return picks


def deviation_s(stamps: Sequence[int], picks: Sequence[Pick], fps: int) -> float:
    """Return the largest difference between stamps and the times that LeRobot gives the rows, in seconds."""
    worst, begin, number = 0.0, 0, 0
    for pick in picks:
        if pick.begins:
            begin, number = stamps[pick.frame], 0
        worst = max(worst, abs((stamps[pick.frame] - begin) / NANOSECONDS - number / fps))
        number += 1
    return worst


def _nanoseconds(stamp: Any) -> int:
    return stamp.sec * NANOSECONDS + stamp.nanosec
