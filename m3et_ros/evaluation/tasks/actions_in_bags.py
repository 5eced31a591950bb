"""Actions in recordings: match segments with bags, and encode each bag to the frame tokens of an action head.

    asked = match_segments(bags, read_files(paths), labels)
    runner = ActionJobRunner(model, device, ActionTask(), out / PARTS)
    results = run_jobs(runner, asked.jobs, workers, model, device, progress)

A bag becomes one token for each frame that the robot's action stream would use. A part depends on its bag and the model
but not on the segments, so other labels need no further encoding. Between two of these frames the robot answers from a
copy of its state (runtime.action_stream); here questions are asked at the used frames only.

Symbols: n used frames.
"""

import io
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.datasets.openeqa import EqaQuestion, episode_name
from m3et_ros.data.epic.annotations import Annotations, read_segments
from m3et_ros.data.epic.labels import Labelled, Unknown, labelled
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame, Labels
from m3et_ros.data.kitchen.cache.episodes import Action, EpisodeFrames
from m3et_ros.evaluation.jobs import Job, JobResult, JobRunner
from m3et_ros.evaluation.tasks.bag_pass import BagPass, jpeg, strip_picture, topics_of
from m3et_ros.runtime.action_stream import stream_break
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_rate import FrameRate

NAMED = 8
"""Most words that a sentence lists."""

TOKENS, PICTURES = 'tokens.npy', 'jpegs'
"""Endings of the files of a bag: tokens (n, frame_width) float16, and small JPEGs one after another."""

QUALITY = 80
"""JPEG quality of the small pictures."""


@dataclass(frozen=True)
class BagActions:
    """Bags and the actions in them."""

    # Bags with segments whose verb and noun the model knows, in the order of names.
    jobs: tuple[Job, ...]
    # Name of a bag to these segments, in the order of their start.
    segments: dict[str, tuple[Labelled, ...]]
    # Words of the segments about these bags that the model lacks.
    unknown: Unknown
    # Bags without any of these segments.
    without: tuple[str, ...]
    # Number of segments about bags that were not given.
    elsewhere: int
    # Sentences about odd segments, kept or left out.
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of segments that the model is asked for."""
        return sum(map(len, self.segments.values()))


def read_files(paths: Sequence[Path]) -> list[Annotations]:
    """Read files of segments.

    Raises:
        InputError: as data.epic.annotations.read_segments, and where two files share a narration_id.
    """
    files = [read_segments(path, None) for path in paths]
    names = Counter(segment.narration_id for file in files for segment in file.segments)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(
            'data_format',
            f'{" and ".join(map(str, paths))}: narration_id {twice} occurs in two of them; give each segment its own',
        )
    return files


def match_segments(bags: Sequence[Path], files: Sequence[Annotations], labels: Labels) -> BagActions:
    """Assign segments to bags: the video_id of a segment is the name of its bag (data.datasets.openeqa.episode_name).

    Raises:
        InputError: 'segments_bags' where two bags have one name, or no segment is about any bag; 'segments_words'
            where the model knows none of their words.
    """
    names = Counter(map(episode_name, bags))
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(
            'segments_bags',
            f'two bags are called {twice}, and segments refer to bags by name; rename one of them, or evaluate them '
            'separately',
        )
    segments = [segment for file in files for segment in file.segments]
    about = [segment for segment in segments if segment.video in names]
    if not about:
        raise InputError(
            'segments_bags',
            f'no segment is about {_listed(sorted(names))}: their video_id are '
            f'{_listed(dict.fromkeys(segment.video for segment in segments))}; rename the bag, or give the '
            'segments that belong to it',
        )
    known, unknown = labelled(about, labels)
    if not known:
        raise InputError(
            'segments_words',
            f'the model has no word for {_listed_unknown(unknown)}, and no segment is left; it '
            f'knows the verbs {", ".join(labels.verbs)} and the nouns {", ".join(labels.nouns)}: give '
            'segments with these words, or a model that was trained on yours',
        )
    by_bag = _by_bag(known)
    notes = [note.text for file in files for note in file.notes]
    if unknown.segments:
        notes.append(
            f'{unknown.segments} of {len(about)} segments are left out, because the model has no word for them: '
            f'{_listed_unknown(unknown)}.'
        )
    return BagActions(
        jobs=tuple(Job(bag, ()) for bag in sorted(bags, key=episode_name) if episode_name(bag) in by_bag),
        segments=by_bag,
        unknown=unknown,
        without=tuple(sorted(names - by_bag.keys())),
        elsewhere=len(segments) - len(about),
        notes=tuple(notes),
    )


def _by_bag(known: Sequence[Labelled]) -> dict[str, tuple[Labelled, ...]]:
    def when(one: Labelled) -> tuple[float, float, str]:
        return one.segment.start_s, one.segment.stop_s, one.segment.narration_id

    return {
        bag: tuple(sorted((one for one in known if one.segment.video == bag), key=when))
        for bag in sorted({one.segment.video for one in known})
    }


def _listed_unknown(unknown: Unknown) -> str:
    """List words and their counts: 'verbs fly (3), nouns kite (2), cloud'."""
    return ', '.join(
        f'{kind} ' + _listed(f'{word} ({count})' if count > 1 else word for word, count in words.items())
        for kind, words in (('verbs', unknown.verbs), ('nouns', unknown.nouns))
        if words
    )


def _listed(words: Iterable[str]) -> str:
    found = list(islice(words, NAMED + 1))
    return ', '.join(found[:NAMED]) + (' ...' if len(found) > NAMED else '')


@dataclass(frozen=True)
class ActionTask:
    """Settings of the task; see jobs.BagTask.

    Raises:
        ValueError: a setting is out of its range.
    """

    version: ClassVar[str] = 'actions 1'

    # Frames per second of the action stream, as its head was trained; 0 uses all.
    rate_hz: float = 0.0
    # Prefix of the camera's topics, such as '/camera/camera'; None finds the camera.
    camera: str | None = None
    # Topic in the bag -> its name here.
    remaps: dict[str, str] = field(default_factory=dict)
    # Threads of each process; other numbers of threads may change the last digit of a result.
    threads: int = 1

    def __post_init__(self):
        for name, least in (('rate_hz', 0), ('threads', 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f'{name} is {getattr(self, name)}; give {least} or more')

    def settings(self) -> dict[str, Any]:
        """Return the settings for metrics.json."""
        return asdict(self)

    def examine(
        self, engine: Engine, bag: Path, questions: Sequence[EqaQuestion]
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
        """Encode a bag as a job, see `encode_bag`; there are no questions."""
        return encode_bag(engine, self, bag)


class ActionJobRunner(JobRunner):
    """A JobRunner for bags and one model with an action head; it takes the same arguments.

    The task runs at the frame rate of the head.

    Raises:
        InputError: as JobRunner, and 'model_config' where the model has no action head.
    """

    def __init__(self, model: str, device: str, task: ActionTask, folder: Path):
        super().__init__(model, device, task, folder)
        head = self.engine.checkpoint.heads.get('mambavl')
        if head is None:
            raise InputError(
                'model_config', f'{self.engine.model_id} has no action head; train one with m3et train actions'
            )
        self.task = replace(task, rate_hz=head.config.rate_hz or 0.0)

    def run(self, job: Job) -> JobResult:
        """Encode a bag, or return the part that an earlier run made of it, if its tokens are still there."""
        part = self.folder / f'{job.name}.json'
        if part.is_file() and not (self.folder / f'{job.name}.{TOKENS}').is_file():
            part.unlink()
        return super().run(job)


class StreamSampler:
    """Choose the frames that an action stream uses, and where it restarts; older frames than before are skipped.

    Args:
        rate_hz: frame rate of the head.

    Attributes:
        stamps: stamps of the used frames in ns, rising.
        breaks: positions among them where the stream restarts.
        late: number of frames that were older than one before.
    """

    def __init__(self, rate_hz: float):
        self.stamps: list[int] = []
        self.breaks: list[int] = []
        self.late = 0
        self._rate = FrameRate(rate_hz)
        self._newest: int | None = None

    def use(self, frame: Frame) -> bool:
        """Return whether the stream uses a frame."""
        if self._newest is not None and frame.stamp_ns < self._newest:
            self.late += 1
            return False
        if stream_break(self._newest, frame.stamp_ns):
            self._rate.reset()
            self.breaks.append(len(self.stamps))
        self._newest = frame.stamp_ns
        if not self._rate.due(frame.stamp_ns):
            return False
        self._rate.take(frame.stamp_ns)
        self.stamps.append(frame.stamp_ns)
        return True


def encode_bag(engine: Engine, task: ActionTask, bag: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
    """Encode a bag to frame tokens. The same bag with the same settings gives the same tokens.

    Args:
        engine: a model with an action head; the caller sets the number of threads.
        task: settings.
        bag: rosbag2 folder, .mcap or .db3 file.

    Returns:
        The part, as BagPass.part returns it, with 'stamps_ns' of the used frames, 'breaks' (see EpisodeFrames) and
        'pictures', the end of each JPEG; times in milliseconds; the files TOKENS and PICTURES.

    Raises:
        InputError: nothing of the bag can be used.
    """
    start, sampler = time.perf_counter(), StreamSampler(task.rate_hz)
    tokens, pictures, encode_ms = [], [], []
    with BagReader(bag) as reader:
        bag_pass = BagPass(reader, topics_of(reader, task.camera, task.remaps))
        for frame in bag_pass:
            if not sampler.use(frame):
                continue
            began = time.perf_counter()
            tokens.append(engine.action_token(engine.encode(frame))[0, 0].half().cpu().numpy())
            encode_ms.append(1e3 * (time.perf_counter() - began))
            pictures.append(jpeg(strip_picture(frame.rgb), QUALITY))
    bag_pass.require_frames(bag)
    if sampler.late:
        bag_pass.troubles.append(f'{sampler.late} frames are older than one that came before and are left out')
    ends = np.cumsum([len(picture) for picture in pictures]).tolist()
    part = bag_pass.part(bag, []) | {'stamps_ns': sampler.stamps, 'breaks': sampler.breaks, 'pictures': ends}
    file = io.BytesIO()
    np.save(file, np.stack(tokens), allow_pickle=False)
    times = {'encode_ms': encode_ms, 'answer_ms': [], 'wall_s': time.perf_counter() - start}
    return part, times, {TOKENS: file.getvalue(), PICTURES: b''.join(pictures)}


def read_tokens(folder: Path, part: dict[str, Any]) -> np.ndarray:
    """Read the tokens of a part, (n, frame_width) float16.

    Raises:
        InputError: 'bag_part' where the file is missing or belongs to another part.
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


def read_picture(folder: Path, part: dict[str, Any], frame: int) -> bytes:
    """Read the JPEG of a frame of a part; empty where the file is missing."""
    ends = [0, *part['pictures']]
    try:
        with (folder / f'{part["bag"]}.{PICTURES}').open('rb') as file:
            file.seek(ends[frame])
            return file.read(ends[frame + 1] - ends[frame])
    except OSError:
        return b''


def episode_of(part: dict[str, Any], segments: Sequence[Labelled], first: int) -> EpisodeFrames:
    """Convert a part and its segments to an episode.

    Args:
        part: part of encode_bag.
        segments: segments of the bag in the order of their start; times count from the first frame of the bag.
        first: number of its first frame among those of all parts.
    """
    stamps = (np.array(part['stamps_ns'], np.int64) - part['first_ns']) / 1e9
    actions = tuple(Action(one.segment.start_s, one.segment.stop_s, one.verb, one.noun) for one in segments)
    return EpisodeFrames(part['bag'], first, stamps, actions, breaks=tuple(part['breaks']))
