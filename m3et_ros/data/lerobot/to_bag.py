"""Convert episodes of a LeRobot data set to recordings, each to one of its own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.bags.writer import BagWriter
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import NANOSECONDS, Frame
from m3et_ros.data.lerobot.from_bag import ACTION_TOPIC, STATE_TOPIC
from m3et_ros.data.lerobot.reader import LeRobotReader, StoredEpisode
from m3et_ros.data.lerobot.robot_topics import JOINTS, POSE, message_of
from m3et_ros.data.lerobot.schema import ACTION, STATE, EpisodeFrame
from m3et_ros.data.lerobot.timeline import INSTRUCTION_NAMES, INSTRUCTION_TYPE


@dataclass
class BagConversion:
    """Result of a conversion."""

    # Recordings written, in the order of the episodes.
    bags: list[Path] = field(default_factory=list)
    # Frames written in all, and rows left out because they repeat the frame before.
    frames: int = 0
    repeated: int = 0
    # Sentences on what was left out.
    notes: list[str] = field(default_factory=list)


def convert_episodes(
    data: LeRobotReader,
    out: Path,
    *,
    episodes: Sequence[int] | None = None,
    track: Callable[[Iterator[Any], int], Iterator[Any]] = lambda items, _: items,
) -> BagConversion:
    """Write episodes as recordings: a single one as `out`, several as out/episode_000000 and so on.

    The topics are those of BagWriter, /instruction with a message wherever the task changes, and those that state and
    action came from; where the data set does not say that, joints on STATE_TOPIC and ACTION_TOPIC.

    Args:
        data: the data set.
        out: folder to create.
        episodes: their numbers; None for all.
        track: reports progress; it gets the rows and their number, and yields the rows.

    Raises:
        InputError: 'lerobot_episode', there is no such episode; the refusals of LeRobotReader and BagWriter.
        OSError: a recording cannot be written.
    """
    numbers = range(len(data.episodes)) if episodes is None else episodes
    for number in numbers:
        if not 0 <= number < len(data.episodes):
            raise InputError(
                'lerobot_episode', f'{data.root} has no episode {number}; give 0 to {len(data.episodes) - 1}'
            )
    chosen = [data.episodes[number] for number in numbers]
    result = BagConversion(notes=list(data.notes))
    rows = ((episode, row) for episode in chosen for row in data.frames(episode))
    places = {one.index: out if len(chosen) == 1 else out / f'episode_{one.index:06d}' for one in chosen}
    if len(chosen) > 1:
        if out.exists():
            raise InputError('bag_exists', f'{out} exists already and is never overwritten; give another path')
        out.mkdir(parents=True)
    writer: _EpisodeBag | None = None
    try:
        for episode, row in track(rows, sum(one.length for one in chosen)):
            if writer is None or writer.episode is not episode:
                if writer is not None:
                    writer.bag.close()
                writer = _EpisodeBag(data, episode, BagWriter(places[episode.index]))
                result.bags.append(places[episode.index])
            if writer.write(row):
                result.frames += 1
            else:
                result.repeated += 1
    except OSError as error:
        if writer is not None:
            writer.bag.__exit__(type(error), error, None)
        raise
    finally:
        if writer is not None:
            writer.bag.close()
    return result


class _EpisodeBag:
    """The recording of one episode."""

    def __init__(self, data: LeRobotReader, episode: StoredEpisode, bag: BagWriter):
        self.episode, self.bag = episode, bag
        self._names = {
            key: feature.value_names for key, feature in ((STATE, data.state), (ACTION, data.action)) if feature
        }
        topics = episode.facts.get('topics', {})
        self._topics = {
            key: topics.get(key, (usual, JOINTS)) for key, usual in ((STATE, STATE_TOPIC), (ACTION, ACTION_TOPIC))
        }
        self._instruction = ''
        self._stamp: int | None = None
        self._store = typestore()

    def write(self, row: EpisodeFrame) -> bool:
        """Write a row; return False for one that repeats the frame before, as resampling leaves them."""
        frame = row.frame
        if frame.stamp_ns == self._stamp:
            return False
        self._stamp = frame.stamp_ns
        if frame.instruction != self._instruction:
            self._instruction = frame.instruction
            message = self._store.types[INSTRUCTION_TYPE](header=self._header(frame), text=frame.instruction)
            self.bag.write_message(INSTRUCTION_NAMES[0], INSTRUCTION_TYPE, message, frame.stamp_ns, latched=True)
        # A state counts for the frame behind it, an action for the frame before it.
        self._write_vector(STATE, row.state, frame)
        self.bag.write_frame(frame)
        self._write_vector(ACTION, row.action, frame)
        return True

    def _write_vector(self, key: str, vector: np.ndarray | None, frame: Frame) -> None:
        if vector is not None:
            topic, kind = self._topics[key]
            header = self._header(frame, 'map' if kind == POSE else '')
            self.bag.write_message(
                topic, kind, message_of(self._store, kind, vector, self._names[key], header), frame.stamp_ns
            )

    def _header(self, frame: Frame, frame_id: str = '') -> Any:
        seconds, nanoseconds = divmod(frame.stamp_ns, NANOSECONDS)
        stamp = self._store.types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds)
        return self._store.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)
