"""Shared parts of the verbs of `m3et train`: options by topic, the check of training data, and lines of model cards."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Refused, print_json, print_line

CHECKPOINT = 'checkpoint'
"""Folder of the checkpoint in the folder of a run."""


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """Fields of a recipe; None leaves a field at the default of the recipe."""

    samples: Annotated[int | None, typer.Option(min=1, help='Number of samples in the whole run.')] = None
    batch: Annotated[int | None, typer.Option(min=1, help='Number of samples in one step, over all processes.')] = None
    lr: Annotated[float | None, typer.Option(help='Highest learning rate.')] = None

    def given(self) -> dict[str, Any]:
        """Return the fields that were given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """Options of one session of a run."""

    minutes: Annotated[float | None, typer.Option(min=0, help='Stop after this many minutes; --resume continues.')] = (
        None
    )
    seed: Annotated[int, typer.Option(min=0, help='Seed of weights, order, questions and other draws.')] = 0
    bf16: Annotated[bool, typer.Option('--bf16', help='Matrix products in bfloat16, for GPUs and AMX.')] = False
    resume: Annotated[bool, typer.Option('--resume', help='Continue the run in --out.')] = False


def check_training_split(caches: Sequence[Path]) -> None:
    """Check that all caches hold training kitchens.

    Raises:
        InputError: there is no such cache.
        Refused: a cache is of another split.
    """
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    for cache in caches:
        if read_recipe(cache).split != 'train':
            raise Refused(
                f'The cache {cache} holds no training kitchens, and models are trained on these alone; give a cache '
                'of the train split.'
            )


def recipe_line(recipe: Any, name: str = '') -> str:
    """Return the line of a model card with the fields of a recipe.

    Args:
        recipe: a dataclass.
        name: name of the line; the name of the class by default.
    """
    return f'- {name or f"recipe {type(recipe).__name__}"}: {", ".join(f"{k} {v}" for k, v in asdict(recipe).items())}'


def kitchen_lines(caches: Sequence[Path]) -> list[str]:
    """Return a line of a model card for each cache of kitchens."""
    from m3et_ros.data.kitchen.cache.recipe import read_recipe

    return [recipe_line(read_recipe(cache), 'kitchen') for cache in caches]


def print_unfinished(*, as_json: bool = False) -> None:
    """Print how to continue a run that was stopped before it had a checkpoint."""
    if as_json:
        print_json({'finished': False})
        return
    print_line('The run is not finished: the same command with --resume continues it.')
