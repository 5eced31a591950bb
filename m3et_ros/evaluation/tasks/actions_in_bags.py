"""One bag as an action head sees it: the frames that a stream takes in, each looked at once, one token a frame.

    part, times, files = watch_bag(engine, ActionTask(rate_hz=2.5), Path('kitchens/20000'))

Between two frames that the stream takes in the robot reads a copy of its state (runtime.actions); here it is asked at
the frames that are taken in alone. Same bag, same settings, same tokens.

Symbols: n frames taken in.
"""

import io
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.datasets.openeqa import episode_name
from m3et_ros.data.epic.annotations import Annotations, Segment, read_segments
from m3et_ros.data.epic.labels import Labelled, Unknown, labelled
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, Labels
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames
from m3et_ros.evaluation.jobs import Done, Job, JobRunner
from m3et_ros.evaluation.tasks.eqa import STRIP_HEIGHT, BagPass, small, topics_of
from m3et_ros.runtime.action_stream import broken
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_rate import FrameRate

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
    rate_hz: float = 0.0
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
        self.pace, self.stamps, self.breaks, self.late = FrameRate(rate_hz), [], [], 0
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
        look = BagPass(reader, camera, 1)
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
        raise InputError(
            'bag_part',
            f'{path} holds {tokens.shape} for {len(part["stamps_ns"])} frames; delete it and run the command again',
        )
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


# MERGED m3et_ros/evaluation/runs/action_jobs: Which segments are about which bag, and the processes that watch the bags (evaluation.runs.eqa_jobs).
#
# MERGED     asked = match_segments(bags, read_files(paths), labels)
# MERGED     done = run_jobs(ActionWorker(model, device, ActionTask(), out / PARTS), asked.jobs, workers, model, device, progress)
#
# MERGED A part depends on its bag and the model, not on the segments: with other labels nothing is looked at again.
NAMED = 8
"""So many words are named in a sentence."""


@dataclass(frozen=True)
class BagActions:
    """Bags and what is done in them."""

    # Bags with segments of which the model knows verb and noun, by name in order.
    jobs: tuple[Job, ...]
    # Name of a bag to these segments, in the order of their start.
    segments: dict[str, tuple[Labelled, ...]]
    # Of the segments about these bags, what the model has no word for.
    unknown: Unknown
    # Bags about which there is none of these segments.
    without: tuple[str, ...]
    # Segments about bags that were not given.
    elsewhere: int
    # Sentences about what was odd and kept, or left out.
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many segments are asked for."""
        return sum(map(len, self.segments.values()))


def read_files(paths: Sequence[Path]) -> list[Annotations]:
    """Files of segments.

    Raises:
        InputError: as data.epic.read_segments, and where two files share a narration_id.
    """
    files = [read_segments(path, None) for path in paths]
    names = Counter(segment.narration_id for file in files for segment in file.segments)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(
            'data_format',
            f'{" and ".join(map(str, paths))}: narration_id {twice} stands in two of them; give each segment its own',
        )
    return files


def match_segments(bags: Sequence[Path], files: Sequence[Annotations], labels: Labels) -> BagActions:
    """Which segments are about which bag: video_id is its name (data.openeqa.episode_name).

    Raises:
        InputError: 'segments_bags' where two bags have one name, or no segment is about any of them; 'segments_words'
            where the model knows none of their words.
    """
    names = Counter(map(episode_name, bags))
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(
            'segments_bags',
            f'two bags are called {twice}, and segments know bags by their names; rename '
            'one of them, or evaluate them apart',
        )
    whole = [segment for file in files for segment in file.segments]
    about = [segment for segment in whole if segment.video in names]
    if not about:
        raise InputError(
            'segments_bags',
            f'no segment is about {_listed(sorted(names))}: their video_id are '
            f'{_listed(dict.fromkeys(segment.video for segment in whole))}; rename the bag, or give the '
            'segments that belong to it',
        )
    known, unknown = labelled(about, labels)
    if not known:
        raise InputError(
            'segments_words',
            f'the model has no word for {_unknown(unknown)}, and no segment is left; it '
            f'knows the verbs {", ".join(labels.verbs)} and the nouns {", ".join(labels.nouns)}: give '
            'segments with these words, or a model that has learnt yours',
        )
    segments = _by_bag(known)
    jobs = tuple(Job(bag, ()) for bag in sorted(bags, key=episode_name) if episode_name(bag) in segments)
    left_out = (
        [
            f'{unknown.segments} of {len(about)} segments are left out, for the model has no word for them: '
            f'{_unknown(unknown)}.'
        ]
        if unknown.segments
        else []
    )
    return BagActions(
        jobs,
        segments,
        unknown,
        tuple(sorted(names - segments.keys())),
        len(whole) - len(about),
        (*(note.text for file in files for note in file.notes), *left_out),
    )


def _by_bag(known: Sequence[Labelled]) -> dict[str, tuple[Labelled, ...]]:
    def when(one: Labelled) -> tuple[float, float, str]:
        segment: Segment = one.segment
        return segment.start_s, segment.stop_s, segment.narration_id

    return {
        bag: tuple(sorted((one for one in known if one.segment.video == bag), key=when))
        for bag in sorted({one.segment.video for one in known})
    }


def _unknown(unknown: Unknown) -> str:
    """'verbs fly (3), nouns kite (2), cloud'."""
    return ', '.join(
        f'{kind} ' + _listed(f'{word} ({count})' if count > 1 else word for word, count in words.items())
        for kind, words in (('verbs', unknown.verbs), ('nouns', unknown.nouns))
        if words
    )


def _listed(words: Iterable[str]) -> str:
    found = list(islice(words, NAMED + 1))
    return ', '.join(found[:NAMED]) + (' ...' if len(found) > NAMED else '')


class ActionWorker(JobRunner):
    """Watches bags with one model that has an action head; see Worker.

    Raises:
        InputError: as Worker, and 'model_config' where the model has no such head.
    """

    version = 'actions 1'

    def __init__(self, model: str, device: str, task: ActionTask, folder: Path):
        super().__init__(model, device, task, folder)
        head = self.engine.checkpoint.heads.get('mambavl')
        if head is None:
            raise InputError(
                'model_config', f'{self.engine.model_id} has no action head; train one with m3et train actions'
            )
        self.task = replace(task, rate_hz=head.config.rate_hz or 0.0)

    def do(self, job: Job) -> Done:
        """Progress a bag, or find what was made of it before; a part without its tokens is none."""
        part = self.folder / f'{job.name}.json'
        if part.is_file() and not (self.folder / f'{job.name}.{TOKENS}').is_file():
            part.unlink()
        return super().do(job)

    def _watch(self, job: Job) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, bytes]]:
        return watch_bag(self.engine, self.task, job.bag)
