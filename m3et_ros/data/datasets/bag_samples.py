"""A rosbag of the user as samples: colours, with depth where it was recorded, and no labels.

A bag can only be read in order, so its frames are decoded once, squeezed to the model's size and stored as shards that
are memory-mapped. Symbols: S side of the stored square, N frames.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from m3et_ros.data.bags.frames import frames
from m3et_ros.data.bags.reader import BagReader
from m3et_ros.data.bags.topics import CameraTopics, find_camera
from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.frame import UNLABELLED, Frame
from m3et_ros.data.images.messages import depth_to_mm, metres
from m3et_ros.data.noise import Noise
from m3et_ros.data.preprocess import squeeze_depth, squeeze_rgb
from m3et_ros.data.sample import Sample
from m3et_ros.data.shards import QUESTION, frame_type, open_shard, write_shard

VERSION = 1
"""Format of the contents of a bag's cache."""

BLOCK = 256
"""Frames of a shard: 16 MB at 112 pixels, which is all that is held in memory."""

CONTENTS = 'bag.json'

log = logging.getLogger(__name__)


class BagSamples(SampleSet):
    """One sample per frame: colours, with the depth of the same moment.

    Frames whose colours or depth cannot be decoded are left out. In a bag with depth, so are frames without depth at
    nearly the same time; the log gives their number. The readable part of a truncated bag is used, and the log reports
    the lost part.

    Args:
        bag: rosbag2 folder, .mcap or .db3 file.
        cache: folder for the decoded frames, which the next call finds there.
        size: S, a multiple of 4 up to 1024: the model's image size.
        every: n for only every n-th colour image.
        rgb, depth: topics; None finds them (bags.topics.find_camera).
        noise, seed: see SampleSet.

    Attributes:
        camera: the topics that were read.

    Raises:
        InputError: no such bag, no readable frame or no such topic (as BagReader, find_camera and bags.frames.frames);
            'bag_depth' for a bag with depth, but none near any colours; 'cache_unwritable' where the cache cannot be
            written, and 'foreign_cache' where it is damaged.
        ValueError: every or size is out of range.
    """

    def __init__(
        self,
        bag: str | Path,
        cache: str | Path,
        *,
        size: int,
        every: int = 1,
        rgb: str | None = None,
        depth: str | None = None,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        bag = Path(bag).expanduser()
        if not bag.exists():
            raise InputError('bag_missing', f'there is no bag at {bag}; give a rosbag2 folder, .mcap or .db3 file')
        paths = sorted(path for path in bag.iterdir() if path.is_file()) if bag.is_dir() else [bag]
        files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
        recipe = {'version': VERSION, 'files': files, 'size': size, 'every': every, 'rgb': rgb, 'depth': depth}
        digest = hashlib.blake2b(json.dumps(recipe).encode(), digest_size=6).hexdigest()
        folder = Path(cache) / f'{bag.resolve().stem}-{digest}'
        if not (folder / CONTENTS).exists():
            _decode(bag, folder, recipe)
        self.camera, notes, self._shards = _read_contents(folder)
        for note in filter(None, (self.camera.note, *notes)):
            log.warning('%s', note)
        self._ends = np.cumsum([len(open_shard(shard).frames) for shard in self._shards])
        super().__init__(int(self._ends[-1]), str(bag), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """See SampleSet."""
        shard = int(np.searchsorted(self._ends, index, side='right'))
        record = mapped_frames(self._shards[shard])[index - self._ends[shard]]  # counted from its end
        depth = metres(record['depth']) if self.camera.depth else None
        return Sample(np.array(record['rgb']), depth, key=f'{self.where} at {record["seed"]} ns')


@functools.lru_cache(maxsize=256)  # every map holds an open file; a common limit is 1024
def mapped_frames(shard: Path) -> np.ndarray:
    """Return the records of a shard, memory-mapped; a shard is opened once."""
    return open_shard(shard).frames


def _decode(bag: Path, folder: Path, recipe: dict[str, Any]) -> None:
    """Store the frames of a bag, and the contents last: without them a run that was killed is repeated."""
    notes: list[str] = []
    with BagReader(bag) as reader:
        camera = find_camera(reader, rgb=recipe['rgb'], depth=recipe['depth'])
        usable = _UsableFrames(reader, camera, recipe['every'])
        log.info('the frames of %s are decoded into %s', bag, folder)
        count = reader.topics[camera.rgb].count // recipe['every']
        shown = tqdm(usable, f'frames of {bag.name}', count, unit='frame', delay=3, disable=None)
        shards = list(frame_shards(shown, folder, recipe['size']))
    if not shards:
        raise (
            usable.damage
            or usable.decode_error
            or InputError(
                'bag_depth' if usable.without_depth else 'bag_format',
                f'{bag} has no frame to learn from: {usable.without_depth} of its colour images have no depth within '
                f'20 ms and none is left; check the stamps of {camera.rgb} and {camera.depth}',
            )
        )
    if usable.damage:
        notes.append(f'{usable.damage}; the frames before that are used')
    if usable.undecoded:
        notes.append(f'{usable.undecoded} frames of {bag} are left out, the last because {usable.decode_error}')
    if usable.without_depth:
        notes.append(
            f'{usable.without_depth} frames of {bag} are left out: no depth came within 20 ms of their colours'
        )
    topics = {'rgb': camera.rgb, 'depth': camera.depth, 'told': camera.note}
    write_contents(folder / CONTENTS, {**recipe, 'camera': topics, 'told': notes, 'shards': shards})


class _UsableFrames:
    """The frames of a bag that can be learnt from, and the number of the others.

    Attributes:
        damage: after the last frame, the error that says which part of the bag cannot be read; None for none.
        undecoded: frames whose images cannot be decoded.
        decode_error: reason of the last of them.
        without_depth: frames without any near depth, in a bag with depth.
    """

    def __init__(self, reader: BagReader, camera: CameraTopics, every: int):
        self.damage: InputError | None = None
        self.decode_error: InputError | None = None
        self.undecoded = self.without_depth = 0
        self._camera = camera
        self._frames = frames(
            reader, rgb_topic=camera.rgb, depth_topic=camera.depth, every=every, on_damaged=self._count
        )

    def _count(self, error: InputError) -> None:
        self.undecoded, self.decode_error = self.undecoded + 1, error

    def __iter__(self) -> Iterator[Frame]:
        try:
            for frame in self._frames:
                if self._camera.depth is None or (frame.depth is not None and np.isfinite(frame.depth).any()):
                    yield frame
                else:
                    self.without_depth += 1
        except InputError as error:  # raised after the last readable frame
            self.damage = error


def frame_shards(usable: Iterable[Frame], folder: Path, size: int) -> Iterator[str]:
    """Write frames shard by shard and yield the names of the shards.

    A record has no labels, actions or questions; its field for the seed holds the stamp.

    Args:
        usable: the frames, in the order of the records.
        folder: folder of the shards.
        size: S.

    Raises:
        InputError: 'cache_unwritable'.
    """
    block: Any = np.zeros(BLOCK, frame_type(size))
    number = filled = 0
    for tick, frame in enumerate(usable):
        record = block[filled]
        record['rgb'] = squeeze_rgb(frame.rgb, size)
        record['depth'] = depth_to_mm(squeeze_depth(frame.depth, size)) if frame.depth is not None else 0
        record['semseg'], record['seed'], record['tick'] = UNLABELLED, frame.stamp_ns, tick
        record['now'] = record['next'] = -1
        filled += 1
        if filled == BLOCK:
            yield _write(folder, number, block)
            number, filled = number + 1, 0
    if filled:
        yield _write(folder, number, block[:filled])


def _write(folder: Path, number: int, block: np.ndarray) -> str:
    name = f'{number:07d}'
    write_shard(folder / name, block, np.zeros(0, QUESTION), {'questions': [], 'answers': []})
    return name


def write_contents(path: Path, contents: dict[str, Any]) -> None:
    """Write the file that makes a cache complete.

    Raises:
        InputError: 'cache_unwritable'.
    """
    try:
        with write_atomically(path) as part:
            part.write_text(json.dumps(contents, indent=1), encoding='utf-8')
    except OSError as error:
        raise InputError(
            'cache_unwritable',
            f'{path.parent} could not be written ({error.strerror or error}); free some space or '
            'give a folder to write in and run it again: finished shards are kept.',
        ) from error


def _read_contents(folder: Path) -> tuple[CameraTopics, list[str], list[Path]]:
    """Return the camera, the notes about the bag, and its shards.

    Raises:
        InputError: the file is damaged.
    """
    try:
        contents = read_json(folder / CONTENTS)
        shards = [folder / name for name in contents['shards']]
        topics = contents['camera']
        return CameraTopics(topics['rgb'], topics['depth'], topics['told']), list(contents['told']), shards
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            'foreign_cache', f'{folder / CONTENTS} is damaged ({error}); delete {folder} and run it again.'
        ) from error
