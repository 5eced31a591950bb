"""Read segments of EPIC-KITCHENS-100 (Damen et al., IJCV 2022) from the official CSV files (docs/papers.md 9.1).

Times come from timestamps, never from frame numbers: the files count frames at 50, 59.94 or, in some copies, 30 per
second. Odd segments (of an unknown class, without length, overlapping) are kept and counted in notes; a segment without
a valid time is refused. Times are seconds from the start of the video.
"""

import bisect
import csv
import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.data.errors import InputError, printable
from m3et_ros.data.files import open_regular

GAP_S = 1.0
"""Seconds between the last visible moment and the start of the anticipated action (docs/papers.md 7.7)."""

HELD_OUT = 80
"""Training videos held out of training, so that models can be compared without the validation split."""

NEEDED = ('narration_id', 'participant_id', 'video_id', 'start_timestamp', 'stop_timestamp', 'verb_class', 'noun_class')
"""Columns that every file needs; the others of the official 15 are optional."""

TIMED = ('narration_id', 'video_id', 'start_timestamp', 'stop_timestamp')
"""Columns needed where verbs and nouns are given as words (data.epic.labels)."""

NO_CLASS = -1
"""Class id of a segment whose file has none."""

FILES = {
    'train': ('EPIC_100_train.csv', 'EPIC_100_train_labels.csv'),
    'validation': ('EPIC_100_validation.csv',),
    'uda_source_train': ('EPIC_100_uda_source_train.csv',),
    'uda_source_val': ('EPIC_100_uda_source_val.csv',),
    'uda_target_val': ('EPIC_100_uda_target_val.csv',),
}
"""Splits with labels: name to candidate files; the first that exists is read."""

CLOCK = re.compile(r'(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)')
TOLERANCE_S = 1e-6
"""Tolerance of comparisons: timestamps are decimal and their differences are rounded in binary."""


@dataclass(frozen=True)
class Segment:
    """One labelled action.

    Raises:
        ValueError: a time is negative or not finite, or the end lies before the start.
    """

    # Official id, for example 'P01_01_12'; each segment's own.
    narration_id: str
    # For example 'P01_01'.
    video: str
    # For example 'P01'; the video where the file lacks it.
    participant: str
    # Start in seconds.
    start_s: float
    # End in seconds, not before the start.
    stop_s: float
    # Class ids as the file has them; NO_CLASS where the words are used instead.
    verb: int
    noun: int
    # Words of the participant, empty where the file lacks them.
    narration: str = ''
    # Words of verb and noun as the file has them, for example 'turn-on' and 'board:chopping'; empty where it has none.
    verb_word: str = ''
    noun_word: str = ''
    # Picture at the start, counted from 1 at a rate that differs between copies; None where the file has none.
    start_frame: int | None = field(default=None, compare=False)

    def __post_init__(self):
        if not (math.isfinite(self.stop_s) and 0 <= self.start_s <= self.stop_s):
            raise ValueError(
                f'{self.narration_id} lasts from {self.start_s} to {self.stop_s}; give seconds from 0, '
                'the end not before the start'
            )


@dataclass(frozen=True)
class Note:
    """An oddity of the data that was kept."""

    # Short snake_case word, for example 'zero_length'.
    kind: str
    # Number of segments or videos.
    count: int
    # One sentence: what, why it matters, and the fix.
    text: str


@dataclass(frozen=True)
class Annotations:
    """The segments of a file."""

    # The file.
    path: Path
    # In the order of the file.
    segments: tuple[Segment, ...]
    # Its oddities.
    notes: tuple[Note, ...]

    @property
    def videos(self) -> dict[str, list[int]]:
        """Video to the positions of its segments, in order of the start; videos in order of first mention."""
        found: dict[str, list[int]] = defaultdict(list)
        for position, segment in enumerate(self.segments):
            found[segment.video].append(position)
        return {
            video: sorted(own, key=lambda i: (self.segments[i].start_s, self.segments[i].stop_s, i))
            for video, own in found.items()
        }

    @property
    def participants(self) -> tuple[str, ...]:
        """All participants, sorted."""
        return tuple(sorted({segment.participant for segment in self.segments}))

    @property
    def recorded_by(self) -> dict[str, str]:
        """Participant of each video; videos in order of first mention."""
        return {segment.video: segment.participant for segment in self.segments}

    def only(self, videos: Iterable[str]) -> 'Annotations':
        """Return the segments of some videos; the notes are still those of the whole file."""
        wanted = set(videos)
        return Annotations(self.path, tuple(s for s in self.segments if s.video in wanted), self.notes)


def find_split(folder: str | Path, split: str) -> Path:
    """Find the file of a split: a name of FILES, or the path of a CSV file.

    Raises:
        InputError: there is no such file.
    """
    if split in FILES:
        for name in FILES[split]:
            if (path := Path(folder) / name).is_file():
                return path
        raise InputError(
            'data_missing',
            f'{folder} has no {FILES[split][0]}; put the file of the EPIC-KITCHENS-100 annotations there',
        )
    path = Path(split)
    if not path.is_file():
        raise InputError('data_missing', f'{split} is neither a split ({", ".join(FILES)}) nor a CSV file; give one')
    return path


def read_segments(path: str | Path, classes: Classes | None) -> Annotations:
    """Read a file of labelled segments.

    Args:
        path: a CSV file with the official columns.
        classes: lists of the known ids; None to use words instead: the file then needs the columns TIMED, and words or
            ids for each segment.

    Raises:
        InputError: the file or a column is missing, a time or class id is not a number, or a narration id comes twice;
            the message names line and column.
    """
    path = Path(path)
    segments, reversed_ids = [], []
    for line, row in read_rows(path, NEEDED if classes else TIMED):
        segment, ends_early = _segment(path, line, row, words=classes is None)
        segments.append(segment)
        if ends_early:
            reversed_ids.append(segment.narration_id)
    if not segments:
        raise InputError('data_format', f'{path} holds no segment; give a file with some')
    _check_ids(path, segments)
    return Annotations(path, tuple(segments), tuple(_notes(path, segments, reversed_ids, classes)))


def read_rows(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read the rows of a CSV file by column name, each with the line on which it ends.

    Raises:
        InputError: the file is missing, is not text, or lacks a column.
    """
    try:
        with open_regular(path, 'give a CSV file') as file:
            reader = csv.DictReader(io.TextIOWrapper(file, encoding='utf-8-sig', newline=''))
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            'data_missing', f'{path} cannot be read ({error}); give a CSV file of EPIC-KITCHENS-100'
        ) from error
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(
            'data_columns',
            f'{path} lacks the column{"s" if len(missing) > 1 else ""} {", ".join(missing)}; '
            'give the official file, which has them',
        )
    return rows


def seconds(text: str) -> float:
    """Convert an official timestamp to seconds, '00:01:02.34' to 62.34.

    Raises:
        ValueError: it is of another form.
    """
    found = CLOCK.fullmatch(text.strip())
    if not found:
        raise ValueError(f'{text!r} is not a time; give HH:MM:SS.ss')
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def held_out_videos(videos: Iterable[str], count: int = HELD_OUT, *, seed: int = 0, skip: int = 0) -> tuple[str, ...]:
    """Draw videos in the order of a hash of seed and name, so that a draw hardly depends on the other videos.

    Args:
        videos: names.
        count: number of videos to draw, 0 for none.
        seed: seed of the draw.
        skip: number of videos to pass over, so that a second draw shares none with the first.

    Returns:
        The names, sorted.

    Raises:
        ValueError: no video would be left to learn from.
    """
    names = sorted(set(videos), key=lambda name: hashlib.blake2b(f'{seed}:{name}'.encode(), digest_size=8).digest())
    if not 0 <= count + skip < len(names):
        raise ValueError(f'{count + skip} of {len(names)} videos cannot be held out; choose fewer')
    return tuple(sorted(names[skip : skip + count]))


def by_stop(segments: Sequence[Segment], positions: Iterable[int]) -> list[int]:
    """Return positions of one video's segments in order of their end: the first ones are visible at any moment."""
    return sorted(positions, key=lambda i: (segments[i].stop_s, segments[i].start_s, i))


def visible_counts(segments: Sequence[Segment], positions: Sequence[int], gap_s: float = GAP_S) -> list[int]:
    """Count the segments of a video that have ended when each target has to be anticipated.

    Args:
        segments: segments of the file.
        positions: positions of one video's segments, in order of the end (by_stop).
        gap_s: seconds between the last visible moment and the target's start.

    Returns:
        For each of `positions` the number n of segments with stop <= start - gap_s; they are positions[:n].
    """
    stops = [segments[i].stop_s for i in positions]
    return [bisect.bisect_right(stops, segments[i].start_s - gap_s + TOLERANCE_S) for i in positions]


def histories(annotations: Annotations, gap_s: float = GAP_S) -> list[list[int]]:
    """Return for each segment the positions of those of its video that end gap_s before it, in order of their end."""
    found: list[list[int]] = [[] for _ in annotations.segments]
    for own in annotations.videos.values():
        order = by_stop(annotations.segments, own)
        for position, count in zip(order, visible_counts(annotations.segments, order, gap_s), strict=True):
            found[position] = order[:count]
    return found


def _segment(path: Path, line: int, row: Mapping[str, str], *, words: bool) -> tuple[Segment, bool]:
    """Return a row as a segment, and True if it ends before it starts; with `words` these come before class ids."""
    texts = {column: (text or '').strip() for column, text in row.items() if column}

    def value(column: str, read: Callable[[str], Any]) -> Any:
        try:
            return read(texts.get(column, ''))
        except ValueError as error:
            raise InputError(
                'data_format',
                f'line {line} of {path} is not a labelled segment: in column {column} {error}'
                '; correct it, or give a file with labels',
            ) from error

    def class_of(column: str) -> int:
        if words and (texts.get(column) or not texts.get(f'{column}_class')):
            value(column, _filled)
            return NO_CLASS
        return value(f'{column}_class', _whole)

    start, stop = (value(f'{end}_timestamp', seconds) for end in ('start', 'stop'))
    video = value('video_id', _filled)
    participant = value('participant_id', _filled) if not words else texts.get('participant_id') or video
    segment = Segment(
        value('narration_id', _filled),
        video,
        participant,
        start,
        max(start, stop),
        class_of('verb'),
        class_of('noun'),
        row.get('narration') or '',
        texts.get('verb', ''),
        texts.get('noun', ''),
        int(frame) if (frame := texts.get('start_frame', '')).isdecimal() else None,
    )
    return segment, stop < start


def _whole(text: str) -> int:
    if not text.removeprefix('-').isdecimal():
        raise ValueError(f'{text!r} is not a whole number')
    return int(text)


def _filled(text: str) -> str:
    if not text:
        raise ValueError('there is nothing')
    return text


def _check_ids(path: Path, segments: Sequence[Segment]) -> None:
    known: set[str] = set()
    for segment in segments:
        if segment.narration_id in known:
            raise InputError('data_format', f'{path} holds {segment.narration_id} twice; give each segment once')
        known.add(segment.narration_id)


def _notes(
    path: Path, segments: Sequence[Segment], reversed_ids: Sequence[str], classes: Classes | None
) -> Iterable[Note]:
    unknown = [
        s.narration_id
        for s in segments
        if classes and not (0 <= s.verb < len(classes.verbs) and 0 <= s.noun < len(classes.nouns))
    ]
    empty = [s.narration_id for s in segments if s.start_s == s.stop_s and s.narration_id not in set(reversed_ids)]
    for kind, names, why in (
        (
            'unknown_class',
            unknown,
            'have a verb or noun that is not in the class lists; as targets they count as wrong for every model, '
            'and in histories they are unknown: give the lists that belong to the file',
        ),
        ('zero_length', empty, 'have no length; they are kept with a duration of 0: correct their stop_timestamp'),
        (
            'reversed',
            reversed_ids,
            'end before they start; they are kept with a duration of 0: correct their stop_timestamp',
        ),
    ):
        if names:
            first = printable(names[0])
            yield Note(kind, len(names), f'{len(names)} segments of {path.name} (first {first}) {why}.')
    overlapping = _overlapping(segments)
    if overlapping:
        yield Note(
            'overlapping',
            len(overlapping),
            f'{len(overlapping)} segments of {path.name} (first '
            f'{printable(overlapping[0])}) start before another one of the video has ended, as two hands do; '
            'both are kept: nothing to correct.',
        )


def _overlapping(segments: Sequence[Segment]) -> list[str]:
    """Return the ids of segments that start before an earlier one of the video has ended."""
    found: list[str] = []
    ends: dict[str, float] = {}
    for segment in sorted(segments, key=lambda s: (s.video, s.start_s, s.stop_s)):
        if segment.start_s < ends.get(segment.video, 0.0):
            found.append(segment.narration_id)
        ends[segment.video] = max(ends.get(segment.video, 0.0), segment.stop_s)
    return found
