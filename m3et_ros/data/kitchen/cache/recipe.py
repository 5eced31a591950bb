"""A cache of the kitchen on disk: its recipe, its name and its shards. Needs no simulator.

From a seed to a question: after questions/recorded_frames.py and questions/checkpoints.py, before cache/generate.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.questions.splits import GENERATOR_VERSION, split_of
from m3et_ros.data.kitchen.sim.mounts import CameraKind
from m3et_ros.data.kitchen.sim.scene import DEFAULT_VERSION
from m3et_ros.data.shards import frame_type, read_header


@dataclass(frozen=True)
class CacheRecipe:
    """The recipe of a cache: it gives the cache its name, and recipe.json records it.

    Raises:
        ValueError: a field is out of its range.
    """

    # First seed, and the one after the last.
    first: int
    last: int
    # Side of the stored images in pixels, a multiple of 4.
    size: int = 224
    # Ticks (tenths of a second) from one frame to the next.
    stride: int = 7
    # Most frames of an episode; those of training seeds may be cut (splits.last_safe_stamp).
    frames: int = 43
    # The lamp casts shadows in every kitchen of version 1; of version 2 it does in half of them, and this stays False.
    shadows: bool = False
    # 'auto', 'egl', 'osmesa' or 'raycast'.
    backend: str = 'auto'
    # Number of seeds in a shard; a killed run loses at most one unfinished shard per worker.
    block: int = 16
    # Version of the generator; another version makes other kitchens, pictures and questions.
    version: int = DEFAULT_VERSION
    # 'own' or 'other' (see sim/mounts.py); an 'other' camera is for test kitchens of version 2.
    camera: CameraKind = 'own'

    def __post_init__(self):
        for name, low, high in (
            ('first', 0, 2**31 - 2),
            ('last', self.first + 1, 2**31 - 1),
            ('size', 16, 512),
            ('stride', 1, 1000),
            ('frames', 1, 10_000),
            ('block', 1, 1000),
            ('version', 1, GENERATOR_VERSION),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name} is {getattr(self, name)}; give {low} to {high}')
        frame_type(self.size)
        splits = {split_of(self.first), split_of(self.last - 1)}
        if len(splits) > 1 or None in splits:
            raise ValueError(
                f'the seeds {self.first} to {self.last - 1} are not of one split; give seeds of 0-9999 '
                '(train), 10000-10499 (validation) or 20000 and up (test)'
            )
        if self.shadows and self.version > 1:
            raise ValueError('shadows is True; half of the kitchens of version 2 have shadows, so leave it False')
        if self.camera not in ('own', 'other'):
            raise ValueError(f'camera is {self.camera!r}; give own or other')
        if self.camera == 'other' and (self.version == 1 or splits != {'test'}):
            raise ValueError('camera is other; that is for version 2 and test seeds (20000 and up), so give own')

    @property
    def name(self) -> str:
        """Name of the cache's folder."""
        marks = [
            *(['shadows'] if self.shadows else []),
            *([self.backend] if self.backend != 'auto' else []),
            *([self.camera] if self.camera != 'own' else []),
        ]
        images = f'{self.size}px-{self.frames}x{self.stride}'
        return '-'.join([f'kitchen-v{self.version}-seeds{self.first}-{self.last - 1}-{images}', *marks])

    @property
    def split(self) -> str:
        """'train', 'validation' or 'test'."""
        return split_of(self.first) or ''

    def blocks(self) -> list[range]:
        """Return the seeds of each shard."""
        return [range(start, min(start + self.block, self.last)) for start in range(self.first, self.last, self.block)]


def shard_name(seeds: range) -> str:
    """Return the name of the folder of a shard."""
    return f'{seeds[0]:07d}'


def read_recipe(folder: Path) -> CacheRecipe:
    """Read the recipe of a cache.

    Raises:
        InputError: the folder is not a cache of the kitchen.
    """
    try:
        return CacheRecipe(**json.loads((folder / 'recipe.json').read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            'foreign_cache',
            f'{folder} is not a cache of the simulated kitchen ({error}); give a folder that generate has made.',
        ) from error


def read_shards(folder: Path) -> list[Path]:
    """Return the folders of the finished shards of a cache, in the order of their seeds.

    Raises:
        InputError: the folder is not a cache, or has no finished shard.
    """
    read_recipe(folder)
    shards = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    if not shards:
        raise InputError('empty_cache', f'{folder} has no finished shard; run generate again to finish it.')
    return shards


def failures(folder: Path) -> dict[int, str]:
    """Return seed -> reason, for the seeds of the finished shards that could not be rendered.

    Raises:
        InputError: as read_shards.
    """
    return {int(seed): why for path in read_shards(folder) for seed, why in read_header(path)['failed'].items()}
