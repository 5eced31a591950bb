"""The simulated kitchen as a yardstick: standard caches, and whether a checkpoint fits them."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, shard_name
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES

STANDARD: Mapping[str, Mapping[str, Any]] = {
    'test': {'first': 20_000, 'last': 20_200, 'frames': 22, 'stride': 14},
    'validation': {'first': 10_000, 'last': 10_100, 'frames': 22, 'stride': 14},
}
"""Recipes of the caches that go by a name: 30 seconds of each kitchen."""


def cache_home() -> Path:
    """Where caches are kept: m3et in $XDG_CACHE_HOME if that is an absolute path, else in ~/.cache."""
    home = Path(os.environ.get('XDG_CACHE_HOME', ''))
    return (home if home.is_absolute() else Path.home() / '.cache') / 'm3et'


def find_cache(name: str) -> tuple[Path, CacheRecipe | None]:
    """The folder of a cache, and the recipe by which it has still to be made, or None.

    Args:
        name: a key of STANDARD, or a folder.
    """
    if name not in STANDARD:
        return Path(name), None
    recipe = CacheRecipe(**STANDARD[name])
    folder = cache_home() / recipe.name
    whole = all((folder / shard_name(block)).is_dir() for block in recipe.blocks())
    return folder, None if whole else recipe


def make_cache(recipe: CacheRecipe, *, workers: int, progress: bool = True) -> Path:
    """Render a standard cache, or what is missing of it, in cache_home().

    Raises:
        ImportError, InputError, RuntimeError: as kitchen.generate.generate.
    """
    from m3et_ros.data.kitchen.cache.generate import generate

    fields = asdict(recipe)
    seeds = range(fields.pop('first'), fields.pop('last'))
    return generate(cache_home(), seeds=seeds, workers=workers, progress=progress, **fields)


def check_finite(checkpoint: Checkpoint) -> None:
    """See that weights are numbers.

    Raises:
        InputError: 'model_tensor', the first that are not finite.
    """
    broken = next((name for name, values in checkpoint.model.state_dict().items() if not values.isfinite().all()), None)
    if broken:
        raise InputError(
            'model_tensor',
            f'{checkpoint.model_id} has values in {broken} that are not finite, so that '
            'nothing it says means anything; give a checkpoint from before its training failed.',
        )


def check_fit(checkpoint: Checkpoint, recipe: CacheRecipe) -> None:
    """See that a checkpoint speaks of the kitchen and does not see more than a cache stores.

    Raises:
        InputError: other answers or classes, larger pictures, or weights that are not finite.
    """
    config = checkpoint.model.config
    check_finite(checkpoint)
    for what, found, wanted in (
        ('answers', checkpoint.labels.answers, ANSWERS),
        ('classes', checkpoint.labels.classes, CLASSES),
    ):
        if tuple(found) != wanted:
            difference = (
                f'{len(found)} {what} and the kitchen {len(wanted)}'
                if len(found) != len(wanted)
                else f'other {what} than the kitchen, or has them in another order'
            )
            raise InputError(
                'model_config',
                f'{checkpoint.model_id} has {difference}; give a checkpoint that was made '
                'for this version of the kitchen.',
            )
    if config.image_size > recipe.size:
        raise InputError(
            'cache_size',
            f'{checkpoint.model_id} sees pictures of {config.image_size} pixels and '
            f'{recipe.name} stores {recipe.size}; make a cache with m3et generate --size '
            f'{config.image_size}.',
        )
