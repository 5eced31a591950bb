"""A LeRobot data set as samples: colours, with depth where it was recorded, and no labels.

Frames are decoded once, squeezed to the model's size and stored as shards, as those of a bag are (bag_samples).
Symbols: S side of the stored square.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from m3et_ros.data.datasets.bag_samples import frame_shards, mapped_frames, write_contents
from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.messages import metres
from m3et_ros.data.lerobot.reader import LeRobotReader
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import Sample
from m3et_ros.data.shards import open_shard

VERSION = 1
"""Format of the contents of a cache."""
CONTENTS = 'lerobot.json'

log = logging.getLogger(__name__)


class LeRobotSamples(SampleSet):
    """One sample per frame: colours, with the depth of the same moment.

    In a data set with depth, frames whose depth did not come are left out; the log gives their number.

    Args:
        root: folder of a LeRobot data set of version 3.0.
        cache: folder for the decoded frames, which the next call finds there.
        size: S, a multiple of 4 up to 1024: the model's image size.
        every: n for only every n-th frame of an episode.
        camera: feature with the colours; None for the only one there is.
        noise, seed: see SampleSet.

    Attributes:
        camera, depth: the features that were read; depth is None without.

    Raises:
        InputError: as LeRobotReader; 'lerobot_empty', no frame is left; 'cache_unwritable' where the cache cannot be
            written, and 'foreign_cache' where it is damaged.
        ValueError: every or size is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        cache: str | Path,
        *,
        size: int,
        every: int = 1,
        camera: str | None = None,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        if every < 1:
            raise ValueError(f'every is {every}; give 1 or more')
        data = LeRobotReader(root, camera)
        self.camera, self.depth = data.camera, data.depth
        paths = sorted(path for path in data.root.rglob('*') if path.is_file())
        files = [[str(path.relative_to(data.root)), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
        recipe = {'version': VERSION, 'files': files, 'size': size, 'every': every, 'camera': camera}
        digest = hashlib.blake2b(json.dumps(recipe).encode(), digest_size=6).hexdigest()
        folder = Path(cache) / f'{data.root.resolve().name}-{digest}'
        if not (folder / CONTENTS).exists():
            _decode(data, folder, recipe)
        notes, self._shards = _read_contents(folder)
        for note in (*data.notes, *notes):
            log.warning('%s', note)
        self._ends = np.cumsum([len(open_shard(shard).frames) for shard in self._shards])
        super().__init__(int(self._ends[-1]), str(root), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """See SampleSet."""
        shard = int(np.searchsorted(self._ends, index, side='right'))
        record = mapped_frames(self._shards[shard])[index - self._ends[shard]]  # counted from its end
        depth = metres(record['depth']) if self.depth else None
        return Sample(np.array(record['rgb']), depth, key=f'{self.where} at {record["seed"]} ns')


def _decode(data: LeRobotReader, folder: Path, recipe: dict[str, Any]) -> None:
    """Store the frames of a data set, and the contents last: without them a run that was killed is repeated."""
    log.info('the frames of %s are decoded into %s', data.root, folder)
    without = 0

    def usable() -> Iterator[Frame]:
        nonlocal without
        for episode in data.episodes:
            for number, row in enumerate(data.frames(episode)):
                if number % recipe['every']:
                    continue
                if data.depth is None or (row.frame.depth is not None and np.isfinite(row.frame.depth).any()):
                    yield row.frame
                else:
                    without += 1

    count = sum(-(-episode.length // recipe['every']) for episode in data.episodes)
    shown = tqdm(usable(), f'frames of {data.root.name}', count, unit='frame', delay=3, disable=None)
    shards = list(frame_shards(shown, folder, recipe['size']))
    if not shards:
        raise InputError(
            'lerobot_empty', f'{data.root} has no frame to learn from: {data.depth} is unknown in all of them'
        )
    notes = [f'{without} frames of {data.root} are left out: they have no depth'] if without else []
    write_contents(folder / CONTENTS, {**recipe, 'told': notes, 'shards': shards})


def _read_contents(folder: Path) -> tuple[list[str], list[Path]]:
    """Return the notes about the data set and its shards.

    Raises:
        InputError: the file is damaged.
    """
    try:
        contents = read_json(folder / CONTENTS)
        return list(contents['told']), [folder / name for name in contents['shards']]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            'foreign_cache', f'{folder / CONTENTS} is damaged ({error}); delete {folder} and run it again.'
        ) from error
