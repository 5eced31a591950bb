"""Standard caches of the simulated kitchen, and checks that a checkpoint fits a cache."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, shard_name
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS_OF_VERSIONS
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES

FIRST = {'size': 112, 'frames': 22, 'stride': 14, 'version': 1}
"""Kitchens of version 1."""
SECOND = {'first': 20_000, 'last': 20_200, 'size': 224, 'frames': 12, 'stride': 25, 'version': 2}
"""Test kitchens of version 2."""

STANDARD: Mapping[str, Mapping[str, Any]] = {
    'test': FIRST | {'first': 20_000, 'last': 20_200},
    'validation': FIRST | {'first': 10_000, 'last': 10_100},
    'test-own': SECOND,
    'test-other': SECOND | {'camera': 'other'},
}
"""Recipe of each named cache: 30 seconds of every kitchen."""


def cache_home() -> Path:
    """Return the folder of caches: m3et in $XDG_CACHE_HOME if that is an absolute path, else in ~/.cache.

    Raises:
        InputError: there is no such variable and the user has no home folder.
    """
    home = Path(os.environ.get('XDG_CACHE_HOME', ''))
    try:
        return (home if home.is_absolute() else Path.home() / '.cache') / 'm3et'
    except RuntimeError as error:
        raise InputError(
            'cache_home', 'HOME is not set and this user has no home folder; set HOME or XDG_CACHE_HOME to a folder'
        ) from error


def find_cache(name: str) -> tuple[Path, CacheRecipe | None]:
    """Return the folder of a cache, and the recipe of what is still missing of it, or None.

    Args:
        name: a key of STANDARD, or a folder.
    """
    if name not in STANDARD:
        return Path(name), None
    recipe = CacheRecipe(**STANDARD[name])
    folder = cache_home() / recipe.name
    complete = all((folder / shard_name(block)).is_dir() for block in recipe.blocks())
    return folder, None if complete else recipe


def make_cache(recipe: CacheRecipe, *, workers: int, progress: bool = True) -> Path:
    """Render a standard cache, or the missing part of it, in cache_home().

    Raises:
        ImportError, InputError, RuntimeError: as kitchen.generate.generate.
    """
    from m3et_ros.data.kitchen.cache.generate import generate

    fields = asdict(recipe)
    seeds = range(fields.pop('first'), fields.pop('last'))
    return generate(cache_home(), seeds=seeds, workers=workers, progress=progress, **fields)


def check_finite(checkpoint: Checkpoint) -> None:
    """Check that all weights are finite.

    Raises:
        InputError: 'model_tensor', naming the first tensor with a value that is not finite.
    """
    broken = next((name for name, values in checkpoint.model.state_dict().items() if not values.isfinite().all()), None)
    if broken:
        raise InputError(
            'model_tensor',
            f'{checkpoint.model_id} has values in {broken} that are not finite, so its answers are meaningless; give a '
            'checkpoint from before its training diverged.',
        )


def check_fit(checkpoint: Checkpoint, recipe: CacheRecipe) -> None:
    """Check that a checkpoint has the labels of the kitchen and images no larger than a cache stores.

    Its answers may be those of an older version: predictions are compared in words.

    Raises:
        InputError: answers or classes differ, images are larger, or a weight is not finite.
    """
    config = checkpoint.model.config
    check_finite(checkpoint)
    for name, found, admitted in (
        ('answers', checkpoint.labels.answers, ANSWERS_OF_VERSIONS),
        ('classes', checkpoint.labels.classes, (CLASSES,)),
    ):
        if tuple(found) not in admitted:
            difference = (
                f'{len(found)} {name} and the kitchen {len(admitted[-1])}'
                if all(len(found) != len(words) for words in admitted)
                else f'other {name} than the kitchen, or has them in another order'
            )
            raise InputError(
                'model_config',
                f'{checkpoint.model_id} has {difference}; give a checkpoint that was made '
                'for this version of the kitchen.',
            )
    if config.image_size > recipe.size:
        raise InputError(
            'cache_size',
            f'{checkpoint.model_id} takes images of {config.image_size} pixels and '
            f'{recipe.name} stores {recipe.size}; make a cache with m3et generate cache --size '
            f'{config.image_size}.',
        )
