"""Label recordings: choose frames, let the teachers label them, and write the data set that data.labelled reads.

A frame is written in blocks of BLOCK; a block that is written stays, so an interrupted run continues there. The tables
and labelled.json are written last: without labelled.json the folder is not read.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import find_camera
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable, write_atomically
from m3et_ros.data.frame import NANOSECONDS, Frame
from m3et_ros.data.images.messages import depth_to_mm
from m3et_ros.data.kitchen.questions.frame import EVERYWHERE
from m3et_ros.data.labelled.facts import OBJECTS_FILE, QUESTIONS_FILE, AnsweredFact, ObjectFact, names_of, write_facts
from m3et_ros.data.labelled.samples import CONTENTS, read_contents, write_contents
from m3et_ros.data.preprocess import squeeze_depth, squeeze_labels, squeeze_rgb
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.shards import QUESTION, clear_parts, frame_type, read_header, write_shard
from m3et_ros.training.teach.teachers import LabelledFrame, Labeller, Teachers, softened

BLOCK = 32
HELD_OUT, GAP = 1 / 3, 1 / 20
"""Share of a recording's time, at its end, that is held out, and share before it that is left out between the two."""
THUMBNAIL = (32, 24)
"""Width and height at which frames are compared."""
CHANGED, GREYS = 0.05, 12
"""A frame is new if more than this share of the cells of its thumbnail has changed by more than so many grey levels."""
FEWEST = {'train': 8, 'held_out': 2}
"""Fewest frames of each split."""
RECIPE = 'recipe.json'
STRIDE = 4
"""Pixels of a frame along a side of one pixel of its mask (data.shards)."""


@dataclass(frozen=True)
class _Chosen:
    """A frame that is labelled."""

    frame: Frame
    # One of data.labelled.samples.SPLITS.
    split: str
    # Seconds after the first frame of its recording.
    time_s: float


class FrameChoice:
    """Chooses the frames of recordings: no near duplicates, and a gap in time between training and held-out frames.

    Args:
        bags: rosbag2 folders or files.
        every: n for only every n-th frame.
        progress: see data.progress.Progress.

    Attributes:
        seen, damaged, duplicates, gap: number of frames seen and of those left out, for the record.
    """

    def __init__(self, bags: Sequence[Path], every: int = 1, progress: Progress = no_progress):
        self.bags, self.every, self._progress = bags, every, progress
        self.seen = self.damaged = self.duplicates = self.gap = 0

    def __iter__(self) -> Iterator[_Chosen]:
        for path in self.bags:
            yield from self._of_bag(path)

    def _of_bag(self, path: Path) -> Iterator[_Chosen]:
        with BagReader(path) as reader:
            camera = find_camera(reader)
            first, last = None, None
            pictures = frames(
                reader, rgb_topic=camera.rgb, depth_topic=camera.depth, every=self.every, on_damaged=self._count_damaged
            )
            count = reader.topics[camera.rgb].count // self.every
            for frame in self._progress(self._readable(reader, pictures), count, f'frames of {path.name}', 'frame'):
                self.seen += 1
                first = frame.stamp_ns if first is None else first
                time_s = (frame.stamp_ns - first) / NANOSECONDS
                share = time_s / max(reader.duration_s, 1e-9)
                if 1 - HELD_OUT - GAP <= share < 1 - HELD_OUT:
                    self.gap += 1
                    continue
                small = thumbnail(frame.rgb)
                if last is not None and not differs(small, last):
                    self.duplicates += 1
                    continue
                last = small
                depth = softened(frame.depth)
                yield _Chosen(replace(frame, depth=depth), 'train' if share < 1 - HELD_OUT else 'held_out', time_s)

    def _count_damaged(self, _: InputError) -> None:
        self.damaged += 1

    def _readable(self, reader: BagReader, pictures: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames before the damage of a truncated bag."""
        try:
            yield from pictures
        except InputError:
            if reader.damage is None:
                raise
            self.damaged += 1


def thumbnail(rgb: np.ndarray) -> np.ndarray:
    """Return grey levels (24, 32) float32 of a picture (H, W, 3) uint8."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)


def differs(one: np.ndarray, other: np.ndarray) -> bool:
    """Return True unless two thumbnails are near duplicates."""
    return float((np.abs(one - other) > GREYS).mean()) >= CHANGED


@dataclass(frozen=True)
class LabelOptions:
    """Properties of a labelled data set.

    Raises:
        ValueError: every is below 1, or size is none of data.shards.frame_type.
    """

    # Side of the stored pictures in pixels: the student's image size.
    size: int
    # n for only every n-th frame of a recording.
    every: int = 1

    def __post_init__(self):
        frame_type(self.size)
        if self.every < 1:
            raise ValueError(f'every is {self.every}; give 1 or more')


def label(
    bags: Sequence[Path], out: Path, teachers: Teachers, options: LabelOptions, progress: Progress = no_progress
) -> dict[str, Any]:
    """Label recordings into a folder; a folder that is labelled already is returned as it is, corrections kept.

    Args:
        bags: rosbag2 folders or files.
        out: folder of the data set; created if missing.
        teachers: the networks, and the student.
        options: size and choice of frames.
        progress: see data.progress.Progress.

    Returns:
        The contents of labelled.json.

    Raises:
        InputError: 'labelled', the folder belongs to other recordings or teachers; 'few_frames', too few frames differ;
            'teacher_blind', the teachers find nothing; 'cache_unwritable' or 'out_unwritable', the disk is full or not
            writable (finished blocks are kept); and the refusals of the bags and teachers.
    """
    recipe = _recipe(bags, teachers, options)
    with refuse_unwritable(out, 'give a writable folder with free space, and run it again: finished blocks are kept'):
        out.mkdir(parents=True, exist_ok=True)
        _claim(out, recipe)
        if (out / CONTENTS).exists():
            return read_contents(out)
        clear_parts(out)
        choice = FrameChoice(bags, options.every, progress)
        labeller = Labeller(teachers)
        shards, splits, times = _write_blocks(choice, labeller, out, options)
        _check_frames(choice, splits)
        facts, answered = _stored_facts(out, shards)
        _check_found(facts, teachers)
        write_facts(out / OBJECTS_FILE, facts, ObjectFact)
        write_facts(out / QUESTIONS_FILE, answered, AnsweredFact)
        write_contents(out, _contents(choice, labeller, facts, shards, splits) | {'times': times, 'recipe': recipe})
    return read_contents(out)


def _write_blocks(
    choice: FrameChoice, labeller: Labeller, out: Path, options: LabelOptions
) -> tuple[list[str], list[str], list[float]]:
    """Write the blocks that are not there yet; return the names of all, and split and time of each frame."""
    shards: list[str] = []
    splits: list[str] = []
    times: list[float] = []
    for block in _blocks(choice):
        name = f'{len(shards):07d}'
        if not (out / name).exists():
            labelled = [labeller.label(one.frame) for one in block]
            _write_block(out / name, block, labelled, options.size, len(splits))
        shards.append(name)
        splits += [one.split for one in block]
        times += [round(one.time_s, 3) for one in block]
    return shards, splits, times


def _blocks(chosen: Iterable[_Chosen]) -> Iterator[list[_Chosen]]:
    block: list[_Chosen] = []
    for one in chosen:
        block.append(one)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _write_block(
    path: Path, block: Sequence[_Chosen], labelled: Sequence[LabelledFrame], size: int, first: int
) -> None:
    """Write a block of frames; `first` is the number of its first frame."""
    records: Any = np.zeros(len(block), frame_type(size, STRIDE))
    facts: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    for place, (one, found) in enumerate(zip(block, labelled, strict=True)):
        record, depth = records[place], softened(found.depth)
        record['rgb'] = squeeze_rgb(one.frame.rgb, size)
        record['depth'] = depth_to_mm(squeeze_depth(depth, size)) if depth is not None else 0
        record['semseg'] = squeeze_labels(found.mask, size // STRIDE)
        record['seed'], record['tick'] = one.frame.stamp_ns, first + place
        record['now'] = record['next'] = -1
        facts += [asdict(replace(fact, frame=first + place)) for fact in found.facts]
        answered += [asdict(replace(fact, frame=first + place)) for fact in found.answered]
    header = {'questions': [], 'answers': [], 'facts': facts, 'answered': answered}
    write_shard(path, records, np.zeros(0, QUESTION), header)


def _stored_facts(out: Path, shards: Sequence[str]) -> tuple[list[ObjectFact], list[AnsweredFact]]:
    headers = [read_header(out / name) for name in shards]
    return (
        [ObjectFact(**row) for header in headers for row in header['facts']],
        [AnsweredFact(**row) for header in headers for row in header['answered']],
    )


def _contents(
    choice: FrameChoice, labeller: Labeller, facts: Sequence[ObjectFact], shards: list[str], splits: list[str]
) -> dict[str, Any]:
    """Return labelled.json; a name is asked about if the student has it or the recording shows it."""
    teachers = labeller.teachers
    seen, own = names_of(facts, ('thing',)), set(teachers.student.labels.classes)
    known = [
        name
        for name in sorted(teachers.names)
        if name not in EVERYWHERE and (name in own or name in seen) and (not teachers.wanted or name in teachers.wanted)
    ]
    return {
        'bags': [str(bag) for bag in choice.bags],
        'frames_seen': choice.seen,
        'near_duplicates': choice.duplicates,
        'in_the_gap': choice.gap,
        'damaged': choice.damaged,
        'student': teachers.student.model_id,
        'teachers': teachers.described(),
        'known': known,
        'unspelled': teachers.unspelled,
        'counted': [name for name in known if name in teachers.detected],
        'masks': labeller.masks,
        'shards': shards,
        'splits': splits,
    }


def _recipe(bags: Sequence[Path], teachers: Teachers, options: LabelOptions) -> dict[str, Any]:
    """Return what decides the labels."""
    files = []
    for bag in bags:
        if not bag.exists():
            raise InputError('bag_missing', f'there is no bag at {bag}; give a rosbag2 folder, .mcap or .db3 file')
        paths = sorted(path for path in bag.iterdir() if path.is_file()) if bag.is_dir() else [bag]
        files += [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    digest = hashlib.blake2b(json.dumps(files).encode(), digest_size=8).hexdigest()
    return {
        'recordings': digest,
        'student': teachers.student.model_id,
        'teachers': teachers.described(),
        'wanted': list(teachers.wanted),
        'ask': list(teachers.ask) if teachers.answerer is not None else [],
        **asdict(options),
    }


def _claim(out: Path, recipe: dict[str, Any]) -> None:
    """Write the recipe into a new folder, or compare it with the one that is there."""
    path = out / RECIPE
    if path.exists():
        found = read_json(path)
        if found != recipe:
            names = [name for name in recipe if not isinstance(found, dict) or found.get(name) != recipe[name]]
            raise InputError(
                'labelled', f'{out} was labelled with other {" and ".join(names)}; give the same, or another folder'
            )
        return
    with write_atomically(path) as part:
        part.write_text(json.dumps(recipe, indent=1), encoding='utf-8')


def _check_frames(choice: FrameChoice, splits: Sequence[str]) -> None:
    for split, fewest in FEWEST.items():
        count = splits.count(split)
        if count < fewest:
            raise InputError(
                'few_frames',
                f'{" and ".join(map(str, choice.bags))} gives {count} frames for the split {split} and at least '
                f'{fewest} are needed ({choice.seen} frames, of which {choice.duplicates} are near duplicates, '
                f'{choice.gap} lie in the gap before the held-out end and {choice.damaged} are damaged); record at '
                'least half a minute while the camera moves through the place',
            )


def _check_found(facts: Sequence[ObjectFact], teachers: Teachers) -> None:
    if teachers.names and not names_of(facts, ('thing',)):
        raise InputError(
            'teacher_blind',
            f'{" and ".join(teachers.described().values())} found nothing in the recording that they are sure of; give '
            'a teacher that knows the things of this place, or leave it out to learn depth alone',
        )
