"""NEW FILE."""

import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.output import Refused, note
from m3et_ros.cli.training_session import command_line

# MERGED from m3et_ros/cli/evaluate
Sight = Enum('Sight', {'rgb': 'rgb', 'depth': 'depth'}, type=str)


BELOW = 2
"""Exit code of a result below --at-least."""


UNTOLD = {'out', 'as_json', 'at_least', 'workers'}
"""Options without influence on the results; the command that is written down does without them."""


Model = Annotated[str, typer.Option(help='Checkpoint folder, named size, or owner/name on the Hub.')]


Data = Annotated[
    str,
    typer.Option(
        help='Cache folder of m3et generate; test and validation stand for the standard '
        'ones, which are rendered when they are asked for first.'
    ),
]


Out = Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv and pictures.')]


Device = Annotated[str, typer.Option(help='cpu, cuda, cuda:N, or auto for CUDA where there is one.')]


Seed = Annotated[int, typer.Option(min=0, help='Of draws, masks and noise.')]


Batch = Annotated[int, typer.Option(min=1, max=4096, help='Samples at a time.')]


Workers = Annotated[int, typer.Option(min=0, max=256, help='Processes that render a standard cache.')]


Bags = Annotated[
    list[Path] | None, typer.Argument(help='Recordings to be measured instead of --data.', show_default=False)
]


CPUS = os.cpu_count() or 1


def _make(out: Path) -> None:
    """The folder of the results, before the work rather than after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise Refused(f'{out} cannot be written ({error.strerror}); give another --out.') from error


def _prepare(model: str, data: str, device: str, workers: int) -> tuple[Any, Path, Any]:
    """The checkpoint on its device, the folder of the cache and its recipe."""
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.evaluation.standard_caches import find_cache, make_cache

    folder, missing = find_cache(data)
    recipe = missing or read_recipe(folder)
    subject = _checkpoint(model, recipe, device)
    if missing:
        note(f'The {data} cache is rendered into {folder} first; that is done once.')
        _refusing(make_cache, missing, workers=workers)
    if recipe.split == 'train':
        note('These are training kitchens: what comes out is no measure of what the model can do elsewhere.')
    return subject, folder, recipe


def _checkpoint(name: str, recipe: Any, device: str) -> Any:
    """A checkpoint that fits the cache, on its device."""
    from m3et_ros.evaluation.standard_caches import check_fit
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.open_model import open_checkpoint

    checkpoint = open_checkpoint(name)
    check_fit(checkpoint, recipe)
    return Engine(checkpoint, device=device).checkpoint


def _open(name: str, device: str) -> Any:
    """A checkpoint on its device."""
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.open_model import open_checkpoint

    return Engine(open_checkpoint(name), device=device).checkpoint


def _refusing(call: Any, *arguments: Any, **options: Any) -> Any:
    """Call something whose ValueErrors are sentences about what was asked for."""
    from m3et_ros.data.errors import InputError

    try:
        return call(*arguments, **options)
    except InputError:
        raise
    except ValueError as error:
        raise Refused(f'{error}.') from error


def _write(
    out: Path, context: typer.Context, subject: Any, recipe: Any, settings: dict, metrics: dict, rows: list[dict]
) -> dict[str, Any]:
    """Write metrics.json and per_sample.csv; returns the former."""
    from m3et_ros.evaluation.report.files import made_by, write_metrics, write_samples

    document = {'made_by': made_by(command_line(context, UNTOLD), subject, recipe, **settings), 'metrics': metrics}
    write_metrics(out, document)
    write_samples(out, rows)
    return document


def _interval(scores: dict[str, Any], digits: int) -> str:
    return '-' if scores['low'] is None else f'{scores["low"]:.{digits}f} to {scores["high"]:.{digits}f}'


# MERGED from m3et_ros/cli/evaluate_eqa
Train = Annotated[
    list[Path] | None,
    typer.Option(
        help='Training questions, from which the lines of guessing are learnt; may be given several times.',
        show_default=False,
    ),
]


AtLeast = Annotated[
    float | None, typer.Option(min=0, max=1, help='End with exit code 2 below this exact match over all questions.')
]


JudgeUrl = Annotated[
    str | None,
    typer.Option(
        help='Let a model mark the answers: address of any service that speaks '
        "OpenAI's chat protocol, such as http://localhost:8000/v1. Nobody is "
        'asked without it.',
        show_default=False,
    ),
]


JudgeModel = Annotated[
    str | None, typer.Option(help='Name of that model, as the service knows it.', show_default=False)
]


JudgePrompt = Annotated[
    Path | None,
    typer.Option(
        help='File with a prompt of your own, with {question}, {answer}, {prediction} and {extra_answers}.',
        show_default=False,
    ),
]


Camera = Annotated[
    str | None,
    typer.Option(help="Prefix of the camera's topics; the camera is found by itself without it.", show_default=False),
]


Remaps = Annotated[
    list[str] | None,
    typer.Option(
        '--remap', '-r', metavar='FROM:=TO', show_default=False, help='Take a topic of the bags for another one.'
    ),
]


Ray = Annotated[
    str | None,
    typer.Option(
        metavar='ADDRESS', show_default=False, help='Let the machines of a Ray cluster work; "local" starts one here.'
    ),
]


Threads = Annotated[
    int, typer.Option(min=1, max=256, help='Threads of each process; part of the result, in its last digits.')
]


def chosen_judge(url: str | None, model: str | None, prompt: Path | None) -> Any:
    """The judge that was asked for, or None.

    Raises:
        Refused: one of address and model is missing.
    """
    from m3et_ros.evaluation.judge import PROMPT, Judge, read_prompt

    if (url is None) != (model is None) or (prompt is not None and url is None):
        raise Refused('a judge needs both --judge-url and --judge-model; give both, or neither.')
    return None if url is None else Judge(url, model, read_prompt(prompt) if prompt else PROMPT)


def renamed(rules: list[str]) -> dict[str, str]:
    """Topic in the bag to what it is called here.

    Raises:
        Refused: a rule lacks a side.
    """
    wrong = next((rule for rule in rules if not all(rule.partition(':=')[::2])), None)
    if wrong is not None:
        raise Refused(f'-r {wrong} has no value; write it as FROM:=TO')
    return dict(rule.split(':=', 1) for rule in rules)


# MERGED from m3et_ros/cli/evaluate_vqa
def refuse_idle_options(context: typer.Context, of_kitchens: Sequence[str], of_bags: Sequence[str]) -> None:
    """See that no option was given that has a meaning only for kitchens, or only for recordings, where the other is
    looked at.

    Raises:
        Refused: one was.
    """
    bags = context.params['bags']
    strange = next((name for name in (of_kitchens if bags else of_bags) if given(context, name)), None)
    if strange is not None:
        flag = next(one.opts[0] for one in context.command.params if one.name == strange)
        raise Refused(
            f'{flag} is for kitchens of a cache, and recordings were given; leave one of them out.'
            if bags
            else f'{flag} is for recordings, and none was given; name some, or leave it out.'
        )


def given(context: typer.Context, name: str) -> bool:
    """Whether an option was written down, be it with its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != 'DEFAULT'
