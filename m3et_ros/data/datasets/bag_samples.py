"""Any rosbag of the user's as samples: colours, and depth where it was recorded; nobody labelled them.

Bags are read in order only, so the frames are decoded once, squeezed to the model's size and laid down as shards that
are memory-mapped. Symbols: S side of the stored square, N frames.
"""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
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
from m3et_ros.data.frame import UNLABELLED, Frame
from m3et_ros.data.images.messages import depth_to_mm, metres
from m3et_ros.data.noise import Noise
from m3et_ros.data.preprocess import squeeze_depth, squeeze_rgb
from m3et_ros.data.sample import Sample
from m3et_ros.data.shards import QUESTION, frame_type, open_shard, write_shard

VERSION = 1
"""Of what stands in the cache of a bag."""

BLOCK = 256
"""Frames of a shard: 16 MB at 112 pixels, which is all that is held in memory."""

CONTENTS = 'bag.json'

log = logging.getLogger(__name__)


class BagSamples(SampleSet):
    """One sample a frame, colours with the depth of the same moment.

    Frames whose colours or depth cannot be decoded, and in a bag with depth those without any near in time, are left
    out; how many is said in the log. Of a bag that was cut off the readable part is used, and the log says what is
    lost.

    Args:
        bag: rosbag2 folder, .mcap or .db3 file.
        cache: folder below which the decoded frames are laid down; the next time they are found there.
        size: S, a multiple of 4 up to 1024: the model's image size.
        every: n for only every n-th colour image.
        rgb, depth: topics; None finds them (bag_topics.find_camera).
        need_depth: refuse a bag without depth.
        noise, seed: see SampleSet.

    Attributes:
        camera: the topics that were read.

    Raises:
        InputError: no such bag, no readable frame or no such topic (as BagReader, find_camera and bag_frames.frames);
            'bag_depth' where depth is needed and absent; 'cache_unwritable' where the cache cannot be written, and
            'foreign_cache' where it was damaged.
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
        need_depth: bool = False,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        bag = Path(bag).expanduser()
        wish = {'version': VERSION, 'files': _files(bag), 'size': size, 'every': every, 'rgb': rgb, 'depth': depth}
        folder = Path(cache) / f'{bag.resolve().stem}-{_digest(wish)}'
        if not (folder / CONTENTS).exists():
            _decode(bag, folder, wish)
        self.camera, told, self._shards = _read_contents(folder)
        for line in filter(None, (self.camera.told, *told)):
            log.warning('%s', line)
        if need_depth and self.camera.depth is None:
            raise InputError(
                'bag_depth',
                f'{bag} has no depth on the pixels of {self.camera.rgb}, and here it is '
                'needed; record the aligned depth too, or name its topic',
            )
        self._ends = np.cumsum([len(open_shard(shard).frames) for shard in self._shards])
        super().__init__(int(self._ends[-1]), str(bag), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """See SampleSet."""
        shard = int(np.searchsorted(self._ends, index, side='right'))
        record = _mapped(self._shards[shard])[index - self._ends[shard]]  # counted from its end
        depth = metres(record['depth']) if self.camera.depth else None
        return Sample(np.array(record['rgb']), depth, key=f'{self.where} at {record["seed"]} ns')


@functools.lru_cache(maxsize=256)  # every map holds an open file, of which 1024 is a common limit
def _mapped(shard: Path) -> np.ndarray:
    return open_shard(shard).frames


def _files(bag: Path) -> list[list]:
    """Name, bytes and time of writing of the files of a bag, by which a cache is recognised."""
    if not bag.exists():
        raise InputError('bag_missing', f'there is no bag at {bag}; give a rosbag2 folder, .mcap or .db3 file')
    files = sorted(path for path in bag.iterdir() if path.is_file()) if bag.is_dir() else [bag]
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _digest(wish: dict) -> str:
    return hashlib.blake2b(json.dumps(wish).encode(), digest_size=6).hexdigest()


def _decode(bag: Path, folder: Path, wish: dict) -> None:
    """Lay down the frames of a bag. What a killed run left is done again; the last file written is the contents."""
    told: list[str] = []
    with BagReader(bag) as reader:
        camera = find_camera(reader, rgb=wish['rgb'], depth=wish['depth'])
        pick = _Picked(reader, camera, wish['every'])
        log.info('the frames of %s are decoded into %s', bag, folder)
        count = reader.topics[camera.rgb].count // wish['every']
        seen = tqdm(pick, f'frames of {bag.name}', count, unit='frame', delay=3, disable=None)
        shards = list(_shards(seen, folder, wish['size']))
        damage = pick.damage
    if not shards:
        raise (
            damage
            or pick.spoiled
            or InputError(
                'bag_depth' if pick.alone else 'bag_format',
                f'{bag} has no frame to learn from: {pick.alone} of its colour images have no depth within 20 ms and '
                f'none is left; look at the stamps of {camera.rgb} and {camera.depth}',
            )
        )
    if damage:
        told.append(f'{damage}; the frames before that are used')
    if pick.spoilt:
        told.append(f'{pick.spoilt} frames of {bag} are left out, the last because {pick.spoiled}')
    if pick.alone:
        told.append(f'{pick.alone} frames of {bag} are left out: no depth came within 20 ms of their colours')
    _write_contents(folder, {**wish, 'camera': asdict(camera), 'told': told, 'shards': shards})


class _Picked:
    """The frames of a bag that can be learnt from, and a tally of the others."""

    def __init__(self, reader: BagReader, camera: CameraTopics, every: int):
        self.damage: InputError | None = None
        self.spoiled: InputError | None = None
        self.spoilt = self.alone = 0
        self.camera = camera
        self._frames = frames(reader, rgb_topic=camera.rgb, depth_topic=camera.depth, every=every, spoiled=self._count)

    def _count(self, error: InputError) -> None:
        self.spoilt, self.spoiled = self.spoilt + 1, error

    def __iter__(self) -> Iterator[Frame]:
        try:
            for frame in self._frames:
                if self.camera.depth is None or (frame.depth is not None and np.isfinite(frame.depth).any()):
                    yield frame
                else:
                    self.alone += 1
        except InputError as error:  # what was readable has come
            self.damage = error


def _shards(picked: Iterable[Frame], folder: Path, size: int) -> Iterator[str]:
    """Write shard by shard and yield the names."""
    block = np.zeros(BLOCK, frame_type(size))
    number = filled = 0
    for tick, frame in enumerate(picked):
        _store(block[filled], frame, tick, size)
        filled += 1
        if filled == BLOCK:
            yield _write(folder, number, block)
            number, filled = number + 1, 0
    if filled:
        yield _write(folder, number, block[:filled])


def _store(record: Any, frame: Frame, tick: int, size: int) -> None:
    """Fill a record; there are no labels, actions and questions, and the stamp stands in the place of the seed."""
    record['rgb'] = squeeze_rgb(frame.rgb, size)
    record['depth'] = depth_to_mm(squeeze_depth(frame.depth, size)) if frame.depth is not None else 0
    record['semseg'], record['seed'], record['tick'] = UNLABELLED, frame.stamp_ns, tick
    record['now'] = record['next'] = -1


def _write(folder: Path, number: int, block: np.ndarray) -> str:
    name = f'{number:07d}'
    write_shard(folder / name, block, np.zeros(0, QUESTION), {'questions': [], 'answers': []})
    return name


def _write_contents(folder: Path, contents: dict) -> None:
    part = folder / f'{CONTENTS}.part-{os.getpid()}'
    try:
        part.write_text(json.dumps(contents, indent=1), encoding='utf-8')
        part.rename(folder / CONTENTS)
    except OSError as error:
        raise InputError(
            'cache_unwritable',
            f'{folder} could not be written ({error.strerror}); free some space or '
            'give a folder to write in and run it again: what was done before is kept.',
        ) from error


def _read_contents(folder: Path) -> tuple[CameraTopics, list[str], list[Path]]:
    """The camera, what is to be told about the bag, and its shards.

    Raises:
        InputError: the file is damaged.
    """
    try:
        contents = read_json(folder / CONTENTS)
        shards = [folder / name for name in contents['shards']]
        return CameraTopics(**contents['camera']), list(contents['told']), shards
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            'foreign_cache', f'{folder / CONTENTS} is damaged ({error}); delete {folder} and run it again.'
        ) from error
