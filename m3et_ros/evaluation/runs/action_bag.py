"""One bag as an action head sees it: the frames that a stream takes in, each looked at once, one token a frame.

    part, times, files = watch_bag(engine, ActionTask(rate_hz=2.5), Path('kitchens/20000'))

Between two frames that the stream takes in the robot reads a copy of its state (runtime.actions); here it is asked at
the frames that are taken in alone. Same bag, same settings, same tokens.

Symbols: n frames taken in.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.bags import BagReader
from m3et_ros.data.epic_words import Labelled
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.episodes import Action, EpisodeFrames
from m3et_ros.data.types import Frame
from m3et_ros.evaluation.runs.eqa_bag import STRIP_HEIGHT, Look, small, topics_of
from m3et_ros.runtime.actions import broken
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.pace import Pace

TOKENS, PICTURES = 'tokens.npy', 'jpegs'
"""What files of a bag end with: tokens (n, frame_width) float16, as heads learn from; small JPEGs one after another."""

QUALITY = 80


@dataclass(frozen=True)
class ActionTask:
    """How bags are watched.

    Raises:
        ValueError: a setting is out of its range.
    """

    # Frames a second that the stream takes in, as its head was trained; 0 takes all.
    rate_hz: float = 0.
    # Prefix of the camera's topics, such as '/camera/camera'; None finds the camera (bag_topics.find_camera).
    camera: str | None = None
    # Topic in the bag -> what it is called here.
    remaps: dict[str, str] = field(default_factory=dict)
    # Threads of each process; results may differ in the last digit between numbers of threads.
    threads: int = 1

    def __post_init__(self):
        for name, least in (('rate_hz', 0), ('threads', 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f'{name} is {getattr(self, name)}; give {least} or more')

    def settings(self) -> dict[str, Any]:
        """What metrics.json says of it."""
        return asdict(self)


class Chosen:
    """The frames that a stream takes in, and where it begins anew; a frame older than one before is none of them.

    Args:
        rate_hz: of the head.

    Attributes:
        stamps: times of exposure in ns, rising.
        breaks: places among them where the stream begins anew.
        late: frames that were older than one before.
    """

    def __init__(self, rate_hz: float):
        self.pace, self.stamps, self.breaks, self.late = Pace(rate_hz), [], [], 0
        self._newest: int | None = None

    def __call__(self, frame: Frame) -> bool:
        """Whether a frame is taken in."""
        if self._newest is not None and frame.stamp_ns < self._newest:
            self.late += 1
            return False
        if broken(self._newest, frame.stamp_ns):
            self.pace.reset()
            self.breaks.append(len(self.stamps))
        self._newest = frame.stamp_ns
        if not self.pace.due(frame.stamp_ns):
            return False
        self.pace.take(frame.stamp_ns)
        self.stamps.append(frame.stamp_ns)
        return True


def watch_bag(engine: Engine, task: ActionTask, bag: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
    """Look at a bag.

    Args:
        engine: a model with an action head; threads are the caller's affair.
        task: how.
        bag: rosbag2 folder, .mcap or .db3 file.

    Returns:
        The part: as Look.part gives it, with 'stamps_ns' of the frames taken in, 'breaks' (EpisodeFrames) and
        'pictures', the end of each JPEG; times in milliseconds; TOKENS and PICTURES.

    Raises:
        InputError: nothing of the bag can be used.
    """
    start, chosen = time.perf_counter(), Chosen(task.rate_hz)
    tokens, pictures, encode_ms = [], [], []
    with BagReader(bag) as reader:
        camera = topics_of(reader, task)
        look = Look(reader, camera, 1)
        for frame in look:
            if not chosen(frame):
                continue
            began = time.perf_counter()
            tokens.append(engine.action_token(engine.encode(frame))[0, 0].half().cpu().numpy())
            encode_ms.append(1e3 * (time.perf_counter() - began))
            pictures.append(_jpeg(frame.rgb))
    look.refuse_nothing(bag, camera)
    if chosen.late:
        look.troubles.append(f'{chosen.late} frames are older than one that came before and are left out')
    ends = np.cumsum([len(picture) for picture in pictures]).tolist()
    part = look.part(bag, camera, []) | {'stamps_ns': chosen.stamps, 'breaks': chosen.breaks, 'pictures': ends}
    file = io.BytesIO()
    np.save(file, np.stack(tokens), allow_pickle=False)
    times = {'encode_ms': encode_ms, 'answer_ms': [], 'wall_s': time.perf_counter() - start}
    return part, times, {TOKENS: file.getvalue(), PICTURES: b''.join(pictures)}


def _jpeg(rgb: np.ndarray) -> bytes:
    height, width = rgb.shape[:2]
    picture = cv2.cvtColor(small(rgb, max(1, round(width * STRIP_HEIGHT / height))), cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def read_tokens(folder: Path, part: dict[str, Any]) -> np.ndarray:
    """The tokens of a part, (n, frame_width) float16.

    Raises:
        InputError: 'bag_part' where they are not there or belong to another part.
    """
    path = folder / f'{part["bag"]}.{TOKENS}'
    try:
        tokens = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError('bag_part', f'{path} cannot be read ({error}); delete it and run the command again') from error
    if tokens.ndim != 2 or len(tokens) != len(part['stamps_ns']):
        raise InputError('bag_part', f'{path} holds {tokens.shape} for {len(part["stamps_ns"])} frames; delete it and '
                         'run the command again')
    return tokens


def read_picture(folder: Path, part: dict[str, Any], place: int) -> bytes:
    """The JPEG of a frame of a part; empty where it is not there."""
    ends = [0, *part['pictures']]
    try:
        with (folder / f'{part["bag"]}.{PICTURES}').open('rb') as file:
            file.seek(ends[place])
            return file.read(ends[place + 1] - ends[place])
    except OSError:
        return b''


def episode_of(part: dict[str, Any], own: Sequence[Labelled], first: int) -> EpisodeFrames:
    """A part with its actions.

    Args:
        part: of watch_bag.
        own: its segments in the order of their start; times count from the first frame of the bag.
        first: number of its first frame among those of all parts.
    """
    stamps = (np.array(part['stamps_ns'], np.int64) - part['first_ns']) / 1e9
    actions = tuple(Action(one.segment.start_s, one.segment.stop_s, one.verb, one.noun) for one in own)
    return EpisodeFrames(part['bag'], first, stamps, actions, breaks=tuple(part['breaks']))
