"""Convert recordings to a LeRobot data set.

Each recording is an episode, or several where it pauses. What LeRobot has no place for (intrinsics, frame of the
camera, names of topics) is stored beside it in meta/m3et.json.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader, decode
from m3et_ros.data.bags.topics import CameraTopics, find_camera
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.lerobot.schema import EpisodeFrame
from m3et_ros.data.lerobot.timeline import (
    INSTRUCTION_NAMES,
    Pick,
    RobotTimeline,
    RobotTopics,
    deviation_s,
    plan,
    read_timeline,
)
from m3et_ros.data.lerobot.writer import LeRobotWriter

STATE_TOPIC, ACTION_TOPIC = '/joint_states', '/action'
"""Topics that are read where a recording has them, and written on the way back where a data set names none."""

NO_DEPTH = 'none'


@dataclass(frozen=True)
class ConvertedTopics:
    """Topics of a recording; None for the usual ones where it has them."""

    # Colours and depth, as find_camera takes them; NO_DEPTH leaves depth out.
    rgb: str | None = None
    depth: str | None = None
    # Instructions, position of the robot, and commands.
    instruction: str | None = None
    state: str | None = None
    action: str | None = None


@dataclass
class Conversion:
    """Result of a conversion."""

    # Rows and episodes written, and their rate.
    frames: int = 0
    episodes: int = 0
    fps: int = 0
    # Tasks in the order of their first frame.
    tasks: list[str] = field(default_factory=list)
    # Largest difference between the stamps and LeRobot's times, in seconds.
    deviation_s: float = 0.0
    # Sentences on what was left out or rounded.
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """A recording and its rows."""

    path: Path
    camera: CameraTopics
    line: RobotTimeline
    picks: list[Pick]
    fps: int


def convert_bags(
    bags: Sequence[Path],
    out: Path,
    *,
    topics: ConvertedTopics,
    fps: int | None = None,
    images: str = 'lossless',
    track: Callable[[Iterator[Any], int], Iterator[Any]] = lambda items, _: items,
) -> Conversion:
    """Write recordings as the episodes of a data set.

    Args:
        bags: the recordings, at least one, all of one rate and size.
        out: folder to create.
        topics: topics to read.
        fps: rate to resample to; None keeps every frame.
        images: one of writer.IMAGES.
        track: reports progress; it gets the rows and their number, and yields the rows.

    Raises:
        InputError: a recording cannot be read (bags.reader, bags.topics, bags.frames), its rate does not fit
            (timeline.plan), or as LeRobotWriter.
        OSError: the folder cannot be written.
    """
    result = Conversion()
    sources = [_open(path, topics, fps, result) for path in bags]
    result.fps = sources[0].fps
    for source in sources:
        if source.fps != result.fps:
            raise InputError(
                'lerobot_rate',
                f'{source.path} has {source.fps} frames per second and {sources[0].path} {result.fps}; give --fps',
            )
    names: dict[str, Sequence[str]] = dict(sources[0].line.names)
    with_depth = any(source.camera.depth for source in sources)
    count = sum(len(source.picks) for source in sources)
    with LeRobotWriter(out, result.fps, images=images, depth=with_depth, names=names) as writer:
        rows = ((source, *row) for source in sources for row in _rows(source))
        facts: dict[str, Any] = {}
        for source, begins, row in track(rows, count):
            if begins:
                writer.end_episode(facts)
                facts = _facts(source, row.frame)
            _add_intrinsics(facts, row.frame, result)
            writer.write(row)
            if row.frame.instruction not in result.tasks:
                result.tasks.append(row.frame.instruction)
        writer.end_episode(facts)
    result.frames, result.episodes = writer.frames, writer.episodes
    return result


def _open(path: Path, topics: ConvertedTopics, fps: int | None, result: Conversion) -> _Source:
    """Read the timeline of a recording, choose its rows, and note what is to be known."""
    with BagReader(path) as bag:
        if topics.depth == NO_DEPTH:
            camera = CameraTopics(find_camera(bag, rgb=topics.rgb).rgb, None)
        else:
            camera = find_camera(bag, rgb=topics.rgb, depth=topics.depth)
        found = next((name for name in INSTRUCTION_NAMES if name in bag.topics), None)
        usual = {'state': STATE_TOPIC, 'action': ACTION_TOPIC}
        robot = RobotTopics(
            instruction=topics.instruction or found,
            **{key: getattr(topics, key) or (name if name in bag.topics else None) for key, name in usual.items()},
        )
        line = read_timeline(bag, camera, robot)
        result.notes += [camera.note] if camera.note else []
        if camera.depth is not None and _has_floats(bag, camera.depth):
            result.notes.append(
                f'{camera.depth} of {path} has depth in float metres, stored in whole millimetres: at most 0.5 mm off.'
            )
    if line.damage is not None:
        result.notes.append(f'{line.damage}; the frames before that are used.')
    picks, rate = plan(line.stamps, fps, path)
    used = {pick.frame for pick in picks}
    if fps is not None and (len(used) < len(line.stamps) or len(picks) > len(used)):
        result.notes.append(
            f'{path} is resampled to {fps} frames per second: {len(line.stamps) - len(used)} of {len(line.stamps)} '
            f'frames are left out and {len(picks) - len(used)} rows repeat one.'
        )
    result.deviation_s = max(result.deviation_s, deviation_s(line.stamps, picks, rate))
    return _Source(path, camera, line, picks, rate)


def _has_floats(bag: BagReader, topic: str) -> bool:
    """Return True if the first depth image of a topic is of floats."""
    message = decode(next(bag.messages([topic])))
    return '32FC1' in getattr(message, 'encoding', getattr(message, 'format', ''))


def _rows(source: _Source) -> Iterator[tuple[bool, EpisodeFrame]]:
    """Yield the rows of a recording, and True for those that begin an episode."""
    line, numbered = source.line, {pick.frame for pick in source.picks}
    with BagReader(source.path) as bag:
        decoded = enumerate(frames(bag, rgb_topic=source.camera.rgb, depth_topic=source.camera.depth))
        held: dict[int, Frame] = {}
        newest = -1
        for place, pick in enumerate(source.picks):
            while newest < pick.frame:
                newest, frame = next(decoded)
                if newest in numbered:
                    held[newest] = frame
            frame = replace(held[pick.frame], instruction=line.instructions[pick.frame])
            yield (
                pick.begins,
                EpisodeFrame(
                    frame,
                    line.states[pick.frame] if line.states else None,
                    line.actions[pick.frame] if line.actions else None,
                ),
            )
            later = source.picks[place + 1].frame if place + 1 < len(source.picks) else None
            if later != pick.frame:
                held.pop(pick.frame, None)


def _facts(source: _Source, frame: Frame) -> dict[str, Any]:
    """Return what is stored beside an episode."""
    return {'source': source.path.name, 'frame_id': frame.frame_id, 'K': None, 'topics': source.line.topics}


def _add_intrinsics(facts: dict[str, Any], frame: Frame, result: Conversion) -> None:
    """Add the intrinsics of the first frame that has them; note it where they change."""
    if frame.K is None:
        return
    K = np.asarray(frame.K, np.float64).ravel().tolist()
    note = f'the intrinsics of {facts["source"]} change within an episode; those of its first frame are stored.'
    if facts['K'] is None:
        facts['K'] = K
    elif facts['K'] != K and note not in result.notes:
        result.notes.append(note)
