"""Shared parts of the verbs of `m3et evaluate`: options by topic, models and caches, checks, and results."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from m3et_ros.cli.output import Refused, print_status
from m3et_ros.cli.ros_names import parse_remaps
from m3et_ros.cli.training_session import command_line
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.extras import require

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint
    from m3et_ros.data.kitchen.cache.recipe import CacheRecipe
    from m3et_ros.evaluation.judge import Judge

BELOW_THRESHOLD = 2
"""Exit code of a result below --at-least."""
WITHOUT_INFLUENCE = frozenset({'out', 'as_json', 'at_least', 'workers', 'ray'})
"""Options that do not influence results; the recorded command leaves them out."""
CPUS = os.cpu_count() or 1

Model = Annotated[str, typer.Option(help='Checkpoint folder, named size, or hf:owner/name on the Hub.')]
Device = Annotated[str, typer.Option(help='cpu, cuda, cuda:N, or auto for CUDA where there is one.')]
Seed = Annotated[int, typer.Option(min=0, help='Seed of draws, masks and noise.')]
Batch = Annotated[int, typer.Option(min=1, max=4096, help='Number of samples in a batch.')]
Noise = Annotated[bool, typer.Option('--noise/--clean', help='Images with the noise of a camera, or without.')]
Data = Annotated[
    str,
    typer.Option(
        help='Cache folder of m3et generate; test and validation are the standard caches, test-own and test-other '
        'those of version 2 with cameras as in training and unlike it. They are rendered on first use. Public data is '
        'named as for m3et train: vqav2:QUESTIONS,ANNOTATIONS,IMAGES for vqa, nyu:PATH or imagenet:ROOT for '
        'reconstruction.'
    ),
]
Bags = Annotated[list[Path] | None, typer.Argument(help='Recordings to measure instead of --data.', show_default=False)]


@dataclass(frozen=True, kw_only=True)
class BagTopics:
    """Topics of the camera in recordings."""

    camera: Annotated[
        str | None, typer.Option(help="Prefix of the camera's topics; detected by default.", show_default=False)
    ] = None
    remaps: Annotated[
        list[str] | None,
        typer.Option(
            '--remap', '-r', metavar='FROM:=TO', show_default=False, help='Read a topic of the bags under another name.'
        ),
    ] = None

    def renamed(self) -> dict[str, str]:
        """Return the new name of each renamed topic.

        Raises:
            Refused: a rule lacks one of its sides.
        """
        return parse_remaps(self.remaps or ())


@dataclass(frozen=True, kw_only=True)
class BagRun:
    """The model that reads recordings, the processes that run it, and the folder of results."""

    model: Model = DEFAULT_MODEL
    out: Annotated[Path, typer.Option(help='Folder for metrics.json, per_sample.csv, report.html and other results.')]
    workers: Annotated[
        int, typer.Option(min=1, max=256, help='With recordings: processes, each with a model of its own.')
    ] = 1
    threads: Annotated[
        int,
        typer.Option(
            min=1, max=256, help='With recordings: threads of each process; they change the last digits of results.'
        ),
    ] = 1
    device: Device = 'cpu'


@dataclass(frozen=True, kw_only=True)
class ClusterRun(BagRun):
    """A run of questions, over recordings perhaps on a Ray cluster; a vision-language model may take M3ET's place."""

    answerer: Annotated[
        Literal['m3et', 'vlm'], typer.Option(help='m3et, or vlm: an image-text model of transformers without M3ET.')
    ] = 'm3et'
    answerer_checkpoint: Annotated[
        str | None,
        typer.Option(help='Model of vlm: a folder of transformers or hf:owner/name[@revision].', show_default=False),
    ] = None

    def check_answerer(self, context: typer.Context) -> None:
        """Refuse options that do not go with the answerer.

        Raises:
            Refused: the message names the option to change.
        """
        if self.answerer == 'm3et':
            if self.answerer_checkpoint is not None:
                raise Refused('--answerer-checkpoint is for --answerer vlm; give --model for m3et.')
        elif self.answerer_checkpoint is None:
            raise Refused('--answerer vlm needs --answerer-checkpoint: a folder of transformers or hf:owner/name.')
        elif is_given(context, 'model'):
            raise Refused('--answerer vlm answers without an M3ET; leave --model out.')
        elif self.ray is not None:
            raise Refused('--ray is for m3et; leave it out, or give --workers.')

    ray: Annotated[
        str | None,
        typer.Option(
            metavar='ADDRESS',
            show_default=False,
            help='With recordings: run on the machines of a Ray cluster; "local" starts one here.',
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """A language model that marks answers."""

    judge_url: Annotated[
        str | None,
        typer.Option(
            help="Address of a service with OpenAI's chat protocol, such as http://localhost:8000/v1, whose model "
            'marks the answers. No service is asked by default.',
            show_default=False,
        ),
    ] = None
    judge_model: Annotated[str | None, typer.Option(help='Name of that model at the service.', show_default=False)] = (
        None
    )
    judge_prompt: Annotated[
        Path | None,
        typer.Option(
            help='File with your own prompt, with {question}, {answer}, {prediction} and {extra_answers}.',
            show_default=False,
        ),
    ] = None

    def judge(self) -> 'Judge | None':
        """Return the judge, or None without --judge-url.

        Raises:
            Refused: address or model is missing.
            InputError: the prompt cannot be read.
        """
        from m3et_ros.evaluation.judge import PROMPT, Judge, read_prompt

        if self.judge_url is None and self.judge_model is None and self.judge_prompt is None:
            return None
        if self.judge_url is None or self.judge_model is None:
            raise Refused('a judge needs both --judge-url and --judge-model; give both, or neither.')
        prompt = read_prompt(self.judge_prompt) if self.judge_prompt else PROMPT
        return Judge(self.judge_url, self.judge_model, prompt)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(JudgeOptions):
    """Options of the scoring of answers."""

    train: Annotated[
        list[Path] | None,
        typer.Option(
            help='Training questions, from which the guessing baselines are learnt; may be given several times.',
            show_default=False,
        ),
    ] = None
    at_least: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='End with exit code 2 if accuracy or exact match over all questions is lower.'),
    ] = None


def make_out(out: Path) -> None:
    """Make the folder of the results, and check that a report can be made, before the work begins.

    Raises:
        Refused: it cannot be made or written.
        InputError: 'needs_extra', the packages for reports are not installed.
    """
    require('report')
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise Refused(f'{out} cannot be written ({error.strerror}); give another --out.') from error


def prepare(model: str, data: str, device: str, workers: int) -> 'tuple[Checkpoint, Path, CacheRecipe]':
    """Open a model and a cache that fit each other.

    Args:
        model: checkpoint folder, named size or Hub id.
        data: as `open_cache`.
        device: device of the model.
        workers: as `open_cache`.

    Returns:
        The checkpoint on its device, the folder of the cache and its recipe.

    Raises:
        InputError: the model or the cache cannot be opened, or they do not fit each other.
    """
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.evaluation.standard_caches import find_cache

    folder, missing = find_cache(data)
    checkpoint = open_fitting_model(model, missing or read_recipe(folder), device)
    return checkpoint, *open_cache(data, workers)


def open_cache(data: str, workers: int) -> 'tuple[Path, CacheRecipe]':
    """Find a cache, and render a standard one that is missing.

    Args:
        data: folder of a cache, or a name in standard_caches.STANDARD.
        workers: processes that render.

    Returns:
        The folder and its recipe.

    Raises:
        InputError: there is no such cache.
        Refused: it cannot be rendered.
    """
    from m3et_ros.data.kitchen.cache.recipe import read_recipe
    from m3et_ros.evaluation.standard_caches import find_cache, make_cache

    folder, missing = find_cache(data)
    if missing:
        print_status(f'The {data} cache is rendered into {folder} first; this happens once.')
        refusing(make_cache, missing, workers=workers)
    recipe = read_recipe(folder)
    if recipe.split == 'train':
        print_status('These are training kitchens: the results do not show how the model does elsewhere.')
    return folder, recipe


def open_fitting_model(name: str, recipe: 'CacheRecipe', device: str) -> 'Checkpoint':
    """Open a checkpoint on its device.

    Args:
        name: checkpoint folder, named size or Hub id.
        recipe: recipe of the cache that the model must fit.
        device: device of the model.

    Raises:
        InputError: there is no such model, or it does not fit the cache.
    """
    from m3et_ros.evaluation.standard_caches import check_fit
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.open_model import open_checkpoint

    checkpoint = open_checkpoint(name)
    check_fit(checkpoint, recipe)
    return Engine(checkpoint, device=device).checkpoint


def open_model(name: str, device: str) -> 'Checkpoint':
    """Open a checkpoint on its device.

    Raises:
        InputError: there is no such model.
    """
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.open_model import open_checkpoint

    return Engine(open_checkpoint(name), device=device).checkpoint


def refusing(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function whose ValueErrors are sentences about the options, and turn these into errors of the command.

    Raises:
        Refused: with the sentence of a ValueError.
    """
    from m3et_ros.data.errors import InputError

    try:
        return call(*arguments, **options)
    except InputError:
        raise
    except ValueError as error:
        raise Refused(f'{error}.') from error


def recorded_command(context: typer.Context, omitted: Collection[str] = ()) -> str:
    """Return the command for metrics.json, without options that do not influence results and without `omitted`."""
    return command_line(context, WITHOUT_INFLUENCE | set(omitted))


def write_results(
    out: Path,
    context: typer.Context,
    checkpoint: Any,
    recipe: 'CacheRecipe',
    settings: dict[str, Any],
    metrics: dict[str, Any],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Write metrics.json and per_sample.csv.

    Args:
        out: folder of the results.
        context: typer context of the verb, for the recorded command.
        checkpoint: the evaluated model.
        recipe: recipe of the cache.
        settings: settings of the evaluation, JSON values.
        metrics: the scores.
        rows: one for each sample.

    Returns:
        The content of metrics.json.
    """
    from m3et_ros.evaluation.files import made_by, on_cache, write_metrics, write_samples
    from m3et_ros.evaluation.tasks.vlm import PROMPT, vlm_environment, vlm_facts
    from m3et_ros.runtime.vlm.model import VisionLanguageModel

    command = recorded_command(context)
    if isinstance(checkpoint, VisionLanguageModel):
        settings = settings | {'prompt': PROMPT}
        origin = on_cache(command, recipe, vlm_facts(checkpoint), vlm_environment(checkpoint), settings)
    else:
        origin = made_by(command, checkpoint, recipe, **settings)
    document = {'made_by': origin, 'metrics': metrics}
    write_metrics(out, document)
    write_samples(out, rows)
    return document


def check_threshold(what: str, value: float | None, at_least: float | None) -> None:
    """End the command with exit code 2 if a result is below the threshold.

    Args:
        what: name of the result.
        value: the result; None if it could not be measured.
        at_least: the threshold; None for none.

    Raises:
        typer.Exit: with BELOW_THRESHOLD.
    """
    if at_least is None:
        return
    if value is None:
        print_status(f'{what} could not be measured')
        raise typer.Exit(BELOW_THRESHOLD)
    if value < at_least:
        print_status(f'{what} {value:.4f} is below {at_least}')
        raise typer.Exit(BELOW_THRESHOLD)


def print_troubles(parts: Iterable[dict[str, Any]]) -> None:
    """Print the troubles of each bag, from the parts of `evaluation.jobs`."""
    for part in parts:
        for trouble in (part.get('failed'), *part['troubles']):
            if trouble:
                print_status(f'{part["bag"]}: {trouble}')


def format_interval(scores: dict[str, Any], digits: int = 3, *, sign: str = '') -> str:
    """Return the 95 % interval of a score as text; '-' if it is unknown.

    Args:
        scores: with `low` and `high`, None if unknown.
        digits: decimals.
        sign: '+' shows the sign of positive numbers too.
    """
    if scores['low'] is None:
        return '-'
    return f'{scores["low"]:{sign}.{digits}f} to {scores["high"]:{sign}.{digits}f}'


def refuse_idle_options(
    context: typer.Context,
    *,
    of_data: Sequence[str] = (),
    of_bags: Sequence[str] = (),
    data: str = 'kitchens of a cache',
) -> None:
    """Refuse options that would have no effect: those for data beside recordings, and those for recordings without.

    Args:
        context: typer context of a verb with the parameter `bags`.
        of_data: names of parameters that have a meaning only without recordings.
        of_bags: names of parameters that have a meaning only with recordings.
        data: description of the data that `of_data` belong to.

    Raises:
        Refused: such an option was given, even with its default value.
    """
    bags = context.params['bags']
    for name in of_data if bags else of_bags:
        if not is_given(context, name):
            continue
        flag = next(one.opts[0] for one in context.command.params if one.name == name)
        if bags:
            raise Refused(f'{flag} is for {data}, and recordings were given; leave one of them out.')
        raise Refused(f'{flag} is for recordings, and none was given; name some, or leave it out.')


def is_given(context: typer.Context, name: str) -> bool:
    """Return True if an option was given on the command line, even with its default value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != 'DEFAULT'
